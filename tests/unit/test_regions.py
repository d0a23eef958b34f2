"""Regions: which pixels they hold, what is refused, and their statistics against known distributions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RunInfo
from quietbeam.quantify import LineDensity
from quietbeam.regions import Region, line_statistics, make_region
from quietbeam.regions.statistics import Figure
from quietbeam.serve.state.regions import RegionStore

SHAPE = (12, 10)


def test_a_rectangle_and_the_polygon_around_it_hold_the_same_pixels() -> None:
    box = make_region("a", "rectangle", {"rows": [2, 5], "cols": [1, 7]}, SHAPE)
    assert box.pixels == 18 and box.mask[2:5, 1:7].all()
    outline = [[1.6, 0.6], [1.6, 6.4], [4.4, 6.4], [4.4, 0.6]]
    for points in (outline, outline[::-1], [*outline, outline[0]]):
        assert np.array_equal(make_region("b", "polygon", {"points": points}, SHAPE).mask, box.mask)


@given(st.floats(1.1, 4.9), st.floats(0.0, 6.2), st.integers(3, 40))
def test_a_drawn_circle_holds_the_pixels_near_its_centre(radius: float, turn: float, n: int) -> None:
    """The corners lie on the circle, so that the polygon lies within it and holds what is within the inner circle."""
    angles = turn + np.arange(n) * 2 * np.pi / n
    points = np.stack([5.5 + radius * np.sin(angles), 4.5 + radius * np.cos(angles)], axis=1).tolist()
    away = np.hypot(*(np.indices(SHAPE) - np.array([5.5, 4.5])[:, None, None]))
    try:
        mask = make_region("c", "lasso", {"points": points}, SHAPE).mask
    except InputError as error:
        assert "holds no pixel" in str(error) and radius * np.cos(np.pi / n) < 0.8
        return
    assert not mask[away > radius + 1e-9].any()
    assert mask[away < radius * np.cos(np.pi / n) - 1e-9].all()


def ray_by_ray(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Every pixel held against every side: inside where a ray along its row meets an odd number of them."""
    row, col = np.mgrid[: shape[0], : shape[1]].astype(float)
    odd = np.zeros(shape, bool)
    for (r0, c0), (r1, c1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if r0 != r1:
            odd ^= ((r0 > row) != (r1 > row)) & (col < (c1 - c0) * (row - r0) / (r1 - r0) + c0)
    return odd


@pytest.mark.parametrize("grid", [1.0, 0.5, 1e-3])
def test_a_polygon_holds_the_pixels_that_every_side_says(grid: float) -> None:
    """Stars of up to 60 corners, some on centres and edges of pixels, some at the edge of the map."""
    rng, compared = np.random.default_rng(7), 0
    for _ in range(200):
        n = int(rng.integers(3, 60))
        angles = np.sort(rng.uniform(0, 2 * np.pi, n))
        reach = rng.uniform(1.0, 6.2, n)
        points = np.stack([5.5 + reach * np.sin(angles), 4.5 + reach * np.cos(angles)], axis=1)
        points = np.clip(np.round(points / grid) * grid, -0.5, [11.5, 9.5])
        try:
            region = make_region("s", "polygon", {"points": points.tolist()}, SHAPE)
        except InputError:  # rounding made it cross itself, or nothing lies inside
            continue
        compared += 1
        assert np.array_equal(region.mask, ray_by_ray(points, SHAPE))
    assert compared > 30


def test_thresholds_hold_the_pixels_between_them() -> None:
    values = np.arange(120, dtype=float).reshape(SHAPE)
    values[0] = np.nan
    region = make_region("t", "threshold", {"low": 5.0, "high": 20.0}, SHAPE, values, 3)
    assert region.pixels == 11 and region.maps_version == 3, "what is not measured lies between no thresholds"
    assert make_region("t", "threshold", {"low": 110}, SHAPE, values).pixels == 10


@pytest.mark.parametrize(
    ("kind", "definition", "words"),
    [
        ("rectangle", {"rows": [3, 3], "cols": [0, 2]}, "rows 3 to 3 hold no pixel"),
        ("rectangle", {"rows": [0, 13], "cols": [0, 2]}, "outside the map, which has 12"),
        ("rectangle", {"rows": [0, 2], "cols": [-1, 2]}, "outside the map, which has 10"),
        ("rectangle", {"rows": [0.5, 2], "cols": [0, 2]}, "two whole numbers"),
        ("rectangle", {"cols": [0, 2]}, "two whole numbers"),
        ("polygon", {"points": [[0, 0], [5, 5]]}, "at least three different points"),
        ("polygon", {"points": [[0, 0], [0, 0], [5, 5], [5, 5]]}, "at least three different points"),
        ("polygon", {"points": [[1, 1], [6, 6], [1, 6], [6, 1]]}, "crosses itself near row 3.5, col 3.5"),
        ("lasso", {"points": [[1, 1], [8, 1], [8, 8], [4, 0.5], [1, 8]]}, "crosses itself"),
        ("polygon", {"points": [[1, 1], [1, 30], [8, 1]]}, "outside the map of 12 x 10"),
        ("polygon", {"points": [[1.1, 1.1], [1.1, 1.4], [1.4, 1.1]]}, "holds no pixel"),
        ("polygon", {"points": [[1, "x"], [1, 3], [8, 1]]}, "pairs of numbers"),
        ("polygon", {"points": [[float("nan"), 1], [1, 3], [8, 1]]}, "pairs of numbers"),
        ("polygon", {"points": [[0, 0]] * 2001}, "too many"),
        ("threshold", {"low": 3, "high": 2}, "low 3 is above high 2"),
        ("threshold", {}, "needs low, high, or both"),
        ("threshold", {"low": 99}, "values are from 0 to 1"),
        ("cluster", {}, "cannot be made of nothing"),
    ],
)
def test_regions_that_hold_nothing_sensible_are_refused(kind: Any, definition: Any, words: str) -> None:
    values = np.linspace(0, 1, 120).reshape(SHAPE)
    with pytest.raises(InputError, match=words):
        make_region("r", kind, definition, SHAPE, values)


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "..", " a", "x" * 65])
def test_names_that_cannot_stand_in_an_address_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no name of a region"):
        make_region(name, "rectangle", {"rows": [0, 1], "cols": [0, 1]}, SHAPE)


def test_regions_come_back_from_json() -> None:
    region = make_region("Kern β", "polygon", {"points": [[0, 0], [0, 5], [7, 3]]}, SHAPE)
    back = Region.from_dict(json.loads(json.dumps(region.to_dict())), SHAPE)
    assert np.array_equal(back.mask, region.mask) and back.to_dict() == region.to_dict()
    with pytest.raises(ValueError, match="not of a map of 100 x 100"):
        Region.from_dict(region.to_dict(), (100, 100))


def test_errors_of_raw_figures_are_those_of_repeated_measurements() -> None:
    """The scatter of each figure over 400 repetitions of the same region is what its error says."""
    rng = np.random.default_rng(1)
    seen: dict[str, list[float]] = {"mean": [], "median": [], "sum": [], "0.25": []}
    told: dict[str, list[float]] = {name: [] for name in seen}
    for _ in range(400):
        raw = rng.poisson(50.0, 300).astype(float)
        found = line_statistics(raw, raw, np.ones(300), counts=True).raw
        figures = {"mean": found.mean, "median": found.median, "sum": found.sum, "0.25": found.quantiles["0.25"]}
        for name, figure in figures.items():
            assert figure.value is not None and figure.error is not None
            seen[name].append(figure.value)
            told[name].append(figure.error)
    for name, values in seen.items():
        assert np.mean(told[name]) == pytest.approx(np.std(values), rel=0.25), name


def test_figures_of_denoised_pixels_are_no_better_known_than_one_of_them() -> None:
    values, errors = np.linspace(10, 12, 101), np.full(101, 0.5)
    found = line_statistics(values, values, errors, counts=True).denoised
    for figure in (found.mean, found.median, found.minimum, found.quantiles["0.95"]):
        assert figure.error is not None and figure.error >= 0.5
    assert found.sum.error == pytest.approx(50.5) and found.mean.value == pytest.approx(11.0)
    assert found.minimum.value == 10 and found.maximum.value == 12


def test_histograms_count_every_pixel() -> None:
    values = np.random.default_rng(2).poisson(9.0, 500).astype(float)
    values[:20] = np.nan
    found = line_statistics(values, values, values, counts=True).raw
    assert found.histogram is not None and sum(found.histogram.pixels) == found.n == 480
    n = np.array(found.histogram.pixels)
    assert found.histogram.errors == pytest.approx(list(np.sqrt(n * (1 - n / 480))))
    flat = line_statistics(np.full(5, 3.0), np.full(5, 3.0), np.full(5, 1.0), counts=False).raw
    assert flat.n == 5 and flat.mean.error == 0 and flat.histogram is not None


def test_another_unit_and_the_error_of_its_factor() -> None:
    values = np.full(100, 120.0)
    by = LineDensity(line="Fe_Ka", factor=0.1, background=20.0, relative_error=0.05)
    found = line_statistics(values, values, np.full(100, 10.0), counts=True, by=by).raw
    assert found.mean.value == pytest.approx(10.0) and found.sum.value == pytest.approx(1000.0)
    assert found.mean.error == pytest.approx(np.hypot(np.sqrt(12000) / 100 * 0.1, 0.5))
    none = line_statistics(values, values, values, counts=True, by=LineDensity(line="x", reason="no"))
    assert none.raw.n == 0 and none.raw.mean.value is None and none.denoised.histogram is None


def test_nothing_measured_has_no_figures() -> None:
    empty = np.full(4, np.nan)
    found = line_statistics(empty, empty, empty, counts=True)
    assert (
        found.raw.n == 0
        and found.raw.sum.value is None
        and set(found.raw.quantiles) == {"0.05", "0.25", "0.75", "0.95"}
    )


def test_one_pixel_has_the_error_that_is_known_of_it() -> None:
    """A count that of its photons, a fitted area none, a denoised pixel its own."""
    one = np.array([9.0])
    of_areas = line_statistics(one, one, np.array([0.5]), counts=False)
    of_counts = line_statistics(one, one, np.array([0.5]), counts=True)
    for found, error in ((of_areas.raw, None), (of_counts.raw, 3.0), (of_areas.denoised, 0.5)):
        every = (found.mean, found.sum, found.median, found.minimum, found.maximum, *found.quantiles.values())
        assert found.n == 1 and found.spread is None
        assert all(figure.value == 9.0 and figure.error == error for figure in every)


@pytest.mark.parametrize(
    "values", [[1e20], [1e20, 1e20], [0.0], [-1e20, 1e20], [5.0, np.nextafter(5.0, 6.0)], [1e-300], [1e20, 1.0, -3.0]]
)
def test_histograms_of_any_finite_values_count_every_pixel(values: list[float]) -> None:
    pixels = np.array(values)
    found = line_statistics(pixels, pixels, np.ones(len(pixels)), counts=False).raw.histogram
    assert found is not None and sum(found.pixels) == len(values)
    assert (np.diff(found.edges) > 0).all() and np.isfinite(found.edges).all()


def test_figures_that_are_not_finite_in_another_unit_are_none() -> None:
    values = np.array([1e10, 2e10])
    with np.errstate(over="ignore", invalid="ignore"):
        found = line_statistics(values, values, np.ones(2), counts=True, by=LineDensity(line="Fe_Ka", factor=1e300)).raw
    assert found.mean == Figure(value=None, error=None) and found.spread is None and found.histogram is None


_PUT = """
import sys
from pathlib import Path
from quietbeam.core.model.types import RunInfo
from quietbeam.regions import make_region
from quietbeam.serve.state.regions import RegionStore

info = RunInfo(uid="r", lines=("Fe_Ka",), detectors=("d",), shape=(12, 10))
store, box = RegionStore(Path(sys.argv[1])), {"rows": [2, 5], "cols": [1, 7]}
print("ready", flush=True)
sys.stdin.readline()
for n in range(25):
    store.put(info, make_region(f"{sys.argv[2]}{n}", "rectangle", box, info.shape))
"""


def test_regions_that_two_processes_make_at_once_are_all_kept(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    both = [
        subprocess.Popen([sys.executable, "-c", _PUT, tmp_path, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in "ab"
    ]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    info = RunInfo(uid="r", lines=("Fe_Ka",), detectors=("d",), shape=SHAPE)
    assert set(RegionStore(tmp_path).read(info)) == {f"{name}{n}" for name in "ab" for n in range(25)}
