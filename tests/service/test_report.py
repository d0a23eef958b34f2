"""The report of a run: everything on one page, from the API, the command line, and by itself when a run is over."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

from browser.synthetic_run import SyntheticRun
from quietbeam.cli import app
from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RowBlock, RunState
from quietbeam.core.settings import ServeSettings, Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection
from quietbeam.core.wire.runs import RunStatus
from quietbeam.serve import create_app
from quietbeam.serve.report import writer
from quietbeam.serve.state.maps import MapReader

KEY = "key-of-the-test"
LINES = ("Ca_Ka", "Fe_Ka", "Zn_Ka")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"serve": ServeSettings(api_key=KEY)})  # type: ignore[arg-type]


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    run = SyntheticRun(settings.runs_dir, redis, uid="run-1", shape=(12, 10), lines=LINES, time_start=time.time() - 60)
    run.add_rows(8)
    run.denoise()
    return run


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "timed out"
        time.sleep(0.02)


def check(page: str) -> None:
    assert page.count("<img class='map'") == 9 and page.count("data:image/png;base64,") == 18
    for line in LINES:
        assert f"<h3>{line}</h3>" in page
    assert "frozen cell 7" in page and "quietbeam-1" in page and "run-1" in page
    assert page.count("denoised, model quietbeam-1, ") == 4 and page.count("raw shown, not denoised") == 2  # also alt
    assert page.count("<span class='scale' style='width:") == 3 and "µm</span>" in page
    assert "2 of 3 lines are improved, proven" in page and "dwell for 10, denoised" in page
    for outside in ("<script", "http://", "https://", "<link"):
        assert outside not in page


def test_the_api_gives_one_page_that_needs_nothing_else(settings: Settings, run: SyntheticRun) -> None:
    with TestClient(create_app(settings), headers={"Authorization": f"Apikey {KEY}"}) as client:
        answer = client.get("/api/v1/runs/latest/report")
        check(answer.raise_for_status().text)
        assert "script-src" not in answer.headers["content-security-policy"]
        assert "style-src 'unsafe-inline'" in answer.headers["content-security-policy"]
        assert client.get("/api/v1/runs/latest").json()["links"]["report"].endswith("/runs/run-1/report")
        assert client.get("/api/v1/runs/nobody/report").status_code == 404
        assert "unsafe-inline" not in client.get("/api/v1/runs").headers["content-security-policy"]
    with TestClient(create_app(settings)) as stranger:
        assert stranger.get("/api/v1/runs/latest/report").status_code == 401


def test_it_is_written_when_the_final_maps_are_there(settings: Settings, run: SyntheticRun) -> None:
    with TestClient(create_app(settings), headers={"Authorization": f"Apikey {KEY}"}) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        run.add_rows(4)
        path = settings.data_dir / "reports" / "run-1.html"

        def written() -> bool:
            run.denoise(final=True)
            return path.exists()

        wait_for(written)
    check(path.read_text())


def test_a_report_that_fails_is_counted_and_ends_no_other(
    settings: Settings, run: SyntheticRun, redis: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = SyntheticRun(settings.runs_dir, redis, uid="broken", shape=(4, 5), lines=LINES)
    broken.add_rows(4)
    make = writer.make_report

    def fail(status: RunStatus, maps: MapReader, units: object = None) -> str:
        if status.uid == "broken":
            raise ArithmeticError("a bug")
        return make(status, maps)

    monkeypatch.setattr(writer, "make_report", fail)
    with TestClient(create_app(settings), headers={"Authorization": f"Apikey {KEY}"}) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        broken.denoise(final=True)
        wait_for(lambda: "quietbeam_report_failures_total 1.0" in client.get("/metrics").text)
        run.add_rows(4)
        run.denoise(final=True)
        wait_for((settings.data_dir / "reports" / "run-1.html").exists)
    assert not (settings.data_dir / "reports" / "broken.html").exists()


def test_a_start_time_that_is_no_date_is_said_to_be_unusable(settings: Settings, redis: Connection) -> None:
    run = SyntheticRun(settings.runs_dir, redis, uid="in-ms", shape=(4, 4), lines=("Fe_Ka",), time_start=1.7e15)
    run.add_rows(4)
    run.denoise()
    with TestClient(create_app(settings), headers={"Authorization": f"Apikey {KEY}"}) as client:
        assert "started at an unusable time (1.7e+15 s" in client.get("/api/v1/runs/in-ms/report").text


def test_two_scans_of_one_area_in_different_directions_look_the_same(settings: Settings, redis: Connection) -> None:
    forwards = SyntheticRun(settings.runs_dir, redis, uid="forwards", shape=(6, 8), lines=("Fe_Ka",))
    backwards = SyntheticRun(settings.runs_dir, redis, uid="backwards", shape=(8, 6), lines=("Fe_Ka",))
    forwards.info = replace(forwards.info, axes=("my", "mx"), step=(0.5, 0.25), origin=(0.0, 0.0), vertical="up")
    backwards.info = replace(
        forwards.info,
        uid="backwards",
        shape=(8, 6),
        axes=("mx", "my"),
        step=(-0.25, 0.5),
        origin=(1.75, 0.0),
        horizontal="mx",
    )
    pictures, sizes = [], []
    for run, map_of in ((forwards, lambda a: a), (backwards, lambda a: a.swapaxes(1, 2)[:, ::-1])):
        counts = map_of(np.random.default_rng(5).poisson(forwards.truth)).astype(np.uint32)
        for row in range(run.info.shape[0]):
            block = np.stack([counts[:, row]] * 4)
            run.buffer.write_row(row, RowBlock(counts=block, measured=np.ones(run.info.shape[1], bool)))
        run.buffer.update_info(run.info)
        whole = {"rows_measured": run.info.shape[0], "pixels_measured": 48}
        runs.write_status(redis, run.uid, info=run.info, state=RunState.COMPLETE, **whole)
        with TestClient(create_app(settings), headers={"Authorization": f"Apikey {KEY}"}) as client:
            page = client.get(f"/api/v1/runs/{run.uid}/report").raise_for_status().text
        assert "Each map is 2 µm wide and 3 µm high; mx rises to the right, my upwards." in page
        tag = re.search(r"<img class='map' width='(\d+)' height='(\d+)' [^>]*src='data:image/png;base64,([^']+)'", page)
        assert tag
        sizes.append(tag.groups()[:2])
        pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(tag[3]))).convert("RGB")))
    assert sizes[0] == sizes[1]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    upside_down = pictures[0][::-1]
    assert not np.array_equal(upside_down, pictures[0]), "the picture has no symmetry that hides a flip"


def test_a_map_of_one_row_can_be_seen(settings: Settings, redis: Connection) -> None:
    run = SyntheticRun(settings.runs_dir, redis, uid="row", shape=(1, 60), lines=("Fe_Ka",))
    run.add_rows(1)
    run.denoise()
    runs.write_status(redis, "row", info=replace(run.info, axes=("", "mx")))
    with TestClient(create_app(settings), headers={"Authorization": f"Apikey {KEY}"}) as client:
        page = client.get("/api/v1/runs/row/report").raise_for_status().text
    assert "Each map is one row of 15 µm along mx." in page and " width='300' height='24'" in page


def test_text_from_outside_is_text(settings: Settings, run: SyntheticRun, redis: Connection) -> None:
    runs.write_status(redis, "run-1", warnings=("<script>alert(1)</script>",))
    with TestClient(create_app(settings), headers={"Authorization": f"Apikey {KEY}"}) as client:
        page = client.get("/api/v1/runs/run-1/report").text
    assert "<script" not in page and "&lt;script&gt;" in page


def test_the_command_says_where_it_looked_for_a_run(tmp_path, settings: Settings, run: SyntheticRun) -> None:
    config = tmp_path / "c.yaml"
    for data_dir, name, words, remedy in (
        (tmp_path / "other", "latest", f"there is no run in {tmp_path / 'other' / 'runs'}", "-c FILE"),
        (settings.data_dir, "nosuch", "begins with 'nosuch'; the newest are run-1", "take one of them or latest"),
    ):
        said = {"data_dir": str(data_dir), "redis": {"url": "redis://127.0.0.1:9/0"}}
        config.write_text(yaml.safe_dump(said), encoding="utf-8")
        answer = CliRunner().invoke(app, ["report", name, "-c", str(config)])
        assert isinstance(answer.exception, InputError), answer.output
        assert words in str(answer.exception) and remedy in answer.exception.remedy
        assert "api/v1" not in str(answer.exception)


def test_the_command_works_without_services(tmp_path, settings: Settings, run: SyntheticRun) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(settings.data_dir), "redis": {"url": "redis://127.0.0.1:9/0"}}))
    out = tmp_path / "out.html"
    answer = CliRunner().invoke(app, ["report", "run", "-c", str(config), "-o", str(out)])
    assert answer.exit_code == 0, answer.output
    check(out.read_text())
    assert re.search(r"out.html: [1-9]\d* kB", answer.output.replace("\n", ""))
    assert "Redis does not answer: what the files" in answer.output and "redis_unavailable" not in answer.output
