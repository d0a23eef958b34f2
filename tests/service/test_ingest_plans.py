"""Every plan of bluesky that visits a grid or points, run by a RunEngine: the map equals the truth, or is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import numpy as np
import pytest
from bluesky import RunEngine
from cycler import cycler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ophyd.sim import SynAxis

from quietbeam.core import codec
from quietbeam.core.model.display import orientation_of
from quietbeam.core.model.types import PixelOrder, RunInfo, RunState
from quietbeam.ingest.offline import ingest_recorded
from quietbeam.ingest.profile import load_profile
from quietbeam.ingest.profile.sections import DisplaySection
from quietbeam.runengine.publisher import pack_or_stringify

Docs = list[tuple[str, dict[str, Any]]]
Plan = Callable[[Any, SynAxis, SynAxis], Iterator[Any]]


def count_at(y: float, x: float) -> int:
    """Return a different count for every position; no symmetry of the map keeps it."""
    return 500_000 + round(7919 * y) + round(97 * x)


class Detector:
    """Two detector elements that count by where the stage is."""

    parent, hints, name = None, {}, "xrf"

    def __init__(self, y: SynAxis, x: SynAxis) -> None:
        self._y, self._x = y, x

    def read(self) -> dict[str, Any]:
        value = count_at(self._y.position, self._x.position)
        return {f"Det{d}_Fe": {"value": value + d, "timestamp": 1.0} for d in (1, 2)}

    def describe(self) -> dict[str, Any]:
        return {f"Det{d}_Fe": {"source": "sim", "dtype": "integer", "shape": []} for d in (1, 2)}

    def read_configuration(self) -> dict[str, Any]:
        return {}

    describe_configuration = read_configuration


@pytest.fixture(scope="module")
def engine() -> RunEngine:
    return RunEngine({}, context_managers=[])


def run(engine: RunEngine, plan: Plan) -> Docs:
    """Return the documents of a plan, as they come over the wire."""
    y, x = SynAxis(name="my"), SynAxis(name="mx")
    docs: Docs = []
    token = engine.subscribe(lambda name, doc: docs.append((name, codec.unpack(pack_or_stringify(doc)[0]))))
    try:
        engine(plan(Detector(y, x), y, x))
    finally:
        engine.unsubscribe(token)
    return docs


def place(info: RunInfo, y: float, x: float) -> tuple[int, int] | None:
    """Return the pixel of a position, as a reader of the run's info finds it."""
    slow, fast = (y, x) if info.axes[-1:] == ("mx",) else (x, y)
    index: list[int] = []
    for axis, position in enumerate((slow, fast)):
        listed = (info.row_positions, info.col_positions)[axis]
        if listed is not None:
            at = int(np.argmin(np.abs(np.array(listed) - position)))
            assert abs(listed[at] - position) < 1e-6
        elif info.step is not None and info.origin is not None:
            exact = (position - info.origin[axis]) / info.step[axis]
            at = round(exact)
            assert abs(exact - at) < 0.2, "the coordinates in the info are those of the motors"
        else:
            return None
        index.append(at)
    return index[0], index[1]


def check(docs: Docs) -> PixelOrder | None:
    """Assert that every count lies where it was measured; return how the order is known, None for a refused run."""
    uid = docs[0][1]["uid"]
    with tempfile.TemporaryDirectory() as folder:
        found, _ = ingest_recorded(docs, uid, [load_profile("generic")], [], Path(folder))
        if found.state is RunState.UNUSABLE:
            assert found.reason
            return None
        assert found.buffer is not None and found.info is not None
        counts, measured = found.buffer.read_counts()[:, 0], found.buffer.measured()
    events = [doc["data"] for name, doc in docs if name == "event"]
    last = {(e.get("my", 0.0), e.get("mx", 0.0)): e["Det1_Fe"] for e in events}  # a scan of one motor has a row at 0
    placed = 0
    for (y, x), value in last.items():
        at = place(found.info, y, x)
        assert at is not None, "a map says where its pixels are"
        assert measured[at] and counts[0][at] == value and counts[1][at] == value + 1
        placed += 1
    assert placed == np.count_nonzero(measured)
    assert found.state is (RunState.COMPLETE if measured.all() else RunState.INCOMPLETE)
    return found.info.order


# --- plans ----------------------------------------------------------------------------------------------------------

SIZE = st.integers(2, 6)
POSITION = st.integers(-40, 40).map(lambda n: n / 4)
POINTS = st.lists(st.integers(-40, 40), min_size=2, max_size=6, unique=True).map(lambda v: [n / 4 for n in v])
SORTED = st.one_of(POINTS.map(sorted), POINTS.map(lambda v: sorted(v, reverse=True)))


@st.composite
def scans(draw: st.DrawFn) -> tuple[str, Plan]:
    """Draw a plan with its arguments; the slow axis may be either motor, and the stage may stand anywhere before."""
    kind = draw(st.sampled_from(sorted(PLANS)))
    swap = draw(st.booleans())
    start = draw(POSITION), draw(POSITION)
    body = PLANS[kind](draw)

    def plan(detector: Any, y: SynAxis, x: SynAxis) -> Iterator[Any]:
        yield from bps.mv(y, start[0], x, start[1])
        yield from body(detector, *((x, y) if swap else (y, x)))

    return kind, plan


def _grid(name: str) -> Callable[[st.DrawFn], Plan]:
    def make(draw: st.DrawFn) -> Plan:
        axes = [(draw(POSITION), draw(st.floats(0.5, 20)) * draw(st.sampled_from([-1, 1])), draw(SIZE)) for _ in "sf"]
        snake = draw(st.booleans())

        def plan(detector: Any, slow: SynAxis, fast: SynAxis) -> Iterator[Any]:
            (a, da, na), (b, db, nb) = axes
            return getattr(bp, name)([detector], slow, a, a + da, na, fast, b, b + db, nb, snake_axes=snake)

        return plan

    return make


def _list_grid(name: str, points: st.SearchStrategy[list[float]]) -> Callable[[st.DrawFn], Plan]:
    def make(draw: st.DrawFn) -> Plan:
        a, b, snake = draw(points), draw(points), draw(st.booleans())
        return lambda detector, slow, fast: getattr(bp, name)([detector], slow, a, fast, b, snake_axes=snake)

    return make


def _square(name: str) -> Callable[[st.DrawFn], Plan]:
    def make(draw: st.DrawFn) -> Plan:
        ny, nx = draw(st.integers(2, 5)), draw(st.integers(2, 5))
        centre = () if name.startswith("rel") else (draw(POSITION), draw(POSITION))
        width, height = draw(st.integers(2, 9)), draw(st.integers(2, 9))
        return lambda detector, slow, fast: getattr(bp, name)([detector], fast, slow, *centre, width, height, nx, ny)

    return make


def _spiral(name: str) -> Callable[[st.DrawFn], Plan]:
    def make(draw: st.DrawFn) -> Plan:
        centre = () if name.startswith("rel") else (draw(POSITION), draw(POSITION))
        last = draw(st.integers(3, 6)) if "fermat" not in name else 1.0
        return lambda detector, slow, fast: getattr(bp, name)([detector], fast, slow, *centre, 4, 4, 1, last)

    return make


def _points(draw: st.DrawFn) -> Plan:
    a, b = draw(SORTED), draw(SORTED)
    with_shape = draw(st.booleans())
    first = draw(st.booleans())

    def plan(detector: Any, slow: SynAxis, fast: SynAxis) -> Iterator[Any]:
        md = {"shape": [len(a), len(b)], "motors": [slow.name, fast.name]} if with_shape else {}
        product = cycler(slow, a) * cycler(fast, b) if first else cycler(fast, b) * cycler(slow, a)
        return bp.scan_nd([detector], product, md=md)

    return plan


def _inner(name: str) -> Callable[[st.DrawFn], Plan]:
    def make(draw: st.DrawFn) -> Plan:
        n = draw(SIZE)
        a, b = ([draw(POSITION), draw(POSITION)] for _ in "sf")
        if "list" in name:
            points = [draw(POSITION) for _ in range(n)], [draw(POSITION) for _ in range(n)]
            return lambda detector, slow, fast: getattr(bp, name)([detector], slow, points[0], fast, points[1])
        return lambda detector, slow, fast: getattr(bp, name)([detector], slow, *a, fast, *b, n)

    return make


def _line(name: str) -> Callable[[st.DrawFn], Plan]:
    """Return a plan over one motor."""

    def make(draw: st.DrawFn) -> Plan:
        n, first, last = (
            draw(st.integers(2, 12)),
            draw(POSITION),
            draw(st.floats(0.5, 20)) * draw(st.sampled_from([-1, 1])),
        )
        points = draw(POINTS)
        if "list" in name:
            return lambda detector, slow, fast: getattr(bp, name)([detector], fast, points)
        if name == "log_scan":
            return lambda detector, slow, fast: bp.log_scan([detector], fast, 1, 5, n)
        return lambda detector, slow, fast: getattr(bp, name)([detector], fast, first, first + last, n)

    return make


def _twice(draw: st.DrawFn) -> Plan:
    rows, cols = draw(SIZE), draw(SIZE)

    def per_step(detectors: Any, step: Any, pos_cache: Any) -> Iterator[Any]:
        yield from bps.move_per_step(step, pos_cache)
        yield from bps.trigger_and_read([*detectors, *step])
        yield from bps.trigger_and_read([*detectors, *step])

    return lambda detector, slow, fast: bp.grid_scan(
        [detector], slow, 0, rows - 1, rows, fast, 0, cols - 1, cols, per_step=per_step
    )


PLANS: dict[str, Callable[[st.DrawFn], Plan]] = {
    "grid_scan": _grid("grid_scan"),
    "rel_grid_scan": _grid("rel_grid_scan"),
    "list_grid_scan": _list_grid("list_grid_scan", SORTED),
    "rel_list_grid_scan": _list_grid("rel_list_grid_scan", SORTED),
    "list_grid_scan, any order": _list_grid("list_grid_scan", POINTS),
    "spiral_square": _square("spiral_square"),
    "rel_spiral_square": _square("rel_spiral_square"),
    "spiral": _spiral("spiral"),
    "rel_spiral": _spiral("rel_spiral"),
    "spiral_fermat": _spiral("spiral_fermat"),
    "rel_spiral_fermat": _spiral("rel_spiral_fermat"),
    "scan_nd": _points,
    "scan": _inner("scan"),
    "rel_scan": _inner("rel_scan"),
    "list_scan": _inner("list_scan"),
    "rel_list_scan": _inner("rel_list_scan"),
    **{f"{name}, one motor": _line(name) for name in ("scan", "rel_scan", "list_scan", "rel_list_scan", "log_scan")},
    "grid_scan, two events a point": _twice,
}


@pytest.mark.supports(
    "geometry", "every plan of bluesky over a grid or points: positions decide the order, or the run is refused"
)
@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(scan=scans())
def test_every_count_lies_where_it_was_measured(engine: RunEngine, scan: tuple[str, Plan]) -> None:
    check(run(engine, scan[1]))


@pytest.mark.parametrize(
    ("plan", "order"),
    [
        (lambda d, y, x: bp.grid_scan([d], y, 0, 3, 4, x, 0, 4, 5, snake_axes=True), PixelOrder.VERIFIED),
        (lambda d, y, x: bp.rel_grid_scan([d], y, -1, 2, 4, x, -2, 3, 6), PixelOrder.VERIFIED),
        (lambda d, y, x: bp.list_grid_scan([d], y, [3, 1, 0], x, [0, 2, 3, 9]), PixelOrder.VERIFIED),
        (lambda d, y, x: bp.spiral_square([d], x, y, 2, 2, 4, 4, 5, 5), PixelOrder.FROM_POSITIONS),
        (lambda d, y, x: bp.scan([d], x, 3, -2, 6), PixelOrder.VERIFIED),
        (lambda d, y, x: bp.list_scan([d], y, [3, 1, 7, 4]), PixelOrder.VERIFIED),
    ],
    ids=[
        "grid_scan, snake",
        "rel_grid_scan",
        "list_grid_scan, falling and uneven",
        "spiral_square",
        "scan",
        "list_scan",
    ],
)
def test_how_the_order_is_known(engine: RunEngine, plan: Plan, order: PixelOrder) -> None:
    assert check(run(engine, plan)) is order


def test_a_scan_over_one_motor_is_a_map_of_one_row(engine: RunEngine) -> None:
    docs = run(engine, lambda d, y, x: bp.scan([d], x, 3, -2, 6))
    with tempfile.TemporaryDirectory() as folder:
        found, _ = ingest_recorded(docs, docs[0][1]["uid"], [load_profile("generic")], [], Path(folder))
    assert found.state is RunState.COMPLETE and found.info is not None
    assert found.info.shape == (1, 6) and found.info.axes == ("", "mx") and not found.info.snake
    assert found.info.step == pytest.approx((1.0, -1.0)) and found.info.origin == pytest.approx((0.0, 3.0))


def test_two_scans_in_different_directions_are_shown_alike(engine: RunEngine) -> None:
    profile = load_profile("generic")
    display = DisplaySection(horizontal="mx", vertical="up")
    profile = profile.model_copy(update={"geometry": profile.geometry.model_copy(update={"display": display})})
    plans: list[Plan] = [
        lambda d, y, x: bp.grid_scan([d], y, 0, 3, 4, x, 0, 4, 5),
        lambda d, y, x: bp.grid_scan([d], x, 4, 0, 5, y, 3, 0, 4, snake_axes=True),
    ]
    pictures = []
    for plan in plans:
        docs = run(engine, plan)
        with tempfile.TemporaryDirectory() as folder:
            found, _ = ingest_recorded(docs, docs[0][1]["uid"], [profile], [], Path(folder))
            assert found.buffer is not None and found.info is not None
            pictures.append(orientation_of(found.info).apply(found.buffer.read_counts()[0, 0]))
    np.testing.assert_array_equal(pictures[0], [[count_at(y, x) + 1 for x in range(5)] for y in (3, 2, 1, 0)])
    np.testing.assert_array_equal(pictures[1], pictures[0])


@pytest.mark.parametrize(
    "plan",
    [lambda d, y, x: bp.count([d], 3), lambda d, y, x: bp.scan([d], x, 0, 1, 1)],
    ids=["count", "scan of one point"],
)
def test_what_is_no_scan_is_no_map(engine: RunEngine, plan: Plan) -> None:
    assert check(run(engine, plan)) is None


def test_without_readings_the_order_is_assumed(engine: RunEngine) -> None:
    docs = run(engine, lambda d, y, x: bp.grid_scan([d], y, 0, 3, 4, x, 0, 4, 5))
    for name, doc in docs:
        if name == "event":
            doc["data"] = {key: value for key, value in doc["data"].items() if key.startswith("Det")}
        if name == "descriptor":
            doc["data_keys"] = {key: value for key, value in doc["data_keys"].items() if key.startswith("Det")}
    with tempfile.TemporaryDirectory() as folder:
        found, _ = ingest_recorded(docs, docs[0][1]["uid"], [load_profile("generic")], [], Path(folder))
    assert found.state is RunState.COMPLETE and found.info is not None
    assert found.info.order is PixelOrder.ASSUMED and found.info.step == (1.0, 1.0)
