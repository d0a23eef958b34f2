"""The Python client against the real server, and a RunEngine that stops when its map is good enough."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
import uvicorn
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from ophyd.sim import det

from browser.synthetic_run import SyntheticRun
from quietbeam.client import Client, ConflictError, FailedError, RefusedError
from quietbeam.core.errors import InputError, NotMeasuredError
from quietbeam.core.settings import ServeSettings, Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection
from quietbeam.denoiser.live.stage import DenoiseStage
from quietbeam.ingest.stage.service import IngestStage
from quietbeam.ingest.transports import MemorySource
from quietbeam.runengine.snr_watch import SnrWatch, stop_at_snr
from quietbeam.serve import create_app
from quietbeam.serve.access import Scope
from quietbeam.serve.access.api_keys import KeyStore
from quietbeam_models.weights import DEFAULT, available

KEY = "key-of-the-test"
LINES = ("Ca_Ka", "Fe_Ka", "Zn_Ka")


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    """A real server on a free port."""
    settings = settings.model_copy(update={"serve": ServeSettings(api_key=KEY)})  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "timed out"
        time.sleep(0.01)


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    run = SyntheticRun(settings.runs_dir, redis, uid="run-1", shape=(12, 10), lines=LINES, time_start=time.time() - 60)
    run.add_rows(8)
    run.denoise()
    return run


@pytest.fixture
def client(url: str, run: SyntheticRun) -> Iterator[Client]:
    with Client(url, KEY) as client:
        yield client


def test_maps_are_labelled_arrays(client: Client, run: SyntheticRun) -> None:
    maps = client.run().maps("denoised")
    assert maps.dims == ("line", "row", "col") and list(maps.line.values) == list(LINES)
    np.testing.assert_array_equal(maps.sel(line="Fe_Ka")[:8], run.buffer.read_map("denoised")[1, :8])
    assert np.isnan(maps[:, 8:]).all()
    step = run.info.step
    assert step is not None and float(maps.col[1] - maps.col[0]) == pytest.approx(step[1])
    assert maps.col.attrs["units"] == run.info.units and maps.attrs["run"] == "run-1"
    one = client.runs(plan="fly_raster")[0].maps("raw", "Fe_Ka")
    assert one.dims == ("row", "col") and one.name == "Fe_Ka raw"
    assert client.run("run-1").maps("measured").dtype == bool


def test_evidence_advice_and_runs(client: Client, run: SyntheticRun) -> None:
    now = client.run("run-1")
    assert now.evidence()["Ca_Ka"]["dwell_gain"] > 1
    assert now.advice(snr=3)["Ca_Ka"]["snr_raw"] > 0
    assert [one.uid for one in client.runs()] == ["run-1"] and "12x10" in repr(now)
    assert client.runs(plan="nothing") == []


def test_events_come_as_they_happen(client: Client, run: SyntheticRun) -> None:
    seen: list[str] = []

    def follow() -> None:
        for event in client.run("run-1").follow():
            seen.append(event["type"])  # noqa: PERF401 (it is looked at meanwhile)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    wait_for(lambda: "hello" in seen)
    run.add_rows(1)
    run.denoise(final=True)
    run.finish()
    thread.join(20)
    assert not thread.is_alive() and "row" in seen and "map" in seen, "it ends with the run"
    assert [event["type"] for event in client.run("run-1").follow()] == ["hello"], "nothing comes any more"


def test_errors_carry_the_servers_sentence(client: Client, url: str) -> None:
    with pytest.raises(NotMeasuredError, match="no run"):
        client.run("nobody")
    with pytest.raises(NotMeasuredError, match="not measured in this run"):
        client.run().maps("raw", "Au_La")
    with pytest.raises(InputError, match="snr"):
        client.run().advice(snr=-1)
    with Client(url, "wrong") as other, pytest.raises(RefusedError, match="API key is wrong"):
        other.runs()
    with Client("http://127.0.0.1:9", timeout_s=1) as other, pytest.raises(NotMeasuredError, match="does not answer"):
        other.runs()


def test_a_stream_brings_labelled_maps_until_the_run_is_final(
    client: Client, run: SyntheticRun, redis: Connection
) -> None:
    got: list[Any] = []

    def follow() -> None:
        got.extend(client.run("run-1").stream())

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    while not got:  # until it listens
        run.denoise()
        time.sleep(0.05)
    run.add_rows(4)
    run.denoise(final=True)
    run.finish()
    thread.join(20)
    assert not thread.is_alive() and got[-1].attrs["version"] == run.version
    assert got[-1].dims == ("line", "row", "col") and got[-1].attrs["units"] == "counts"
    np.testing.assert_array_equal(got[-1].sel(line="Fe_Ka"), run.buffer.read_map("denoised")[1])
    assert [one.attrs["version"] for one in client.run().stream(start=run.version)] == [run.version]
    assert list(client.run().stream()) == [], "nothing comes after the final maps"
    runs.write_status(redis, "run-1", denoise_state="failed")
    assert list(client.run().stream()) == [], "nor after the denoiser gave up"
    with pytest.raises(NotMeasuredError, match="there are raw"):
        next(client.run().stream("spectra"))


def test_waiting_for_final_and_for_refined_maps(client: Client, run: SyntheticRun, redis: Connection) -> None:
    waiting = client.run("run-1")
    with pytest.raises(FailedError, match=r"no final maps after 0\.1 s: "):
        waiting.wait(timeout_s=0.1, every_s=0.02)
    threading.Timer(0.2, lambda: (run.denoise(final=True), run.finish())).start()
    final = waiting.wait(timeout_s=20, every_s=0.05)
    assert final.attributes["denoise"]["state"] == "final" and not final.attributes["denoise"]["refined"]
    with pytest.raises(FailedError, match="no refined maps"):
        waiting.wait(refined=True, timeout_s=0.1)
    runs.write_status(redis, "run-1", denoise_unrefined="the refinement failed")
    with pytest.raises(FailedError, match="no refined maps: the refinement failed"):
        waiting.wait(refined=True)
    evidence = runs.read_status(redis, "run-1").evidence
    runs.write_status(redis, "run-1", evidence=replace(evidence, refined=True))
    assert waiting.wait(refined=True, timeout_s=20).attributes["denoise"]["refined"]
    runs.write_status(redis, "run-1", denoise_state="failed", denoise_reason="out of memory")
    for which in (False, True):
        with pytest.raises(FailedError, match="no denoised maps: out of memory"):
            waiting.wait(refined=which)
    runs.write_status(redis, "run-1", damage="a chunk is torn")
    with pytest.raises(FailedError, match="a chunk is torn"):
        waiting.wait()
    runs.write_status(redis, "run-1", damage=None, state="unusable", reason="no profile matches its keys")
    with pytest.raises(FailedError, match="no profile matches"):
        waiting.wait()


def test_changes_and_why_they_are_refused(client: Client, url: str, run: SyntheticRun, settings: Settings) -> None:
    assert client.whoami()["kind"] == "single_user" and DEFAULT in client.models()
    with pytest.raises(ConflictError, match="still measured"):
        client.run().delete()
    with pytest.raises(ConflictError, match="when it has ended"):
        client.run().denoise_again()
    with pytest.raises(NotMeasuredError, match="no weights"):
        client.choose_weights("best")
    assert client.run().unpin().wait().settled, "it is so already"
    pinned = client.run().pin()
    assert pinned.attributes["state"] == "queued" and "pin of run-1" in repr(pinned)
    with pytest.raises(FailedError, match="queued still: its stage"):
        pinned.wait(0.2, every_s=0.05)
    secret, _ = KeyStore(settings.secrets_dir / "api_keys.json").create("eve", [Scope.READ_METADATA])
    with Client(url, secret) as other:
        with pytest.raises(RefusedError, match="write:data"):
            other.run().pin()
        with pytest.raises(RefusedError, match="read:data"):
            next(other.run().stream())


def test_every_block_of_the_how_to_runs(
    client: Client, url: str, run: SyntheticRun, settings: Settings, redis: Connection, capsys: pytest.CaptureFixture
) -> None:
    run.add_rows(4)
    run.denoise(final=True)
    run.finish()
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "python-client.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 6
    over = threading.Event()
    short = settings.denoise.model_copy(update={"device": "cpu"})
    stages = [
        IngestStage(settings, redis, [MemorySource()]),
        DenoiseStage(settings.model_copy(update={"denoise": short}), redis, owner="here"),
    ]

    def turn(stage: Any) -> None:
        while not over.is_set():
            stage.step()
            over.wait(0.01)

    threads = [threading.Thread(target=turn, args=(stage,), daemon=True) for stage in stages]
    for thread in threads:
        thread.start()
    space: dict[str, Any] = {}
    try:
        for block in blocks:
            exec(block.replace("http://127.0.0.1:8480", url).replace('"..."', repr(KEY)), space)
    finally:
        over.set()
        space["client"].close()
        for thread in threads:
            thread.join(20)
        for stage in stages:
            stage.close()
    told = capsys.readouterr().out
    assert "read:data" in told and "Fe_Ka" in told and "120 pixels" in told and available()[0] in told
    assert "denoise of run-1: done" in told and "no run 'no-such-run'" in told


# --- stopping a scan ------------------------------------------------------------------------------------------------


class Beamline:
    """Passes over the same pixels; after each, quietbeam has added its counts: a SyntheticRun under the run's uid."""

    def __init__(self, settings: Settings, redis: Connection) -> None:
        self._settings, self._redis = settings, redis
        self.documents: list[tuple[str, dict]] = []
        self.passes = 0
        self.cleaned_up = False

    def take(self, name: str, doc: dict) -> None:
        self.documents.append((name, doc))
        if name == "start":
            self.synthetic = SyntheticRun(
                self._settings.runs_dir,
                self._redis,
                uid=doc["uid"],
                shape=(12, 10),
                lines=LINES,
                time_start=time.time(),
            )
            self.synthetic.add_rows(12)
            self.synthetic.denoise()

    def plan(self, most: int, between: Callable[[], None] = lambda: None):
        @bpp.run_decorator(md={"plan_name": "passes"})
        def passes():
            for _ in range(most):
                yield from bps.checkpoint()
                yield from bps.create("primary")
                yield from bps.read(det)
                yield from bps.save()
                self.passes += 1
                between()

        def clean_up():
            self.cleaned_up = True
            yield from bps.null()

        return bpp.finalize_wrapper(passes(), clean_up)

    @property
    def stop(self) -> dict:
        return self.documents[-1][1]


@pytest.fixture
def beamline(settings: Settings, redis: Connection) -> Beamline:
    return Beamline(settings, redis)


def test_a_plan_ends_when_its_map_is_good_enough(url: str, beamline: Beamline) -> None:
    engine = RunEngine({})
    engine.subscribe(beamline.take)
    plan = stop_at_snr(
        beamline.plan(5000, lambda: time.sleep(0.005)), url, KEY, snr=0.5, lines=["Ca_Ka", "Fe_Ka"], every_s=0.05
    )
    engine(plan)
    assert 0 < beamline.passes < 5000 and beamline.cleaned_up
    assert beamline.stop["exit_status"] == "success" and engine.state == "idle"
    assert beamline.stop["reason"] == "quietbeam: SNR 0.5 reached"
    assert beamline.stop["num_events"]["primary"] == beamline.passes


def test_a_plan_goes_on_where_the_wanted_snr_is_not_reached(url: str, beamline: Beamline) -> None:
    engine = RunEngine({})
    engine.subscribe(beamline.take)
    engine(stop_at_snr(beamline.plan(40, lambda: time.sleep(0.02)), url, KEY, snr=900, every_s=0.05))
    assert beamline.passes == 40 and beamline.stop["exit_status"] == "success"


@pytest.mark.parametrize(
    ("address", "key", "lines", "reason"),
    [
        ("http://127.0.0.1:9", KEY, (), "does not answer"),
        (None, "wrong", (), "key"),
        (None, KEY, ("Xx_Ka",), "the run has no line Xx_Ka; its lines are"),
    ],
    ids=["nobody answers", "wrong key", "unknown line"],
)
def test_why_a_scan_cannot_be_ended_early_is_said_once(
    url: str, beamline: Beamline, address: str | None, key: str, lines: tuple[str, ...], reason: str
) -> None:
    engine = RunEngine({})
    engine.subscribe(beamline.take)
    plan = beamline.plan(20, lambda: time.sleep(0.03))
    structlog.reset_defaults()  # a test before may have set a level
    with structlog.testing.capture_logs() as logs:
        engine(stop_at_snr(plan, address or url, key, snr=900, lines=lines, every_s=0.02))
    said = [entry for entry in logs if entry["event"] == "stop_at_snr_cannot_decide"]
    assert len(said) == 1 and reason in said[0]["reason"] and said[0]["log_level"] == "warning"
    assert beamline.passes == 20 and beamline.stop["exit_status"] == "success"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", None])
def test_without_an_answer_the_scan_goes_on(url: str, beamline: Beamline, address: str | None) -> None:
    engine = RunEngine({})
    engine.subscribe(beamline.take)
    engine(stop_at_snr(beamline.plan(20, lambda: time.sleep(0.01)), address or url, "wrong", snr=0.5, every_s=0.02))
    assert beamline.passes == 20 and beamline.stop["exit_status"] == "success"


def test_errors_of_the_plan_pass_through(url: str, beamline: Beamline) -> None:
    def fail() -> None:
        raise RuntimeError("motor stalled")

    engine = RunEngine({})
    engine.subscribe(beamline.take)
    with pytest.raises(RuntimeError, match="motor stalled"):
        engine(stop_at_snr(beamline.plan(5, fail), url, KEY, snr=0.5))
    assert beamline.cleaned_up and beamline.stop["exit_status"] == "fail"


def test_what_is_asked_for(client: Client) -> None:
    watch = SnrWatch(client, 10.0, ["Fe_Ka"])
    assert watch._is_reached({"Fe_Ka": {"factor_denoised": 0.9, "factor_raw": 7.0}})
    assert not watch._is_reached({"Fe_Ka": {"factor_denoised": 1.1, "factor_raw": 7.0}})
    assert watch._is_reached({"Fe_Ka": {"factor_denoised": None, "factor_raw": 0.9}})  # raw is what is shown
    assert not watch._is_reached({}) and not watch._is_reached({"Ca_Ka": {"factor_denoised": 0.1}})
    assert not SnrWatch(client, 10.0, estimate="raw")._is_reached(
        {"Fe_Ka": {"factor_denoised": 0.9, "factor_raw": 7.0}}
    )
