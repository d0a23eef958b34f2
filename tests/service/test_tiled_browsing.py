"""A denoised run as people find it in Tiled: from the raw run, by search, as files, live, and in Tiled's web page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from publish_kit import KEY, LINES, Run, TiledProcess, turn, wait_until
from tiled.queries import Key

from quietbeam.core.settings import Settings, TiledSettings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection
from quietbeam.publish import PublishStage


@pytest.fixture
def client(tiled: TiledProcess) -> Iterator[Any]:
    from tiled.client import from_uri

    found = from_uri(tiled.uri, api_key=KEY)
    yield found
    found.context.close()


@pytest.fixture
def published(settings: Settings, tiled: TiledProcess) -> Settings:
    """Settings of a facility whose raw runs lie in the container `raw` of the same server."""
    tiled_settings = TiledSettings(uri=tiled.uri, api_key=KEY, interval="PT0.01S", raw_root="raw")
    return settings.model_copy(update={"tiled": tiled_settings})


def measure(client: Any) -> str:
    """Scan with a real RunEngine whose documents TiledWriter keeps in `raw`; return the run's uid."""
    from bluesky import RunEngine
    from bluesky.plans import grid_scan
    from bluesky_tiled_plugins import TiledWriter
    from ophyd.sim import det, motor1, motor2

    raw = client["raw"] if "raw" in client else client.create_container("raw")
    engine = RunEngine({}, call_returns_result=False)
    engine.subscribe(TiledWriter(raw))
    plan = grid_scan([det], motor1, 0, 1, 3, motor2, 0, 1, 2, md={"sample": {"name": "frozen cell"}})
    return str(engine(plan)[0])


def publish(settings: Settings, redis: Connection, uid: str, **more: Any) -> Run:
    run = Run(settings, redis, uid, **more)
    stage = PublishStage(settings, redis)
    run.rows(0, run.info.shape[0] // 2)
    run.finish()
    turn(stage, lambda: run.status().publish_state == "final")
    stage.close()
    return run


def test_the_denoised_run_is_found_from_the_raw_one_and_back(
    published: Settings, redis: Connection, client: Any
) -> None:
    uid = measure(client)
    publish(published, redis, uid)
    raw = client["raw"][uid]
    assert [spec.name for spec in raw.specs] == ["BlueskyRun"]
    denoised = client["quietbeam"][raw.start["uid"]]  # the same uid names both
    assert [key for key, _ in client["quietbeam"].search(Key("raw_run_uid") == uid).items()] == [uid]
    assert client[denoised.metadata["raw_run_path"]].start["sample"]["name"] == "frozen cell"
    assert next(name for name, _ in raw.documents()) == "start", "the raw run can be replayed from here"
    assert client["quietbeam"].metadata["title"] == "Denoised X-ray fluorescence runs"


def test_names_units_and_positions_are_told(published: Settings, redis: Connection, client: Any) -> None:
    run = Run(published, redis, "positions", step=(0.5, 0.25), origin=(-3.0, 2.0))
    stage = PublishStage(published, redis)
    turn(stage, lambda: run.status().publish_state == "live")
    stage.close()
    node = client["quietbeam"]["positions"]
    for kind in ("raw", "denoised", "uncertainty"):
        assert node[kind].dims == ("line", "row", "col")
        assert list(node[kind].metadata["lines"]) == list(LINES)
        assert node[kind].metadata["units"] == "counts, summed over detectors"
        assert len(node[kind].metadata["description"].split()) >= 3
    where = node["measured"].metadata["coordinates"]
    assert dict(where["row"]) == {"origin": -3.0, "step": 0.5, "units": "um"}
    assert dict(where["col"]) == {"origin": 2.0, "step": 0.25, "units": "um"}


def test_files_of_every_kind_come_out(published: Settings, redis: Connection, client: Any, tmp_path: Path) -> None:
    run = publish(published, redis, "files")
    values = run.buffer.read_map("denoised")
    node = client["quietbeam"]["files"]
    node["denoised"].export(str(tmp_path / "fe.png"), slice=(0,))
    picture = Image.open(tmp_path / "fe.png")
    assert picture.size == values.shape[:0:-1] and len(np.unique(np.asarray(picture))) > 20
    node["denoised"].export(str(tmp_path / "fe.tiff"), slice=(0,))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "fe.tiff")), values[0])
    node["denoised"].export(str(tmp_path / "fe.csv"), slice=(0,))
    assert np.allclose(np.loadtxt(tmp_path / "fe.csv", delimiter=","), values[0], rtol=1e-6)
    node.export(str(tmp_path / "run.h5"))
    with h5py.File(tmp_path / "run.h5") as file:
        assert file.attrs["raw_run_uid"] == "files" and '"dwell_gain": 3.5' in file.attrs["evidence"]
        for kind in ("raw", "denoised", "uncertainty"):
            assert np.array_equal(file[f"{kind}/data"][:], run.buffer.read_map(kind))
            assert [name.decode() for name in file[f"{kind}/line"][:]] == list(LINES)
        assert file["measured/data"][:].all()


def test_a_subscriber_gets_every_update_of_a_large_map(published: Settings, redis: Connection, client: Any) -> None:
    """One update has 2 MB: twice what a subscriber takes who does not say `max_size`."""
    run = Run(published, redis, "large", shape=(512, 512))
    stage = PublishStage(published, redis)
    turn(stage, lambda: run.status().publish_state == "live")
    seen, got = np.zeros((len(LINES), *run.info.shape), "float32"), []
    ended = threading.Event()

    def take(update: Any) -> None:
        data = np.asarray(update.data())
        first = update.offset[1] if update.offset else 0
        seen[:, first : first + data.shape[1]] = data
        got.append(data.nbytes)

    def end(_subscription: Any) -> None:
        ended.set()

    subscription = client["quietbeam"]["large"]["denoised"].subscribe()
    subscription.new_data.add_callback(take)
    subscription.disconnected.add_callback(end)
    subscription.start_in_thread(0, max_size=64_000_000)
    try:
        for first in (0, 256):
            n = len(got)
            run.rows(first, first + 256)
            turn(stage, lambda: run.status().publish_version == run.version)
            wait_until(lambda n=n: len(got) > n, what="an update")
        run.finish()
        turn(stage, lambda: run.status().publish_state == "final")
        wait_until(ended.is_set, what="the end of the stream")
    finally:
        subscription.disconnect()
        stage.close()
    assert max(got) > 2_000_000
    assert np.array_equal(seen, run.buffer.read_map("denoised"))


@pytest.mark.browser
def test_the_web_page_of_tiled_shows_a_run(
    published: Settings, redis: Connection, tiled: TiledProcess, chromium: Any
) -> None:
    run = publish(published, redis, "in-the-browser", step=(0.5, 0.5), origin=(0.0, 0.0))
    assert runs.read_status(redis, run.info.uid) is not None
    context = chromium.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    page.set_default_timeout(60_000)
    here = tiled.uri.removesuffix("/api/v1") + "/ui/browse"
    page.goto(f"{here}/?api_key={KEY}")
    page.get_by_text("quietbeam", exact=True).first.wait_for()
    page.goto(f"{here}/quietbeam/in-the-browser/")
    for name in ("measured", "raw", "uncertainty", "denoised"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.goto(f"{here}/quietbeam/in-the-browser/denoised")
    page.get_by_text("Choose a planar cut through this 3-dimensional array.").wait_for()
    page.get_by_role("tab", name="Metadata").click()
    page.get_by_text("counts, summed over detectors").wait_for()
    context.close()
