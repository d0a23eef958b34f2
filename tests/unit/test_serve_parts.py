"""Slices, formats, colours, keys: the parts of the API that need no server."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from quietbeam.core.errors import InputError
from quietbeam.core.settings import ServeSettings
from quietbeam.serve.access import check_bind, identity, session
from quietbeam.serve.app import openapi_json
from quietbeam.serve.live.server_events import EventId, ServerEvent
from quietbeam.serve.live.sse import frame
from quietbeam.serve.render import formats
from quietbeam.serve.render.colormaps import DASHBOARD, NOT_MEASURED_RGB, Colouring, draw_png, lookup_tables
from quietbeam.serve.render.slices import parse_slice

AXES = ("line", "row", "col")


@pytest.mark.parametrize("text", ["", "0", "-1", "1:3", ":,::2", "0,1,2", "[1:2,:,5]", ":, 2:4 ,::3", "0:99"])
def test_a_slice_selects_what_numpy_selects(text: str) -> None:
    array = np.arange(3 * 5 * 7).reshape(3, 5, 7)
    expected = eval(f"array[{text.strip('[]') or '...'}]", {"array": array})
    np.testing.assert_array_equal(array[parse_slice(text, array.shape, AXES)], expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:b", "START:STOP:STEP"),
        ("3", "outside the map, which has 3"),
        ("0,5", "row 5 is outside"),
        ("0,0,0,0", "3 axes: line, row, col"),
        ("2:1", "selects nothing"),
        ("::0", "at least 1"),
        ("0,", "no slice"),
        ("1:2:3:4", "no slice"),
        ("9" * 400, "no slice"),
    ],
)
def test_a_bad_slice_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        parse_slice(text, (3, 5, 7), AXES)


@given(st.text(alphabet="0123456789:,-[] ax", max_size=20))
def test_any_slice_text_is_taken_or_refused(text: str) -> None:
    array = np.zeros((3, 5, 7))
    try:
        index = parse_slice(text, array.shape, AXES)
    except InputError:
        return
    assert array[index].size > 0


def test_format_wins_over_accept_and_the_best_accept_wins() -> None:
    possible = ("json", "npy", "png")
    assert formats.choose("png", "application/json", possible) == "png"
    assert formats.choose("image/png", None, possible) == "png"
    assert formats.choose(None, "application/json;q=0.1, image/png;q=0.9", possible) == "png"
    assert formats.choose(None, "text/html, image/*", possible) == "png"
    assert formats.choose(None, "*/*", possible) == "json"
    assert formats.choose(None, None, possible) == "json"
    with pytest.raises(HTTPException) as refused:
        formats.choose("hdf5", "*/*", possible)
    assert refused.value.status_code == 406
    assert "png (image/png)" in refused.value.detail


def test_what_does_not_fit_an_answer_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match="slice="):
        formats.guard_size((8, 4096, 4096), 4, "octet-stream")
    with pytest.raises(InputError, match="format=npy"):
        formats.guard_size((4096, 4096), 4, "json")
    formats.guard_size((8, 1024, 1024), 4, "npy")


def test_png_has_the_colours_of_the_range_and_grey_where_nothing_is_measured() -> None:
    values = np.array([[0.0, 50.0, 100.0, 1000.0, np.nan]], np.float32)
    image = np.asarray(Image.open(io.BytesIO(draw_png(values, Colouring(vmin=0, vmax=100, zoom=2)))))
    assert image.shape == (2, 10, 3)
    table = lookup_tables()["viridis"]
    for col, colour in enumerate((table[0], table[128], table[255], table[255], NOT_MEASURED_RGB)):
        np.testing.assert_array_equal(image[1, 2 * col], colour)


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
def test_scales_keep_the_ends_and_the_order(scale: str) -> None:
    values = np.linspace(0, 7, 200, dtype=np.float32)[None]
    png = draw_png(values, Colouring(cmap="gray", scale=scale, vmin=0, vmax=7))  # type: ignore[arg-type]
    grey = np.asarray(Image.open(io.BytesIO(png)))[0, :, 0].astype(int)
    assert (grey[0], grey[-1]) == (0, 255)
    assert (np.diff(grey) >= 0).all()


def test_a_map_without_any_value_is_all_grey() -> None:
    image = np.asarray(Image.open(io.BytesIO(draw_png(np.full((4, 4), np.nan), Colouring()))))
    assert (image == NOT_MEASURED_RGB).all()


def test_impossible_colours_are_refused() -> None:
    with pytest.raises(InputError, match="viridis"):
        draw_png(np.zeros((2, 2)), Colouring(cmap="jet"))
    with pytest.raises(InputError, match="larger than vmin"):
        draw_png(np.zeros((2, 2)), Colouring(vmin=3, vmax=3))


def test_page_and_png_draw_not_measured_in_the_same_grey() -> None:
    script = (DASHBOARD / "js" / "base" / "colour.js").read_text()
    match = re.search(r"GREY = 0xff(\w{2})(\w{2})(\w{2})", script)
    assert match
    assert tuple(int(part, 16) for part in reversed(match.groups())) == NOT_MEASURED_RGB


def test_the_page_loads_nothing_from_elsewhere_and_nothing_inline() -> None:
    for path in DASHBOARD.rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "://" not in text, path
            assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", text) or path.suffix != ".html", path


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ({"host": "127.0.0.1", "anonymous_read": True}, True),
        ({"host": "::1", "anonymous_read": True}, True),
        ({"host": "localhost", "anonymous_read": True}, True),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "anonymous_read": True, "insecure": True}, True),
        ({"host": "0.0.0.0", "anonymous_read": True}, False),
        ({"host": "beamline.example", "anonymous_read": True}, False),
    ],
)
def test_nobody_shows_everything_to_a_network_by_accident(values: dict[str, object], allowed: bool) -> None:
    settings = ServeSettings.model_validate(values)
    if allowed:
        check_bind(settings)
    else:
        with pytest.raises(InputError, match=re.escape("serve.insecure")):
            check_bind(settings)


def test_a_session_ends_and_cannot_be_prolonged_or_given_to_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = session.Session("key")
    value = ours.issue("0123abcd")
    assert ours.read(value) == "0123abcd"
    assert session.Session("other key").read(value) is None
    whose, expiry, signature = value.split(".")
    for forged in (f"{whose}.{int(expiry) + 1}.{signature}", f"-.{expiry}.{signature}", f"{whose}.{expiry}."):
        assert ours.read(forged) is None
    for bad in ("", ".", "..", "x.y.z", expiry, f"{whose}.ü.{signature}", ours.csrf(value)):
        assert ours.read(bad) is None
    assert int(ours.issue("0123abcd", expires=session.time.time() + 5).split(".")[1]) <= session.time.time() + 5
    monkeypatch.setattr(session.time, "time", lambda: int(expiry) + 1.0)
    assert ours.read(value) is None


def test_wrong_keys_are_limited_for_each_address_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(identity.time, "monotonic", lambda: now[0])
    limit = identity.FailureLimit()
    for _ in range(identity.FAILURES_ALLOWED):
        assert limit.wait_s("a", "old") == 0
        limit.record_failure("a", "old")
    assert limit.wait_s("a", "old") > 0
    assert limit.wait_s("a", "other") == 0  # one program with an old key does not stop its neighbours
    assert limit.wait_s("b", "old") == 0
    now[0] += identity.FAILURES_WINDOW_S
    assert limit.wait_s("a", "old") == 0
    for n in range(identity.FAILURES_ALLOWED):
        assert limit.wait_s("a", str(n)) == 0
        limit.record_failure("a", str(n))
    assert limit.wait_s("a", "guess") > 0
    for n in range(3000):
        limit.record_failure(str(n), "x")
    assert len(limit._failures) <= 1024


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("testclient", "testclient"),
    ],
)
def test_a_network_of_ipv6_is_one_caller(address: str, network: str) -> None:
    assert identity.network_of(address) == network


def test_event_ids_are_ordered_as_numbers() -> None:
    assert EventId.parse("9-0") < EventId.parse("10-0") < EventId.parse("10-2")
    assert str(EventId.parse("17")) == "17-0"
    for bad in ("", "-1", "1-", "a-b", "1-2-3", "9" * 40, "1\n2"):
        with pytest.raises(InputError):
            EventId.parse(bad)


def test_an_event_cannot_break_out_of_its_frame() -> None:
    entry = {b"type": b"map\ndata: x", b"run": b"r\n\nevent: y", b"data": b'{"a": "1\\n\\n2"}'}
    sent = frame(ServerEvent.from_entry(b"5-1", entry)).decode()
    assert sent.endswith("\n\n")
    lines = sent.rstrip("\n").split("\n")
    assert [line.split(":")[0] for line in lines] == ["id", "event", "data"]
    assert json.loads(lines[2].removeprefix("data: "))["run"] == "r\n\nevent: y"


@pytest.mark.parametrize("data", [b"not json", b"[1]", b""])
def test_an_event_with_bad_data_is_still_an_object(data: bytes) -> None:
    event = ServerEvent.from_entry(b"5-1", {b"type": b"run", b"run": b"u", b"data": data})
    assert json.loads(frame(event).split(b"data: ")[1])["run"] == "u"


def test_the_kept_openapi_document_is_the_one_that_is_served() -> None:
    kept = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
    assert kept.read_text() == openapi_json(), "run: quietbeam serve --write-openapi docs/reference/openapi.json"


@pytest.mark.parametrize("dtype", ["f4", "f8", "u4"])
def test_csv_gives_the_same_values_back(dtype: str) -> None:
    values = np.array([[0, 1234567, 16777215], [45321.25, 0.1, 3e-9]]).astype(dtype)
    text = formats.ENCODERS["csv"](values).decode()
    assert np.array_equal(np.loadtxt(io.StringIO(text), delimiter=",").astype(dtype), values)
    assert "16777215" in text and "16777215.0" not in text
