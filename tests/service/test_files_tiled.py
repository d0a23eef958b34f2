"""Runs in Tiled as input of `quietbeam denoise` and `quietbeam replay`: written by TiledWriter, or published by us."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
import structlog
import uvicorn
from bluesky import RunEngine
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri
from tiled.structures.core import Spec
from typer.testing import CliRunner

from quietbeam.app.ports import free_port
from quietbeam.batch.found import find
from quietbeam.batch.source import read_source
from quietbeam.batch.tiled_search import runs_in_tiled
from quietbeam.beamline.experiment import Experiment, ExperimentOptions
from quietbeam.beamline.plans import make_plan
from quietbeam.cli import app
from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.settings import EmbeddedSettings, IngestSettings, Settings, TiledSettings
from quietbeam.embedded.tiled_server import build
from quietbeam.ingest.documents.recording import read_recording

KEY, SHAPE, LINES = "tiledinputkey", (6, 8), ("Fe_Ka", "Cu_Ka")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A Tiled server, and a folder that it may read detector files from."""
    folder, port = tmp_path_factory.mktemp("tiled"), free_port()
    (folder / "detector").mkdir()
    application = build(folder / "tiled", KEY, readable=(folder / "detector",))
    config = uvicorn.Config(application, port=port, log_level="error", ws="websockets-sansio")
    uvicorn_server = uvicorn.Server(config)
    thread = threading.Thread(target=uvicorn_server.run)
    thread.start()
    deadline = time.monotonic() + 60
    while not uvicorn_server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}", folder / "detector"
    uvicorn_server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module", params=["snake", "fly"])
def scanned(request: pytest.FixtureRequest, server: tuple[str, Path]) -> tuple[str, str, np.ndarray]:
    """A run that bluesky's TiledWriter wrote: (server, uid, counts); the fly scan has its counts in HDF5 files."""
    uri, folder = server
    options = ExperimentOptions(
        specimen="star", lines=LINES, shape=SHAPE, dwell_s=0.01, detectors=3, flux=1.0, counts=9.0, seed=1
    )
    experiment, uids = Experiment(options), []
    client: Any = from_uri(uri, api_key=KEY)
    engine = RunEngine({})
    engine.subscribe(TiledWriter(client))
    engine.subscribe(lambda name, doc: uids.append(doc["uid"]), "start")
    engine(make_plan(request.param, experiment, speed=0, folder=folder, burst=None))
    client.context.close()
    counts = experiment.truth(uids[0]).counts
    return uri, uids[0], counts


def settings_for(uri: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, tiled=TiledSettings(uri=uri, api_key=KEY))


@pytest.mark.supports("file in", "a run in Tiled that bluesky's TiledWriter wrote: its address or its uid")
def test_a_run_of_the_tiled_writer(scanned: tuple[str, str, np.ndarray], tmp_path: Path) -> None:
    uri, uid, counts = scanned
    settings = settings_for(uri, tmp_path)
    by_uid, name = read_source(uid, settings, lines=[])
    assert name == uid and by_uid.lines == LINES and len(by_uid.detectors or ()) == 3
    assert np.array_equal(by_uid.counts, counts)
    assert by_uid.i0 is not None and by_uid.live_time_s is not None and by_uid.metadata["dwell_s"] == 0.01
    by_address, _ = read_source(f"{uri}/api/v1/metadata/{uid}", settings, lines=["Cu_Ka"])
    assert np.array_equal(by_address.counts, counts[:, 1:])


@pytest.mark.supports("file in", "a run in Tiled with spectra in its events")
def test_spectra_in_tiled(server: tuple[str, Path], tmp_path: Path) -> None:
    uri, _ = server
    folder = Path(__file__).parents[1] / "fixtures" / "recordings"
    recorded = read_recording(folder / "id16a.jsonl.gz").documents
    client: Any = from_uri(uri, api_key=KEY)
    writer = TiledWriter(client)
    for name, doc in recorded:
        writer(name, doc)
    client.context.close()
    settings = Settings(data_dir=tmp_path, tiled=TiledSettings(uri=uri, api_key=KEY), ingest={"profiles": ["id16a"]})
    file, _ = read_source(str(recorded[0][1]["uid"]), settings, lines=[])
    with np.load(folder / "id16a.npz") as want:
        assert np.array_equal(file.counts, want["counts"])


def test_text_beside_the_counts_in_tiled(server: tuple[str, Path], tmp_path: Path) -> None:
    uri, _ = server
    run = event_model.compose_run(metadata={"shape": [2, 3], "plan_name": "grid_scan"})
    keys = {key: {"source": "t", "dtype": "integer", "shape": []} for key in ("Det1_Fe", "Det2_Fe")}
    keys["shutter"] = {"source": "t", "dtype": "string", "shape": []}
    stream = run.compose_descriptor(name="primary", data_keys=keys)
    client: Any = from_uri(uri, api_key=KEY)
    writer = TiledWriter(client)
    writer("start", run.start_doc)
    writer("descriptor", stream.descriptor_doc)
    for n in range(6):
        data = {"Det1_Fe": n, "Det2_Fe": 10 + n, "shutter": "Open" if n else ""}
        writer("event", stream.compose_event(data=data, timestamps=dict.fromkeys(data, 1.0)))
    writer("stop", run.compose_stop())
    client.context.close()
    settings = Settings(data_dir=tmp_path, tiled=TiledSettings(uri=uri, api_key=KEY), ingest={"profiles": ["generic"]})
    file, _ = read_source(run.start_doc["uid"], settings, lines=[])
    assert file.counts[:, 0].reshape(2, 6).tolist() == [list(range(6)), list(range(10, 16))]


@pytest.mark.supports("file in", "a run in Tiled that quietbeam published: its raw maps")
def test_a_run_that_quietbeam_published(server: tuple[str, Path], tmp_path: Path) -> None:
    uri, _ = server
    raw = np.random.default_rng(0).poisson(6.0, (2, 20, 24)).astype(np.float32)
    client: Any = from_uri(uri, api_key=KEY)
    specs = [Spec("XRFDenoisedRun", "1.0")]
    ours = client.create_container("quietbeam") if "quietbeam" not in client else client["quietbeam"]
    run = ours.create_container("abcdef", metadata={"lines": list(LINES), "raw_run_uid": "abcdef"}, specs=specs)
    run.write_array(raw * np.float32(1 + 1e-7), key="raw")  # a weighted sum is whole up to rounding
    run.write_array(np.ones((20, 24), bool), key="measured")
    client.context.close()
    file, _ = read_source("abcdef", settings_for(uri, tmp_path), lines=[])
    assert np.array_equal(file.counts[0], raw) and file.detectors == ("sum",)
    config = tmp_path / "config.yaml"
    config.write_text(f"data_dir: {tmp_path}\ntiled: {{uri: '{uri}', api_key: {KEY}}}\n")
    out = tmp_path / "out.csv"
    arguments = ["abcdef", "-c", str(config)]
    answer = CliRunner().invoke(app, ["denoise", *arguments, "-o", str(out), "--no-fine-tune"])
    assert answer.exit_code == 0 and out.read_text().count("\n") == 3, answer.output
    answer = CliRunner().invoke(app, ["replay", *arguments, "--speed", "0", "--transport", "none"])
    structlog.reset_defaults()  # the command logs into a stream that is gone
    assert answer.exit_code == 0 and "sent 1 start, 1 descriptor, 480 event, 1 stop" in answer.output


def test_what_is_not_there_is_said(server: tuple[str, Path], tmp_path: Path) -> None:
    uri, _ = server
    settings = settings_for(uri, tmp_path)
    with pytest.raises(InputError, match="no 012345 or quietbeam/012345 in Tiled"):
        read_source("012345", settings, lines=[])
    with pytest.raises(InputError, match="is no run"):
        read_source(f"{uri}/api/v1/metadata/", settings, lines=[])
    with pytest.raises(ServiceError, match="does not answer"):
        read_source("012345", settings, lines=[], tiled=f"http://127.0.0.1:{free_port()}")
    wrong = Settings(data_dir=tmp_path, tiled=TiledSettings(uri=uri, api_key="wrong"))
    with pytest.raises(ServiceError, match="is the key right"):
        read_source("012345", wrong, lines=[])
    without = Settings(data_dir=tmp_path, embedded=EmbeddedSettings(tiled_port=free_port()))
    with pytest.raises(ServiceError, match="wants a key: set TILED_API_KEY"):
        read_source(f"{uri}/api/v1/metadata/012345", without, lines=[])


def test_the_embedded_tiled_needs_no_key(
    server: tuple[str, Path], scanned: tuple[str, str, np.ndarray], tmp_path: Path
) -> None:
    """By address, as `quietbeam up` keeps the key among its secrets."""
    uri, uid, counts = scanned
    settings = Settings(data_dir=tmp_path, embedded=EmbeddedSettings(tiled_port=int(uri.rpartition(":")[2])))
    settings.secrets_dir.mkdir(parents=True)
    (settings.secrets_dir / "tiled_api_key").write_text(KEY)
    file, _ = read_source(f"{uri}/api/v1/metadata/{uid}", settings, lines=[])
    assert np.array_equal(file.counts, counts)


@pytest.mark.supports("file in", "a recording of documents, with its detector files beside it")
@pytest.mark.parametrize("name", ["id16a", "srx"])
def test_a_recording(name: str, tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "fixtures" / "recordings"
    settings = Settings(data_dir=tmp_path, ingest=IngestSettings(profiles=(name,)))
    file, _ = read_source(str(folder / f"{name}.jsonl.gz"), settings, lines=[])
    with np.load(folder / f"{name}.npz") as want:
        assert np.array_equal(file.counts, want["counts"])


def test_a_batch_searches_runs_by_their_metadata(scanned: tuple[str, str, np.ndarray], tmp_path: Path) -> None:
    uri, uid, _ = scanned
    settings = settings_for(uri, tmp_path)
    (everything, left_out) = runs_in_tiled(uri, settings)
    address, name = next(run for run in everything if run[1] == uid)
    assert all("is no run" in why or "is a result" in why for _, why in left_out)
    assert runs_in_tiled(f"{uri}?start.uid={uid}", settings) == ([(address, name)], [])
    assert runs_in_tiled(f"{uri}?start.uid={uid}&start.scan_id=1", settings)[0] == [(address, name)]
    assert runs_in_tiled(f"{uri}?start.scan_id=987", settings) == ([], [])
    assert runs_in_tiled(address, settings) == ([(address, name)], [])
    file, _ = read_source(address, settings, lines=[])
    assert file.counts.shape[-2:] == SHAPE
    with pytest.raises(InputError, match="no map found in"):
        find([f"{uri}?start.scan_id=987"], settings, tmp_path / "out")
    with pytest.raises(InputError, match="there is no "):
        runs_in_tiled(f"{uri}/api/v1/metadata/nobody", settings)
