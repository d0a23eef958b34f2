"""Lines of any name over REST, in every format, and in the report; the links of the answers lead to their maps."""

from __future__ import annotations

import html
import io
import json
import time
from collections.abc import Iterator
from urllib.parse import quote, unquote

import h5py
import httpx
import numpy as np
import pytest
from serve_kit import HEADER, KEY, served, with_serve

from browser.synthetic_run import SyntheticRun
from quietbeam.client import Client
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.files import read_map

NAMES = ("Fe Kα", "鉄_Ka", "a/b", "a_b", "/lead", "Ca%2FKa", 'quote"d', "Ĉu_Kβ₁ & <b>?#;", "😀", "..hidden", "e\u0301")


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    run = SyntheticRun(settings.runs_dir, redis, uid="run-1", shape=(6, 5), lines=NAMES, time_start=time.time() - 60)
    run.add_rows(6)
    run.denoise(final=True)
    return run


@pytest.fixture
def client(settings: Settings, run: SyntheticRun) -> Iterator[httpx.Client]:
    """Of a real server: the client of Starlette decodes an address twice."""
    with (
        served(with_serve(settings, port=0)) as host,
        httpx.Client(base_url=f"http://{host}", headers=HEADER) as client,
    ):
        yield client


def test_every_format_of_every_line(client: httpx.Client) -> None:
    every = np.load(io.BytesIO(client.get("/api/v1/runs/run-1/maps/denoised?format=npy").content))
    for name in NAMES:
        see_formats(client, name, every)


def see_formats(client: httpx.Client, name: str, every: np.ndarray) -> None:
    address = f"/api/v1/runs/run-1/maps/denoised/{quote(name, safe='')}"
    for form in ("json", "npy", "png", "octet-stream", "csv", "tiff", "hdf5"):
        answer = client.get(address, params={"format": form})
        assert answer.status_code == 200, f"{form}: {answer.text}"
        again = client.get(address, params={"format": form}, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304 and again.headers["etag"] == answer.headers["etag"]
        if form == "npy":
            np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), every[NAMES.index(name)])
        if form == "json":
            assert answer.json()["meta"]["line"] == name
        if form == "hdf5":
            with h5py.File(io.BytesIO(answer.content)) as file:
                assert [one.decode() for one in file["entry/denoised/line_names"]] == [name]
                np.testing.assert_array_equal(file["entry/denoised/data"][0], every[NAMES.index(name)])
    saved = client.get(address, params={"format": "csv", "filename": "Fe Kα 鉄.csv"})
    assert saved.headers["content-disposition"] == (
        f"attachment; filename=\"Fe K_ _.csv\"; filename*=UTF-8''{quote('Fe Kα 鉄.csv', safe='')}"
    )


def test_links_lead_to_the_maps(client: httpx.Client) -> None:
    for kind in client.get("/api/v1/runs/run-1/maps").json()["data"]:
        for name in NAMES:
            answer = client.get(kind["links"][name], params={"format": "json"})
            assert answer.status_code == 200 and kind["links"][name].isascii()
            assert unquote(kind["links"][name].rpartition("/")[2]) == name
    text = client.get("/api/v1/runs/run-1/maps/raw/no%2Fsuch").json()["detail"]
    assert "line 'no/such' is not measured" in text


def test_all_lines_with_their_evidence(client: httpx.Client, tmp_path) -> None:
    for address in ("pixel?row=1&col=1", "roi?rows=0:2", "profile?from=0,0&to=3,3"):
        assert set(client.get(f"/api/v1/runs/run-1/{address}").json()["data"]["lines"]) == set(NAMES)
    evidence = client.get("/api/v1/runs/run-1/evidence").json()["data"]["lines"]
    assert [line["line"] for line in evidence] == list(NAMES)
    report = client.get("/api/v1/runs/run-1/report").text
    assert all(f"<h3>{name}</h3>" in html.unescape(report) for name in NAMES) and "<b>?#;" not in report
    whole = client.get("/api/v1/runs/run-1/maps/denoised?format=hdf5")
    with h5py.File(io.BytesIO(whole.content)) as file:
        assert sorted(group.attrs["line"] for group in file["entry/evidence"].values()) == sorted(NAMES)
        assert [line["line"] for line in json.loads(file["entry/process/evidence"][()])["lines"]] == list(NAMES)
    (tmp_path / "run.h5").write_bytes(whole.content)
    assert read_map(tmp_path / "run.h5").lines == NAMES


def test_the_python_client(client: httpx.Client) -> None:
    with Client(str(client.base_url), KEY) as quietbeam:
        found = quietbeam.run("run-1")
        every = found.maps("raw").values
        for n, name in enumerate(NAMES):
            np.testing.assert_array_equal(found.maps("raw", name).values, every[n])
