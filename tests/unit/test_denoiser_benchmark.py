"""The benchmarks measure and write what they say."""

import json

import pytest

from quietbeam.benchmarks import quality as benchmark
from quietbeam.benchmarks import speed as benchmark_speed


def test_standard_cases_cover_everything() -> None:
    cases = benchmark.CASES["standard"]
    for phantom in benchmark.PHANTOMS:
        mine = [case for case in cases if case[0] == phantom]
        assert {c[1] for c in mine} == {1, 4, 8} and {c[2] for c in mine} == {2, 4, 16}
        assert {c[3] for c in mine} == set(benchmark.DOSES)


def test_quality_is_measured_against_the_truth_and_yardsticks_are_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(benchmark.CASES, "quick", [("cell", 4, 4, 4.0), ("star", 1, 2, 8.0)])
    messages: list[str] = []
    path = benchmark.run_quality(tmp_path, extent="quick", budget_s=0.0, seed=3, on_message=messages.append, size=32)
    report = json.loads((tmp_path / "quality.json").read_text())
    cell, star = report["cases"]
    assert len(cell["fine-tuned by line"]) == 3 and len(star["fine-tuned by line"]) == 1  # the flat line is apart
    assert cell["gaussian*"] > 1.5 and cell["pretrained"] > 1.0
    text = path.read_text()
    assert "quietbeam benchmark quality --quick --budget 0 --seed 3" in text and "| cell | 4 | 4 | 4 |" in text
    report["yardsticks"]["cell-4-4-4"]["gaussian*"] = [7.0, 7.0, 7.0]
    (tmp_path / "quality.json").write_text(json.dumps(report))
    benchmark.run_quality(tmp_path, extent="quick", budget_s=0.0, seed=3, on_message=messages.append, size=32)
    again = json.loads((tmp_path / "quality.json").read_text())["cases"][0]
    assert again["gaussian*"] == pytest.approx(7.0)
    assert any("fine-tuned" in sentence for sentence in messages)


def test_speed_table_says_seconds_and_ratios(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        benchmark_speed, "measure_speed", lambda device, threads=None: {"GFLOP/s": 50.0, "one map": 0.2}
    )
    monkeypatch.setattr(benchmark_speed, "warm_start", lambda device: [("pretrained", 0, 0.15)])
    text = benchmark_speed.run_speed(tmp_path, "cpu").read_text()
    assert "| one map | 0.200 | 10.0 |" in text and "matrix products" in text and "| pretrained | 0 | 0.1500 |" in text


def test_a_pretrained_start_is_ahead_of_a_random_one() -> None:
    figures = {(name, steps): share for name, steps, share in benchmark_speed.warm_start("cpu", 8)}
    assert set(figures) == {*(("pretrained", n) for n in (0, 1, 2)), *(("random weights", n) for n in (2, 4, 8))}
    assert 0 < figures["pretrained", 2] < 0.5 * figures["random weights", 8]
