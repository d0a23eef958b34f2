"""Maps over the API, in every format, against the buffer: over ASGI, with a real Valkey and real zarr buffers."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from serve_kit import HEADER, LINES, make_run, stack, with_serve
from starlette.testclient import TestClient

from browser.synthetic_run import SyntheticRun
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve import create_app


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_serve(settings)


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    return make_run(settings, redis)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=HEADER, raise_server_exceptions=False) as client:
        yield client


def test_stacks_hold_what_the_buffer_holds_and_nan_elsewhere(client: TestClient, run: SyntheticRun) -> None:
    raw, denoised, uncertainty = (stack(client, kind) for kind in ("raw", "denoised", "uncertainty"))
    measured = run.buffer.measured()
    assert raw.shape == (3, 12, 10)
    np.testing.assert_array_equal(np.isfinite(raw), np.broadcast_to(measured, raw.shape))
    np.testing.assert_array_equal(raw[:, measured], run.buffer.read_counts().sum(axis=0)[:, measured])
    assert np.isfinite(denoised[:, :6]).all()
    assert np.isnan(denoised[:, 6:]).all(), "a measured row that is not denoised yet must not look like 0 counts"
    np.testing.assert_array_equal(denoised[:, :6], run.buffer.read_map("denoised")[:, :6])
    np.testing.assert_array_equal(uncertainty[:, :6], run.buffer.read_map("uncertainty")[:, :6])
    np.testing.assert_allclose(stack(client, "residual")[:, :6], raw[:, :6] - denoised[:, :6])
    np.testing.assert_array_equal(stack(client, "measured"), measured)


def test_raw_is_there_before_and_without_a_denoiser(client: TestClient, settings: Settings, redis: Connection) -> None:
    run = SyntheticRun(settings.runs_dir, redis, uid="fresh", shape=(4, 5), lines=LINES)
    assert np.isnan(stack(client, "raw")).all()
    run.add_rows(2)
    raw = stack(client, "raw")
    np.testing.assert_array_equal(raw[:, :2], run.buffer.read_counts().sum(axis=0)[:, :2])
    assert np.isnan(raw[:, 2:]).all()
    assert client.get("/api/v1/runs/latest/maps/raw?format=npy").headers["x-plain-rows"] == "2"


def test_a_measured_row_without_a_single_count_is_denoised_like_others(
    client: TestClient, settings: Settings, redis: Connection
) -> None:
    run = SyntheticRun(settings.runs_dir, redis, uid="dark", shape=(5, 6), lines=LINES)
    run.truth[:, [1, 3]] = 0
    run.add_rows(3)
    run.denoise()
    run.add_rows(2)
    for kind in ("denoised", "uncertainty"):
        values = stack(client, kind)
        np.testing.assert_array_equal(values[:, :3], run.buffer.read_map(kind)[:, :3])
        assert np.isnan(values[:, 3:]).all(), "rows that the worker has not reached"
    run.denoise(final=True, improved=False)
    np.testing.assert_array_equal(stack(client, "denoised"), run.buffer.read_map("denoised"))


@pytest.mark.supports("geometry", "irregular points: holes filled for looking at (`fill=nearest`), never in the mask")
def test_holes_are_filled_for_looking_at(client: TestClient, run: SyntheticRun) -> None:
    plain = stack(client, "denoised")  # rows 0 to 5 are measured: those that follow are no holes
    answer = client.get("/api/v1/runs/latest/maps/denoised?format=npy&fill=nearest")
    filled = np.load(io.BytesIO(answer.content))
    rows = int(np.isfinite(plain[0]).all(axis=1).sum())
    np.testing.assert_array_equal(filled[:, :rows], plain[:, :rows])
    np.testing.assert_array_equal(filled[:, rows : rows + 2], plain[:, [rows - 1, rows - 1]])
    assert np.isnan(filled[:, rows + 2 :]).all()
    assert answer.headers["x-filled"] == str(2 * plain.shape[2])
    assert answer.headers["etag"] != client.get("/api/v1/runs/latest/maps/denoised?format=npy").headers["etag"]
    for refused in ("measured?fill=nearest", "denoised?format=hdf5&fill=nearest"):
        assert client.get(f"/api/v1/runs/latest/maps/{refused}").status_code == 400


def test_every_change_changes_the_tag_and_the_content(client: TestClient, run: SyntheticRun) -> None:
    address = "/api/v1/runs/latest/maps/raw?format=octet-stream"
    first = client.get(address)
    assert client.get(address, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    assert client.get(address, headers={"If-None-Match": f'W/"x", {first.headers["etag"]}'}).status_code == 304
    run.add_rows(1)
    second = client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert second.status_code == 200
    assert (
        np.isfinite(np.frombuffer(second.content, "<f4")).sum() > np.isfinite(np.frombuffer(first.content, "<f4")).sum()
    )
    run.denoise()
    third = client.get(address, headers={"If-None-Match": second.headers["etag"]})
    assert third.status_code == 200
    assert int(third.headers["x-version"]) > int(second.headers["x-version"])


def test_one_line_comes_in_every_format(client: TestClient, run: SyntheticRun) -> None:
    here = "/api/v1/runs/latest/maps/raw/Fe_Ka"
    expected = stack(client, "raw")[1]
    body = client.get(here).json()["data"]
    assert body["shape"] == [12, 10]
    assert body["values"][11] == [None] * 10, "JSON has null where nothing is measured"
    np.testing.assert_array_equal(np.array(body["values"], float), expected)
    np.testing.assert_array_equal(np.load(io.BytesIO(client.get(here + "?format=npy").content)), expected)
    octets = client.get(here, headers={"Accept": "application/octet-stream"})
    np.testing.assert_array_equal(np.frombuffer(octets.content, "<f4").reshape(12, 10), expected)
    table = np.genfromtxt(io.BytesIO(client.get(here + "?format=text/csv").content), delimiter=",")
    np.testing.assert_allclose(table, expected)
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(client.get(here + "?format=tiff").content))), expected
    )
    png = client.get(here + "?format=png&zoom=3&cmap=magma&scale=log&vmax=20")
    assert png.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(png.content)).size == (30, 36)
    saved = client.get(here + "?format=csv&filename=iron map.csv")
    assert saved.headers["content-disposition"] == 'attachment; filename="iron map.csv"'
    mask = client.get("/api/v1/runs/latest/maps/measured/Fe_Ka").json()["data"]["values"]
    assert mask[7] == [True] * 4 + [False] * 6


def test_slices_cut_like_numpy(client: TestClient, run: SyntheticRun) -> None:
    raw = stack(client, "raw")
    np.testing.assert_array_equal(stack(client, "raw", "&slice=1,::2,3:7"), raw[1, ::2, 3:7])
    np.testing.assert_array_equal(stack(client, "measured", "&slice=2:5"), run.buffer.measured()[2:5])
    body = client.get("/api/v1/runs/latest/maps/raw/Fe_Ka?slice=0,2").json()["data"]
    assert body["values"] == raw[1, 0, 2]


def test_maps_are_listed_with_links_that_work(client: TestClient, run: SyntheticRun) -> None:
    body = client.get("/api/v1/runs/latest/maps").json()
    assert [entry["id"] for entry in body["data"]] == ["raw", "denoised", "uncertainty", "residual", "chi2", "measured"]
    for entry in body["data"]:
        for link in entry["links"].values():
            assert client.get(link).status_code == 200
