"""Numbers, earlier states, detectors, files and search over the API, against the arrays they come from."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from browser.synthetic_run import SyntheticRun
from quietbeam.buffer import MapHistory, RunBuffer
from quietbeam.buffer.history import thinned
from quietbeam.cli import app
from quietbeam.core.model.evidence import DetectorEvidence
from quietbeam.core.model.types import RowBlock
from quietbeam.core.settings import ServeSettings, Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection
from quietbeam.files import read_map
from quietbeam.serve import create_app

KEY = "key-of-the-test"
LINES = ("Ca_Ka", "Fe_Ka", "Zn_Ka")


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    """12 x 10 pixels; two states of the maps, of 6 and of 9 rows; a 10th row half measured."""
    run = SyntheticRun(settings.runs_dir, redis, uid="run-1", shape=(12, 10), lines=LINES, time_start=time.time() - 60)
    for rows in (6, 3):
        run.add_rows(rows)
        run.denoise()
        measured = run.buffer.measured()
        MapHistory(run.buffer).add(run.version, run.evidence(final=False, improved=True), measured)
    run.add_rows(1, cols=4)
    return run


@pytest.fixture
def client(settings: Settings, run: SyntheticRun) -> Iterator[TestClient]:
    settings = settings.model_copy(update={"serve": ServeSettings(api_key=KEY)})  # type: ignore[arg-type]
    headers = {"Authorization": f"Apikey {KEY}"}
    with TestClient(create_app(settings), headers=headers, raise_server_exceptions=False) as client:
        yield client


def data(client: TestClient, address: str):
    return client.get(f"/api/v1/runs/{address}").raise_for_status().json()["data"]


def maps(client: TestClient, kind: str, **query) -> np.ndarray:
    answer = client.get(f"/api/v1/runs/run-1/maps/{kind}", params={"format": "npy", **query}).raise_for_status()
    return np.load(io.BytesIO(answer.content))


def test_a_pixel_in_all_lines(client: TestClient) -> None:
    found = data(client, "run-1/pixel?row=4&col=7")["lines"]
    raw, denoised, error = (maps(client, kind)[:, 4, 7] for kind in ("raw", "denoised", "uncertainty"))
    assert list(found) == list(LINES)
    for j, line in enumerate(LINES):
        assert found[line]["raw"] == pytest.approx(float(raw[j]))
        assert found[line]["raw_error"] == pytest.approx(max(float(raw[j]), 1) ** 0.5)
        assert found[line]["denoised"] == pytest.approx(float(denoised[j]))
        assert found[line]["denoised_error"] == pytest.approx(float(error[j]))
    empty = data(client, "run-1/pixel?row=11&col=7")["lines"]["Fe_Ka"]
    assert empty == {"n": 0, "raw": None, "raw_error": None, "denoised": None, "denoised_error": None}


def test_a_pixel_says_where_it_is(client: TestClient, run: SyntheticRun, redis: Connection) -> None:
    before = client.get("/api/v1/runs/run-1/pixel?row=4&col=7")
    found = before.json()["data"]
    assert found["position"] == pytest.approx([-12 + 4 * 0.25, -8 + 7 * 0.25])
    assert (found["position_units"], found["axes"]) == ("um", [])
    uneven = replace(
        run.info, axes=("my", "mx"), step=None, origin=None, col_positions=tuple(2.0**n for n in range(10))
    )
    runs.write_status(redis, "run-1", info=uneven)
    answer = client.get("/api/v1/runs/run-1/pixel?row=4&col=7", headers={"If-None-Match": before.headers["etag"]})
    found = answer.raise_for_status().json()["data"]
    assert (found["position"], found["axes"]) == ([None, 128.0], ["my", "mx"]), "it has changed, the counts have not"


def test_the_display_of_a_run_that_ran_backwards(client: TestClient, run: SyntheticRun, redis: Connection) -> None:
    assert data(client, "run-1")["attributes"]["display"] == dict.fromkeys(
        ("transpose", "flip_rows", "flip_cols"), False
    )
    before = maps(client, "raw")
    runs.write_status(redis, "run-1", info=replace(run.info, step=(-0.25, 0.25), horizontal="slow", vertical="up"))
    found = data(client, "run-1")["attributes"]["display"]
    assert found == {"transpose": True, "flip_rows": True, "flip_cols": True}
    np.testing.assert_array_equal(maps(client, "raw"), before, "arrays stay in scan order")


def test_means_of_a_region_leave_out_what_is_not_measured(client: TestClient) -> None:
    found = data(client, "run-1/roi?rows=8:12&cols=2:8")["lines"]["Fe_Ka"]
    raw, denoised = maps(client, "raw")[1, 8:12, 2:8], maps(client, "denoised")[1, 8:12, 2:8]
    assert found["n"] == 6 + 2 == np.isfinite(raw).sum()
    assert found["raw"] == pytest.approx(np.nanmean(raw))
    assert found["raw_error"] == pytest.approx(np.sqrt(np.nansum(raw)) / 8)
    assert found["denoised"] == pytest.approx(np.nanmean(denoised))
    assert data(client, "run-1/roi")["lines"]["Fe_Ka"]["n"] == 94


def test_a_profile_runs_from_centre_to_centre(client: TestClient, run: SyntheticRun) -> None:
    found = data(client, "run-1/profile?from=1,2&to=5,2")
    raw = maps(client, "raw")
    np.testing.assert_allclose(found["lines"]["Ca_Ka"]["raw"], raw[0, 1:6, 2], rtol=1e-6)
    step = run.info.step[0] if run.info.step else 1.0
    assert found["distance"]["values"] == pytest.approx([i * step for i in range(5)])
    wide = data(client, "run-1/profile?from=1,2&to=5,2&width=3")
    np.testing.assert_allclose(wide["lines"]["Ca_Ka"]["raw"], raw[0, 1:6, 1:4].mean(1), rtol=1e-6)
    assert wide["lines"]["Ca_Ka"]["n"] == [3] * 5
    assert len(data(client, "run-1/profile?from=0,0&to=3,4")["lines"]["Ca_Ka"]["raw"]) == 6


def test_earlier_states_of_the_maps_can_be_read_again(client: TestClient, run: SyntheticRun) -> None:
    first, second = (state["attributes"] for state in data(client, "run-1/history"))
    assert (first["version"], first["rows"], second["rows"]) == (1, 6, 9)
    assert first["maps"] and second["maps"] and first["lines"]["Ca_Ka"]["dwell_gain"] > 1
    early, now = maps(client, "denoised", version=1), maps(client, "denoised")
    assert np.isfinite(early[:, :6]).all() and np.isnan(early[:, 6:]).all()
    assert np.isfinite(now[:, :9]).all()
    assert not np.array_equal(early[:, :6], now[:, :6])  # it was denoised again since
    np.testing.assert_array_equal(maps(client, "denoised", version=2), now)
    answer = client.get("/api/v1/runs/run-1/maps/denoised/Fe_Ka?version=1&format=npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), early[1])
    assert answer.headers["x-version"] == "1"


def test_history_is_bounded_and_keeps_its_ends(run: SyntheticRun) -> None:
    history = MapHistory(run.buffer)
    history.max_maps = 4
    for version in range(3, 30):
        history.add(version, run.evidence(final=False, improved=True), run.buffer.measured())
    states = history.states()
    assert [s.version for s in states] == list(range(1, 30))
    kept = [s.version for s in states if s.maps]
    assert len(kept) == 4 and kept[0] == 1 and kept[-1] == 29
    assert len(thinned(states, 10)) == 10 and thinned(states, 10)[-1].version == 29
    # a worker that begins anew goes on from the version in the buffer: nothing is there twice
    history.add(20, run.evidence(final=False, improved=True), run.buffer.measured())
    assert [s.version for s in history.states()] == list(range(1, 21))


def test_states_of_version_0_1_get_a_verdict(run: SyntheticRun) -> None:
    file = next(run.buffer.path.rglob("states.jsonl"))
    now = MapHistory(run.buffer).states()
    old = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    for line in (line for state in old for line in state["lines"].values()):
        del line["verdict"]
    file.write_bytes(b"".join(orjson.dumps(state) + b"\n" for state in old))
    assert MapHistory(run.buffer).states() == now
    assert {line["verdict"] for line in now[-1].lines.values()} == {"improved", "kept_raw"}


def test_every_detector_says_how_it_does(client: TestClient, run: SyntheticRun, redis: Connection) -> None:
    evidence = run.evidence(final=False, improved=True)
    first, *others = run.info.detectors
    lines = [replace(line, excluded_detectors={first: "dead: no counts"}) for line in evidence.lines[:1]]
    detectors = [DetectorEvidence(detector=first, gains={"Zn_Ka": 0.3}, total_counts=7.0, drift=0.02)]
    runs.write_status(
        redis, "run-1", evidence=replace(evidence, lines=(*lines, *evidence.lines[1:]), detectors=tuple(detectors))
    )
    found = {one["id"]: one["attributes"] for one in data(client, "run-1/detectors")}
    assert list(found) == list(run.info.detectors)
    assert found[first]["lines"]["Ca_Ka"] == {"gain": None, "excluded": "dead: no counts"}
    assert found[first]["lines"]["Zn_Ka"] == {"gain": 0.3, "excluded": None}
    assert (found[first]["total_counts"], found[first]["drift"]) == (7.0, 0.02)
    assert found[others[0]]["total_counts"] is None


@pytest.mark.parametrize(("address", "shape"), [("raw", (3, 12, 10)), ("denoised/Fe_Ka", (1, 12, 10))])
def test_hdf5_is_nexus(client: TestClient, run: SyntheticRun, address: str, shape: tuple[int, ...]) -> None:
    answer = client.get(f"/api/v1/runs/run-1/maps/{address}?format=hdf5").raise_for_status()
    kind = address.partition("/")[0]
    with h5py.File(io.BytesIO(answer.content)) as file:
        group = file["entry"][kind]
        assert group.attrs["NX_class"] == "NXdata" and list(group.attrs["axes"]) == ["line", "row", "col"]
        assert group["data"].shape == shape and group["row"].shape == (12,)
        assert file["entry/run_uid"][()].decode() == "run-1"
    measured = client.get("/api/v1/runs/run-1/maps/measured", headers={"Accept": "application/x-hdf5"})
    with h5py.File(io.BytesIO(measured.content)) as file:
        assert file["entry/measured"][()].sum() == 94
    earlier = client.get("/api/v1/runs/run-1/maps/denoised?format=hdf5&version=1").raise_for_status()
    with h5py.File(io.BytesIO(earlier.content)) as file:
        assert "entry/uncertainty/data" in file and "entry/raw" not in file, "of earlier versions two kinds are kept"


def layout(file: h5py.File) -> dict[str, object]:
    """Every group and dataset with its attributes, type and shape; of the evidence, which differs, only its names."""
    found: dict[str, object] = {"": dict(file.attrs)}

    def see(name: str, thing: h5py.Group | h5py.Dataset) -> None:
        attributes = {key: np.asarray(value).tolist() for key, value in thing.attrs.items()}
        if name.startswith("entry/evidence/"):
            attributes = {"NX_class": attributes["NX_class"], "line": attributes["line"]}
        found[name] = (attributes, (thing.dtype, thing.shape) if isinstance(thing, h5py.Dataset) else None)

    file.visititems(see)
    return found


@pytest.mark.parametrize("positions", [False, True])
def test_hdf5_has_the_layout_of_the_files_of_denoise(
    settings: Settings, redis: Connection, client: TestClient, tmp_path: Path, positions: bool
) -> None:
    axes = ("samy", "samx")
    run = SyntheticRun(settings.runs_dir, redis, uid="whole", shape=(24, 20), lines=LINES, time_start=1.0)
    if positions:
        rows, cols = 5 + 0.5 * np.arange(24.0), np.cumsum(np.linspace(1, 2, 20))  # uneven
        info = replace(run.info, uid="placed", axes=axes, position_axes=axes[::-1], has_positions=True, units="mm")
        info = replace(info, step=None, origin=None, row_positions=tuple(rows), col_positions=tuple(cols))
        there = np.stack(np.meshgrid(rows, cols, indexing="ij"))
        buffer = RunBuffer.create(settings.runs_dir, info)
        for row in range(24):
            counts = np.random.default_rng(row).poisson(3, (4, 3, 20)).astype(np.uint32)
            block = RowBlock(counts=counts, measured=np.ones(20, bool), positions=there[:, row])
            buffer.write_row(row, block)
        run.info, run.buffer, run.uid, run.rows = info, buffer, "placed", 24
        runs.register_run(redis, "placed", 1.0)
        runs.write_status(redis, "placed", info=info, rows_measured=24, pixels_measured=480)
    else:
        run.add_rows(24)
    run.denoise(final=True)
    out = tmp_path / "out.nxs"
    done = CliRunner().invoke(app, ["denoise", str(run.buffer.path), "-o", str(out), "--budget", "0"])
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    answer = client.get(f"/api/v1/runs/{run.uid}/maps/denoised?format=hdf5").raise_for_status()
    with h5py.File(out) as ours, h5py.File(io.BytesIO(answer.content)) as sent:
        assert layout(ours) == layout(sent)
        for name in ("denoised/row", "raw/col", "run_uid", "plan", "pixel_order", "measured"):
            assert np.array_equal(ours[f"entry/{name}"][()], sent[f"entry/{name}"][()]), name
        assert ours["entry/title"][()] == sent["entry/title"][()]
        if positions:
            np.testing.assert_allclose(sent["entry/raw/col"], cols)
            np.testing.assert_allclose(ours["entry/positions/row"], there[0])
            assert sent["entry/raw/col"].attrs["long_name"] == "samx" and sent["entry/raw/col"].attrs["units"] == "mm"
    (tmp_path / "sent.h5").write_bytes(answer.content)
    again = read_map(tmp_path / "sent.h5")  # what was sent can be denoised once more
    assert again.counts.shape == (1, 3, 24, 20) and again.metadata["uid"] == run.uid and again.axes is not None


def test_runs_are_found_by_what_they_are(client: TestClient, settings: Settings, redis: Connection) -> None:
    now = time.time()
    SyntheticRun(settings.runs_dir, redis, uid="old", shape=(4, 4), lines=LINES, time_start=now - 90_000)

    def uids(query: str) -> list[str]:
        return [one["id"] for one in client.get(f"/api/v1/runs?{query}").raise_for_status().json()["data"]]

    assert uids("") == ["run-1", "old"]
    assert uids(f"since={now - 3600}") == ["run-1"]
    assert uids(f"until={now - 3600}") == ["old"]
    assert uids("plan=fly_raster") == ["run-1", "old"] and uids("plan=other") == []
    assert uids("metadata=sample:frozen cell 7&metadata=plan_name:fly_raster") == ["run-1", "old"]
    assert uids("metadata=sample:rock") == []
    scan_id = data(client, "run-1")["attributes"]["scan_id"]
    assert "run-1" in uids(f"scan_id={scan_id}") and uids("scan_id=987654") == []
    first = client.get("/api/v1/runs?plan=fly_raster&page[limit]=1").json()
    assert first["meta"]["count"] == 2 and "plan=fly_raster" in first["links"]["next"]
    assert client.get(first["links"]["next"]).json()["data"][0]["id"] == "old"


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [
        ("run-1/pixel?row=12&col=0", 400, "12 is outside"),
        ("run-1/pixel?row=-1&col=0", 422, ""),
        ("run-1/pixel?row=1", 422, ""),
        ("run-1/profile?from=1&to=2,2", 400, "ROW,COL"),
        ("run-1/profile?from=1,1&to=2,99", 400, "col 99"),
        ("run-1/roi?rows=20:30", 400, "selects nothing"),
        ("run-1/roi?rows=a", 400, "START:STOP"),
        ("run-1/maps/denoised?version=77", 404, "version 77 of the maps is not kept; there are 1, 2"),
        ("run-1/maps/raw?version=1", 404, "denoised and uncertainty"),
        ("run-1/maps/denoised?format=hdf5&slice=0", 400, "slice="),
        ("nobody/history", 404, "no run"),
        ("?metadata=sample", 400, "KEY:VALUE"),
    ],
)
def test_bad_questions_get_a_sentence(client: TestClient, address: str, status: int, says: str) -> None:
    answer = client.get(f"/api/v1/runs/{address}".replace("/?", "?"))
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"] and ".py" not in answer.text and "/tmp" not in answer.text
