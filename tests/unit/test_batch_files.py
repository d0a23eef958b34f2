"""Files of a batch: which are found, what becomes of each, and which are skipped."""

from __future__ import annotations

import csv
import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from quietbeam.batch import job as jobs
from quietbeam.batch.found import find
from quietbeam.batch.job import Job, Outcome, run_job
from quietbeam.batch.offline import Reading, Writing
from quietbeam.batch.plan import plan
from quietbeam.batch.record import path_of
from quietbeam.batch.report import write_report
from quietbeam.batch.run import remove_leftovers
from quietbeam.benchmarks.batch import Turn, report
from quietbeam.cli import app
from quietbeam.core.errors import InputError, MapTooLargeError
from quietbeam.core.settings import BatchSettings, Settings
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import FORMATS, read_map

QUICK = DenoiseOptions(fine_tune=False, device="cpu")


def counts(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(3, (2, 1, 12, 12)).astype(np.uint32)


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, counts=counts(seed), lines=["Fe_Ka"])
    return path


def planned(source: Path, output: Path, options: DenoiseOptions = QUICK, **reading: Any) -> Job:
    search = find([str(source)], Settings(), output)
    (job,) = plan(search.found, output, Reading(**reading), Writing(), options, Settings(), None)
    return job


def names(sources: list[Path | str], output: Path) -> list[str]:
    return [one.name for one in find([str(source) for source in sources], Settings(), output).found]


def test_a_folder_is_searched_for_maps_only(tmp_path: Path) -> None:
    day = tmp_path / "day[1]"
    save(day / "b.npz")
    save(day / "deep" / "a.npz")
    zarr.create_group(day / "store.zarr").create_array("counts", data=counts(), chunks=(2, 1, 1, 12))
    for name in ("notes.txt", "photo.tif", ".hidden.npz", ".secret/c.npz", "damaged.h5", "x.h50", "x.h51"):
        (day / name).parent.mkdir(exist_ok=True)
        (day / name).write_bytes(b"")
    found = names([day], tmp_path / "out")
    assert found == ["day[1]/b.npz", "day[1]/damaged", "day[1]/store.zarr", "day[1]/x.h50", "day[1]/deep/a.npz"]


def test_patterns_and_files_are_taken_once(tmp_path: Path) -> None:
    for name in ("a.npz", "deep/b.npz", "[c].npz"):
        save(tmp_path / name)
    pattern = str(tmp_path / "**" / "*.npz")
    assert names([tmp_path / "[c].npz", pattern, tmp_path / "a.npz"], tmp_path / "out") == ["[c].npz", "a.npz", "b.npz"]


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "one" / "map.npz")
    save(tmp_path / "two" / "map.npz")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for sources, words in (
        (["nothing*.h5"], "there is no nothing"),
        ([tmp_path / "empty"], "no map found in"),
        ([tmp_path / "one" / "map.npz", tmp_path / "two" / "map.npz"], "would have the same result map.npz"),
    ):
        with pytest.raises(InputError, match=words):
            names(sources, out)
    with pytest.raises(InputError, match="lies in the source"):
        names([tmp_path / "one"], tmp_path / "one" / "results")
    with pytest.raises(InputError, match="lies in the source"):
        names([tmp_path / "one"], tmp_path / "one")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    save(tmp_path / "day" / "a.npz")
    (tmp_path / "day" / "locked").mkdir(mode=0)
    ((where, why),) = find([str(tmp_path / "day")], Settings(), tmp_path / "out").unreadable
    assert where.endswith("locked") and "Permission denied" in why


@pytest.mark.usefixtures("one_thread")
def test_a_file_is_skipped_by_its_content_alone(tmp_path: Path) -> None:
    source, out = save(tmp_path / "in.npz"), tmp_path / "out"
    job = planned(source, out)
    first = run_job(job)
    assert (first.status, first.lines, first.error) == ("done", 1, ""), first
    assert read_map(job.target).counts.shape[-2:] == (12, 12)
    os.utime(source, (1, 1))
    again = run_job(job)
    assert again == replace(first, status="done before", seconds=again.seconds)
    assert run_job(replace(job, options=replace(QUICK, tile=32))).status == "done before"
    assert run_job(replace(job, options=replace(QUICK, seed=1))).status == "done"
    assert run_job(job).status == "done"
    stamp = source.stat()
    save(source, seed=1)
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert run_job(job).status == "done"
    job.target.write_bytes(job.target.read_bytes()[:-1] + b"?")
    assert run_job(job).status == "done"
    path_of(job.target).write_text("half", encoding="utf-8")
    assert run_job(job).status == "done" and run_job(job).status == "done before"


@pytest.mark.usefixtures("one_thread")
def test_the_dwell_counts_where_the_unit_takes_it(tmp_path: Path) -> None:
    source = tmp_path / "in.npz"
    jobs_of = {units: Writing(format="nexus", units=units) for units in ("counts", "counts/s")}
    seen: list[tuple[str, str]] = []
    for dwell in (0.5, 0.5, 0.25):
        np.savez(source, counts=counts(), lines=["Fe_Ka"], dwell_s=dwell)
        for units, writing in jobs_of.items():
            job = replace(planned(source, tmp_path / units.replace("/", "-")), writing=writing)
            seen.append((units, run_job(job).status))
    assert seen[:2] == [("counts", "done"), ("counts/s", "done")]
    assert seen[2:4] == [("counts", "done before"), ("counts/s", "done before")]
    assert seen[4:] == [("counts", "done before"), ("counts/s", "done")]


@pytest.mark.usefixtures("one_thread")
def test_results_are_no_sources(tmp_path: Path) -> None:
    first = planned(save(tmp_path / "in.npz"), tmp_path / "out")
    assert run_job(first).status == "done"
    found = run_job(planned(first.target, tmp_path / "again"))
    assert found.status == "left out" and "is a result of quietbeam" in found.error
    assert not (tmp_path / "again").exists()


def test_a_failure_is_an_outcome_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    job = planned(save(tmp_path / "in.npz"), out)

    def full(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    def large(*_: object) -> None:
        raise MapTooLargeError("this map needs 9 GiB")

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    def outcome(job: Job) -> tuple[str, str]:
        found = run_job(job)
        return found.status, found.error

    cases = [
        (outcome(planned(tmp_path / "cut.h5", out)), "failed", "is it whole?"),
        (outcome(replace(job, version="9.9")), "failed", "the batch was started by 9.9"),
        (outcome(replace(job, weights_sha256="0" * 64)), "failed", "those of the batch 000000000000"),
        (outcome(replace(job, reading=Reading(lines=("Cu_Ka",)))), "failed", "no line Cu_Ka"),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "denoise_map", large)
        cases.append((outcome(job), "out of memory", "9 GiB"))
        patched.setattr(jobs, "denoise_map", broken)
        cases.append((outcome(job), "failed", "ZeroDivisionError: by zero"))
    monkeypatch.setitem(FORMATS, "nexus", (FORMATS["nexus"][0], full))
    cases.append((outcome(job), "disk full", "No space left"))
    for (status, error), wanted, words in cases:
        assert status == wanted and words in error, (status, error)
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_the_report_holds_any_name_and_error(tmp_path: Path) -> None:
    outcomes = [
        Outcome(source="b|c.h5", status="failed", error="two\nlines, a | bar", seconds=0.26),
        Outcome(source="a.h5", status="done", lines=3, dwell_gain=2.5, verdicts={"kept_raw": 1, "improved": 2}),
    ]
    text = write_report(tmp_path, outcomes, "quietbeam batch").read_text(encoding="utf-8")
    assert "1 done, 1 failed." in text
    assert "| a.h5 | 3 | 2.50 | 2 improved, 1 kept raw | 0.0 | done |  |" in text
    assert "| b\\|c.h5 |  |  |  | 0.3 | failed | two lines, a \\| bar |" in text
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["error"] == "two\nlines, a | bar" and rows[0]["dwell gain"] == "2.50"


def test_the_overhead_of_the_benchmark_leaves_out_the_last_file() -> None:
    one = Turn(at_once=1, files=10, wall_s=10.1, busy_s=10.0, tail_s=0.0)
    two = Turn(at_once=2, files=10, wall_s=5.5, busy_s=10.0, tail_s=0.8)
    text = report([one, two], "quietbeam benchmark batch")
    assert "| 1 | 10 | 10.1 | 59.4 | 1.000 | 10.0 ms (1.0 %) |" in text
    assert "| 2 | 10 | 5.5 | 109.1 | 1.000 | 20.0 ms (2.0 %) |" in text
    assert "Two workers do 1.84 times as much as one." in text


def test_settings_name_one_place() -> None:
    for wrong in ({"scheduler": "tcp://a:1", "cluster": "slurm"}, {"options": {"queue": "x"}}, {"cluster": "cron"}):
        with pytest.raises(ValueError, match=r"not both|set cluster, too|'slurm'"):
            BatchSettings.model_validate(wrong)


def test_without_dask_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    done = CliRunner().invoke(app, ["batch", str(tmp_path), "-o", str(tmp_path / "out")])
    assert isinstance(done.exception, InputError) and "pip install 'quietbeam[batch]'" in str(done.exception)


def test_names_that_no_result_can_have_are_reported(tmp_path: Path) -> None:
    day = tmp_path / "day"
    save(day / "good.npz")
    save(day / f"{'long' * 57}.npz")
    Path(os.fsdecode(os.fsencode(day) + b"/bad\xff.npz")).write_bytes((day / "good.npz").read_bytes())
    search = find([str(day)], Settings(), tmp_path / "out")
    assert [one.name for one in search.found] == ["day/good.npz"]
    reasons = " ".join(why for _, why in search.unreadable)
    assert "no text in UTF-8" in reasons and "too long" in reasons
    outcomes = [Outcome(source=name, status="failed", error=why) for name, why in search.unreadable]
    (tmp_path / "out").mkdir()
    assert "bad\\udcff.npz" in write_report(tmp_path / "out", outcomes, "quietbeam batch").read_text(encoding="utf-8")


def test_only_leftovers_of_the_batch_itself_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "map_denoised.nxs"
    mine, other, empty = (tmp_path / "sub" / f".quietbeam-{name}" for name in ("aa", "bb", "cc"))
    for folder, inside in ((mine, target.name), (other, "x.h5"), (empty, None)):
        folder.mkdir(parents=True)
        if inside is not None:
            (folder / inside).write_bytes(b"half")
    record = target.with_name(f".quietbeam-77-{path_of(target).name}")
    foreign = tmp_path / "sub" / ".quietbeam-77-x.h5.json"
    for file in (record, foreign):
        file.write_text("half", encoding="utf-8")
    remove_leftovers(tmp_path, [target])
    assert not mine.exists() and not record.exists()
    assert other.exists() and empty.exists() and foreign.exists()


def test_a_file_without_energies_is_told_how_the_batch_reads_it(tmp_path: Path) -> None:
    source = tmp_path / "spectra.npz"
    np.savez(source, spectra=np.random.default_rng(0).poisson(1.0, (6, 6, 2, 64)))
    outcome = run_job(planned(source, tmp_path / "out"))
    assert outcome.status == "failed" and "says nothing of energies" in outcome.error
    assert f"quietbeam batch {source} -o FOLDER --energy 0,0.01" in outcome.error
    assert "quietbeam denoise" not in outcome.error
