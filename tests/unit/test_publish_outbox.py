"""Bands that only widen, versions without gaps, growing patience; how answers of Tiled become errors."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietbeam.core.errors import ServiceError
from quietbeam.core.model.types import RunInfo
from quietbeam.core.settings import Settings
from quietbeam.core.wire.runs import RunStatus
from quietbeam.publish.outbox import BACKOFF_S, Parcel, next_due
from quietbeam.publish.provenance import container_metadata
from quietbeam.publish.publication import MESSAGE_BYTES, even_chunk
from quietbeam.publish.tiled_api import (
    TiledApi,
    TiledAwayError,
    TiledBusyError,
    TiledMissingError,
    TiledRefusedError,
    array_body,
)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=20))
def test_band_covers_every_change_and_a_gap_means_everything(changes: list[tuple[int, int, int]]) -> None:
    parcel = Parcel(uid="r", whole=False, described=False)
    version, gap = 0, False
    for first, n, step in changes:
        gap |= step != 1
        version += step
        parcel.changed(first, first + n, version)
    assert parcel.rows is not None
    assert all(parcel.rows[0] <= first and first + n <= parcel.rows[1] for first, n, _ in changes)
    assert parcel.whole == gap and parcel.version == version
    parcel.sent(0.0)
    assert not parcel.waiting
    parcel.changed(0, 1, version)
    assert parcel.whole, "a repeated wake-up proves nothing about what was sent"


def test_patience_grows_and_ends_with_success() -> None:
    parcel = Parcel(uid="r")
    waits = []
    for _ in range(len(BACKOFF_S) + 2):
        parcel.due = 0.0
        before = parcel.due
        parcel.failed("no")
        waits.append(parcel.due - before)
    assert waits == sorted(waits) and parcel.waiting
    parcel.sent(0.0)
    assert parcel.failures == 0 and parcel.reason == ""


def test_who_waits_longest_is_next() -> None:
    early, late, idle = Parcel(uid="a", due=1.0), Parcel(uid="b", due=0.5), Parcel(uid="c", due=0.0)
    idle.sent(-1.0)
    never = Parcel(uid="d", due=float("inf"))
    assert next_due([early, late, idle, never]) is late
    assert next_due([never]) is None


@given(st.integers(1, 5000), st.integers(4, 10**6))
def test_chunks_divide_the_rows(rows: int, row_bytes: int) -> None:
    chunk = even_chunk(rows, row_bytes)
    assert rows % chunk == 0
    assert chunk <= 64 or chunk * row_bytes <= MESSAGE_BYTES


def test_array_body_says_axes_and_type() -> None:
    body = array_body((2, 128, 10), ("line", "row", "col"), (2, 64, 10), "float32", {})
    structure = body["data_sources"][0]["structure"]
    assert structure["chunks"] == [[2], [64, 64], [10]] and structure["dims"] == ["line", "row", "col"]
    assert structure["data_type"] == {"endianness": "little", "kind": "f", "itemsize": 4, "dt_units": None}
    flags = array_body((4, 4), ("row", "col"), (4, 4), "bool", {})["data_sources"][0]["structure"]["data_type"]
    assert flags["kind"] == "b" and flags["endianness"] == "not_applicable"


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (401, TiledRefusedError, "QUIETBEAM_TILED__API_KEY"),
        (403, TiledRefusedError, "QUIETBEAM_TILED__API_KEY"),
        (404, TiledMissingError, "no such node"),
        (409, TiledRefusedError, "409"),
        (422, TiledRefusedError, "the reason"),
        (429, TiledBusyError, "429"),
        (500, TiledBusyError, "the reason"),
        (503, TiledBusyError, "503"),
    ],
)
def test_answers_become_errors_that_say_what_to_do(code: int, error: type[ServiceError], words: str) -> None:
    answer = httpx.MockTransport(lambda _: httpx.Response(code, json={"detail": "the reason"}))
    api = TiledApi("http://tiled:8000/api/v1", "thekey", transport=answer)
    with pytest.raises(error, match=words) as caught:
        api.write("quietbeam/r/raw", np.zeros((1, 1, 1), "float32"))
    assert "thekey" not in str(caught.value)


def test_nobody_answers() -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    api = TiledApi("http://tiled:8000", "k", transport=httpx.MockTransport(refuse))
    with pytest.raises(TiledAwayError, match=r"http://tiled:8000/api/v1 does not answer \(Connection refused\)"):
        api.node("quietbeam")


def test_key_in_the_uri_is_not_kept() -> None:
    seen: list[httpx.URL] = []

    def look(request: httpx.Request) -> httpx.Response:
        seen.append(request.url)
        return httpx.Response(200, json={"data": {"attributes": {}}})

    api = TiledApi("http://tiled:8000/api/v1/?api_key=inurl", "k", transport=httpx.MockTransport(look))
    api.node("quietbeam")
    assert str(seen[0]) == "http://tiled:8000/api/v1/metadata/quietbeam" and "inurl" not in api.uri


def test_provenance_is_plain_json_and_complete() -> None:
    import orjson

    info = RunInfo(uid="u", lines=("Fe_Ka",), detectors=("d1",), shape=(2, 2), metadata={"sample": "cell"})
    status = RunStatus(uid="u", info=info, warnings=("gap in row 1",))
    metadata = container_metadata(Settings(), info, status, {"version": 3, "final": True, "refined": False})
    assert orjson.loads(orjson.dumps(metadata)) == metadata
    assert metadata["raw_run_uid"] == "u" and metadata["start"] == {"sample": "cell"}
    assert metadata["warnings"] == ["gap in row 1"] and metadata["maps"] == {
        "version": 3,
        "final": True,
        "refined": False,
    }
    assert metadata["settings"]["seed"] == 0


def test_evidence_of_version_0_1_reaches_tiled_with_a_verdict() -> None:
    info = RunInfo(uid="u", lines=("Fe_Ka",), detectors=("d1",), shape=(2, 2))
    old = {"rows": 2, "lines": [{"line": "Fe_Ka", "estimator": "raw", "proven": True, "candidates": {"smoother": 0.5}}]}
    [line] = container_metadata(Settings(), info, RunStatus(uid="u", info=info), {"evidence": old})["evidence"]["lines"]
    assert line["verdict"] == "kept_raw" and line["verdict_reason"] and "proven" not in line
