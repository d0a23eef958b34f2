"""Named regions over the API: made, kept with the run, read, exported, deleted."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import pytest
from serve_kit import HEADER, KEY, LINES, make_run, problem, served, with_serve
from starlette.testclient import TestClient

from browser.synthetic_run import SyntheticRun
from quietbeam.client import Client
from quietbeam.core.errors import QuietbeamError
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve import create_app
from quietbeam.serve.state.regions import FILE, MAX_REGIONS

BOX = {"kind": "rectangle", "rows": [1, 4], "cols": [2, 6]}
HERE = "/api/v1/runs/run-1/regions"


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    return make_run(settings, redis)


@pytest.fixture
def client(settings: Settings, run: SyntheticRun) -> Iterator[TestClient]:
    with TestClient(create_app(with_serve(settings)), headers=HEADER, raise_server_exceptions=False) as client:
        yield client


def maps(client: TestClient, kind: str) -> np.ndarray:
    answer = client.get(f"/api/v1/runs/run-1/maps/{kind}?format=npy").raise_for_status()
    return np.load(io.BytesIO(answer.content))


def put(client: TestClient, name: str, body: Any) -> Any:
    return client.put(f"{HERE}/{name}", json=body)


def test_a_region_is_kept_with_the_run_and_read_for_every_line(client: TestClient, settings: Settings) -> None:
    made = put(client, "nucleus", BOX)
    assert made.status_code == 201 and made.headers["location"] == f"{HERE}/nucleus"
    assert put(client, "nucleus", BOX).status_code == 200, "the same again replaces it"
    raw, denoised, error = (maps(client, kind)[:, 1:4, 2:6] for kind in ("raw", "denoised", "uncertainty"))
    with TestClient(create_app(with_serve(settings)), headers=HEADER) as another:  # another process
        found = another.get(f"{HERE}/nucleus").raise_for_status().json()["data"]
    assert found["units"] == "counts" and found["region"]["pixels"] == 12
    for j, line in enumerate(LINES):
        one, two = found["lines"][line]["raw"], found["lines"][line]["denoised"]
        assert one["n"] == 12 and one["sum"]["value"] == pytest.approx(raw[j].sum())
        assert one["mean"]["error"] == pytest.approx(max(raw[j].sum(), 1) ** 0.5 / 12)
        assert one["median"]["value"] == pytest.approx(np.median(raw[j]))
        assert two["mean"]["value"] == pytest.approx(denoised[j].mean(), rel=1e-5)
        assert two["mean"]["error"] == pytest.approx(error[j].mean(), rel=1e-5)
        assert two["maximum"]["value"] == pytest.approx(denoised[j].max(), rel=1e-6)
        assert sum(one["histogram"]["pixels"]) == 12
    roi = client.get("/api/v1/runs/run-1/roi?rows=1:4&cols=2:6").json()["data"]["lines"]["Fe_Ka"]
    assert roi["raw"] == pytest.approx(found["lines"]["Fe_Ka"]["raw"]["mean"]["value"])


def test_polygons_thresholds_csv_and_masks(client: TestClient) -> None:
    put(client, "box", BOX).raise_for_status()
    put(client, "=cmd", {"kind": "lasso", "points": [[0, 0], [0, 8], [5, 4]]}).raise_for_status()
    middle = float(np.nanmedian(maps(client, "denoised")[1]))
    bright = put(client, "bright", {"kind": "threshold", "line": "Fe_Ka", "low": middle}).raise_for_status()
    assert bright.json()["data"]["maps_version"] == 1 and bright.json()["data"]["definition"]["map"] == "denoised"
    listed = client.get(HERE).json()
    assert [one["name"] for one in listed["data"]] == ["box", "=cmd", "bright"] and listed["meta"]["count"] == 3
    text = client.get(f"{HERE}?format=csv&units=counts/s").raise_for_status()
    assert text.headers["content-type"].startswith("text/csv") and "attachment" in text.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(text.text)))
    assert len(rows) == 3 * len(LINES) * 2 and {row["unit"] for row in rows} == {"counts/s"}
    assert rows[6]["region"] == "'=cmd", "no spreadsheet takes a name for a formula"
    assert all(float(row["mean"]) > 0 for row in rows if row["map"] == "denoised" and row["line"] == "Ca_Ka")
    file = client.get("/api/v1/runs/run-1/maps/denoised?format=hdf5").raise_for_status()
    with h5py.File(io.BytesIO(file.content)) as nexus:
        masks = nexus["entry/regions"]
        assert masks.attrs["NX_class"] == "NXcollection" and masks["box"].attrs["name"] == "box"
        assert np.array_equal(np.argwhere(masks["box"][()]).min(0), [1, 2]) and masks["box"][()].sum() == 12
        assert np.array_equal(masks["bright"][()], np.nan_to_num(maps(client, "denoised")[1], nan=-1) >= middle)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"kind": "rectangle", "rows": [0, 99], "cols": [0, 1]}, 400, "outside the map"),
        ({"kind": "polygon", "points": [[1, 1], [6, 6], [1, 6], [6, 1]]}, 400, "crosses itself"),
        ({"kind": "threshold", "line": "Fe_Ka", "low": 1e9}, 400, "no pixel lies between"),
        ({"kind": "threshold", "line": "Xx_Ka", "low": 1}, 404, "it has Ca_Ka"),
        ({"kind": "cluster"}, 422, "kind"),
        ({"kind": "rectangle", "rows": [0, 1], "cols": [0, 1], "more": 1}, 422, "more"),
        ({"kind": "polygon", "points": [[1, 1, 1]]}, 422, "points"),
    ],
)
def test_what_is_no_region_is_refused_and_nothing_is_kept(
    client: TestClient, body: Any, status: int, words: str, settings: Settings
) -> None:
    assert words in problem(put(client, "a", body), status)
    assert not (settings.runs_dir / "run-1" / FILE).exists()


def test_regions_are_changed_by_uid_and_deleted(client: TestClient, settings: Settings) -> None:
    assert "latest may be another run" in problem(client.put("/api/v1/runs/latest/regions/a", json=BOX), 409)
    assert "there are none" in problem(client.delete(f"{HERE}/a"), 404)
    put(client, "a", BOX).raise_for_status()
    assert client.delete(f"{HERE}/a").raise_for_status().json()["data"] == []
    assert "there are none" in problem(client.get(f"{HERE}/a"), 404)
    for n in range(MAX_REGIONS):
        put(client, f"r{n}", BOX).raise_for_status()
    assert "at most 64 regions" in problem(put(client, "one more", BOX), 400)
    (settings.runs_dir / "run-1" / FILE).write_text("{", encoding="utf-8")
    assert "regions of run run-1 cannot be read" in client.get(HERE).json()["detail"]


def test_the_python_client_keeps_reads_and_deletes(settings: Settings, run: SyntheticRun) -> None:
    with served(with_serve(settings, port=0)) as address, Client(f"http://{address}", KEY) as connection:
        here = connection.run("run-1")
        here.keep_region("Kern β", kind="rectangle", rows=[1, 4], cols=[2, 6])
        assert [one["pixels"] for one in here.regions()] == [12]
        assert here.region("Kern β", units="counts/s")["units"] == "counts/s"
        with pytest.raises(QuietbeamError, match="crosses itself"):
            here.keep_region("x", kind="polygon", points=[[1, 1], [6, 6], [1, 6], [6, 1]])
        here.delete_region("Kern β")
        assert here.regions() == []


def test_two_lines_against_each_other(client: TestClient) -> None:
    put(client, "box", {"kind": "rectangle", "rows": [0, 6], "cols": [0, 10]}).raise_for_status()
    address = "/api/v1/runs/run-1/correlation"
    found = client.get(f"{address}?x=Ca_Ka&y=Fe_Ka&region=box").raise_for_status().json()["data"]
    raw = maps(client, "raw")[:, :6].reshape(len(LINES), -1)
    assert found["correlation"]["n"] == 60
    assert found["correlation"]["measured"] == pytest.approx(np.corrcoef(raw[0], raw[1])[0, 1])
    assert found["correlation"]["corrected"] is not None or "noise" in found["correlation"]["reason"]
    assert np.sum(found["histogram"]["pixels"]) == 60 and found["units"] == "counts"
    assert found["histogram"]["x_edges"][-1] == pytest.approx(np.nanmax(maps(client, "denoised")[0]), rel=1e-6)
    rate = client.get(f"{address}?x=Ca_Ka&y=Fe_Ka&map=raw&units=counts/s").raise_for_status().json()["data"]
    assert rate["units"] == "counts/s" and rate["histogram"]["x_edges"][-1] > found["histogram"]["x_edges"][-1]
    assert "choose two lines" in problem(client.get(f"{address}?x=Ca_Ka&y=Ca_Ka"), 400)
    assert "it has Ca_Ka" in problem(client.get(f"{address}?x=Ca_Ka&y=Q"), 404)
    assert "no region 'no'" in problem(client.get(f"{address}?x=Ca_Ka&y=Fe_Ka&region=no"), 404)


def test_clusters_become_regions(client: TestClient, settings: Settings) -> None:
    pytest.importorskip("sklearn", reason="clusters need scikit-learn")
    address = "/api/v1/runs/run-1/clusters"
    put(client, "box", BOX).raise_for_status()
    four = client.post(address, json={"number": 4, "name": "k"})
    assert four.status_code == 201 and [one["name"] for one in four.json()["data"]] == ["k 1", "k 2", "k 3", "k 4"]
    sizes = [one["pixels"] for one in four.json()["data"]]
    assert sum(sizes) == 60 and sizes == sorted(sizes, reverse=True), "every denoised pixel is in one"
    best = client.post(address, json={"name": "k"}).raise_for_status().json()["meta"]
    names = [one["name"] for one in client.get(HERE).json()["data"]]
    assert names == ["box", *(f"k {n + 1}" for n in range(best["number"]))], "those of before are gone"
    assert best["scores"][str(best["number"])] == max(best["scores"].values())
    assert client.get(f"{HERE}/k 1").raise_for_status().json()["data"]["lines"]["Fe_Ka"]["raw"]["n"] > 0
    assert "number" in problem(client.post(address, json={"number": 1}), 422)
    assert "no name of a region" in problem(client.post(address, json={"name": "a/b"}), 400)
    assert "latest" in problem(client.post("/api/v1/runs/latest/clusters"), 409)
