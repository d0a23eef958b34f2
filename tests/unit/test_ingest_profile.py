"""Profiles and geometry: which keys, which pixels, and errors that name profile, pattern and keys."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from quietbeam.core.errors import ProfileError
from quietbeam.core.settings import configs_dir
from quietbeam.ingest.documents.model import Descriptor, Start
from quietbeam.ingest.profile.geometry import Geometry, geometry_of
from quietbeam.ingest.profile.layout import Layout, layout_of
from quietbeam.ingest.profile.resolve import ResolvedProfile, choose
from quietbeam.ingest.profile.schema import BeamlineProfile, load_profile, spell_line
from quietbeam.ingest.profile.source import MISSING, Setting, Source

GENERIC: dict[str, Any] = yaml.safe_load((configs_dir() / "beamlines" / "generic.yaml").read_text())


def profile(**changes: Any) -> BeamlineProfile:
    return BeamlineProfile(**{**GENERIC, **changes})


def layout(
    keys: list[str], *, of: BeamlineProfile | None = None, configuration: dict[str, Any] | None = None
) -> Layout:
    start = Start(run="r", time=0.0, doc={"shape": [2, 3]})
    descriptor = Descriptor(
        uid="d", run="r", stream="primary", data_keys={k: {} for k in keys}, configuration=configuration or {}
    )
    return layout_of(choose([of or profile()], start), descriptor)


@pytest.mark.parametrize("path", sorted((configs_dir() / "beamlines").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_profiles_load_under_their_own_name(path: Path) -> None:
    assert load_profile(path.stem).name == path.stem


@pytest.mark.parametrize(
    ("keys", "detectors", "lines"),
    [
        (["Det1_Fe", "Det1_Pt_L", "Det2_Fe", "Det2_Pt_L"], ("Det1", "Det2"), ("Fe_Ka", "Pt_La")),
        (["det1_Fe_Ka", "det2_Fe_Ka", "sclr"], ("det1", "det2"), ("Fe_Ka",)),
        (["Det1_Fe_ka", "Det1_Zn_kb"], ("Det1",), ("Fe_Ka", "Zn_Kb")),
        (["xs_det1_P_Ka", "xs_det2_P_Ka"], ("det1", "det2"), ("P_Ka",)),
        (
            ["xs_channel01_mcaroi01_total_rbv", "xs_channel01_mcaroi02_total_rbv", "xs_channel01_mcaroi01_size"],
            ("channel01",),
            ("roi01", "roi02"),
        ),
    ],
)
def test_common_spellings(keys: list[str], detectors: tuple[str, ...], lines: tuple[str, ...]) -> None:
    found = layout(keys)
    assert (found.detectors, found.lines) == (detectors, lines)


def test_regions_get_their_line_names_from_the_profile() -> None:
    named = profile(counts=GENERIC["counts"] | {"line_names": {"01": "Fe_Ka", "02": "Cu_Ka"}})
    found = layout([f"xs_channel0{d}_mcaroi0{r}_total_rbv" for d in (1, 2) for r in (1, 2)], of=named)
    assert found.lines == ("Fe_Ka", "Cu_Ka")
    assert found.keys[1] == "xs_channel01_mcaroi02_total_rbv" and found.keys[2] == "xs_channel02_mcaroi01_total_rbv"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Fe", "Fe_Ka"),
        ("Fe_K", "Fe_Ka"),
        ("Fe_Ka", "Fe_Ka"),
        ("Pt_L", "Pt_La"),
        ("Au_Mb", "Au_Mb"),
        ("Compton", "Compton"),
    ],
)
def test_lines_are_spelled_one_way(text: str, line: str) -> None:
    assert spell_line(text) == line


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["a", "b"], ["generic", "keys there are: a, b", "mcaroi", "counts.keys"]),
        ([], ["keys there are: none"]),
        (["Det1_Fe", "Det1_Zn", "Det2_Fe"], ["Det2 Zn_Ka is missing"]),
        (["Det1_Fe", "Det1_Fe_Ka"], ["both Det1 Fe_Ka"]),
    ],
)
def test_what_does_not_fit_is_explained(keys: list[str], words: list[str]) -> None:
    with pytest.raises(ProfileError) as error:
        layout(keys)
    for word in words:
        assert word in str(error.value)


def test_datasets_need_names_of_their_axes() -> None:
    simulated = load_profile("simulated")
    simulated = simulated.model_copy(update={"match": {}})
    with pytest.raises(ProfileError, match=r"xs_detector_names.*nothing"):
        layout(["xs_counts"], of=simulated, configuration={"other": 1})
    found = layout(
        ["xs_counts", "i0_counts"],
        of=simulated,
        configuration={"xs_detector_names": ["a", "b"], "xs_line_names": np.array(["Fe", "P_Ka"])},
    )
    assert (found.detectors, found.lines) == (("a", "b"), ("Fe_Ka", "P_Ka"))
    assert set(found.datasets) == {"xs_counts", "i0_counts"} and found.has_i0 and not found.has_live_time


def test_what_events_need_is_resolved_and_holds_no_profile() -> None:
    """Sources of the start document are resolved with it, those of the configuration with the descriptor, each once."""
    simulated = load_profile("simulated").model_copy(update={"match": {}})
    doc: dict[str, Any] = {"shape": [2, 3], "names": ["a", "b"]}
    array = simulated.counts.dataset
    assert array is not None
    array = array.model_copy(update={"detectors": Source(start="names"), "lines": Source(configuration="lines")})
    changed = simulated.model_copy(update={"counts": simulated.counts.model_copy(update={"dataset": array})})
    (resolved,) = choose([changed], Start(run="r", time=0.0, doc=doc))
    assert resolved.detectors is not None and resolved.detectors.with_configuration({}) == ["a", "b"]
    assert resolved.lines is not None and resolved.lines.with_configuration({}) is MISSING
    doc.clear()
    descriptor = Descriptor(
        uid="d", run="r", stream="primary", data_keys={"xs_counts": {}}, configuration={"lines": ["Fe", "Zn"]}
    )
    found = layout_of([resolved], descriptor)
    assert (found.detectors, found.lines) == (("a", "b"), ("Fe_Ka", "Zn_Ka"))
    unresolved = (BeamlineProfile, ResolvedProfile, Setting, Source)
    assert not [f.name for f in dataclasses.fields(found) if isinstance(getattr(found, f.name), unresolved)]


def test_profiles_are_tried_in_order_and_say_why_not() -> None:
    start = Start(run="r", time=0.0, doc={"beamline_id": "X", "scan": {"shape": [3, 2]}})
    first = profile(name="first", match={"beamline_id": "Y"})
    second = profile(name="second", match={"scan.kind": "fly"})
    third = profile(
        name="third", geometry=GENERIC["geometry"] | {"shape": {"start": "scan.shape"}, "order": "fast_slow"}
    )
    with pytest.raises(ProfileError) as error:
        choose([first, second], start)
    for word in ("run r", "'first'", "'X'", "'Y'", "'second'", "scan.kind", "missing"):
        assert word in str(error.value)
    (found,) = choose([first, second, third], start)
    assert found.name == "third" and found.geometry.shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x", "counts: is missing; accepted is a section with"),
        ("- x", "mapping"),
        ("a: [", "not YAML"),
        ("NAME", "colour: there is no such key"),
        ("NESTED", "counts.kyes: there is no such key; did you mean 'keys'"),
        ("REGEX", "not a regular expression"),
        ("GROUP", r"lacks the named group\(s\) detector"),
        ("AXES", "axes start with"),
    ],
)
def test_mistakes_in_a_profile_are_named(tmp_path: Path, text: str, words: str) -> None:
    data = yaml.safe_load((configs_dir() / "beamlines" / "simulated.yaml").read_text())
    if text == "NAME":
        data["colour"] = "red"
    elif text == "NESTED":
        data["counts"]["kyes"] = data["counts"]["keys"]
    elif text == "REGEX":
        data["counts"]["keys"] = "("
    elif text == "GROUP":
        data["counts"]["keys"] = "^(?P<line>.*)$"
    elif text == "AXES":
        data["counts"]["dataset"]["axes"] = ["detector", "line"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data) if text.isupper() else text)
    with pytest.raises(ProfileError, match=words) as error:
        load_profile(path)
    assert str(path) in str(error.value)


def test_an_unknown_profile_lists_what_there_is() -> None:
    with pytest.raises(ProfileError, match=r"hxn, id16a, ophyd-async, simulated, .*srx, .*generic"):
        load_profile("no-such-beamline")


@pytest.mark.parametrize("snake", [False, True])
def test_columns_and_places_agree(snake: bool) -> None:
    geometry = Geometry(shape=(3, 4), snake=snake)
    places = [geometry.place(i) for i in range(12)]
    assert sorted(places) == [(r, c) for r in range(3) for c in range(4)]
    assert places[4] == ((1, 3) if snake else (1, 0))
    for row in range(3):
        assert [(row, c) for c in geometry.columns(row, 1, 4)] == places[row * 4 + 1 : row * 4 + 4]


@pytest.mark.parametrize(
    ("order", "doc", "expected"),
    [
        ("slow_fast", {"shape": [2, 3], "snaking": [False, True]}, ((2, 3), True)),
        ("slow_fast", {"shape": [2, 3], "snaking": [True, False]}, ((2, 3), False)),
        ("slow_fast", {"shape": (2, 3), "snaking": True}, ((2, 3), True)),
        ("fast_slow", {"shape": [2, 3], "snaking": [True, False]}, ((3, 2), True)),
        ("slow_fast", {"shape": np.array([2, 3])}, ((2, 3), False)),
        ("slow_fast", {"shape": [2.0, 3.0]}, ((2, 3), False)),
    ],
)
def test_geometry_order_is_configuration(order: str, doc: dict[str, Any], expected: tuple[Any, bool]) -> None:
    geometry = geometry_of(profile(geometry=GENERIC["geometry"] | {"order": order}), doc)
    assert (geometry.shape, geometry.snake) == expected


@pytest.mark.parametrize(
    ("extents", "step", "origin"),
    [
        ([[0, 10], [5, 7]], (10.0, 1.0), (0.0, 5.0)),
        ([[10, 0], [7, 5]], (-10.0, -1.0), (10.0, 7.0)),
        ([[1, 1], [0, 2]], (1.0, 1.0), (1.0, 0.0)),
        ([[1, 1], [2, 2]], None, (1.0, 2.0)),
        ([1, 2], None, None),
        (None, None, None),
        ([[0, float("nan")], [0, 1]], None, None),
    ],
)
def test_extents_give_step_and_origin(extents: Any, step: Any, origin: Any) -> None:
    geometry = geometry_of(profile(), {"shape": [2, 3], "extents": extents, "dwell_s": 0.5})
    assert (geometry.step, geometry.origin, geometry.dwell_s) == (step, origin, 0.5)


@pytest.mark.parametrize("shape", [[2], [2, 3, 4, 5], [2, -3], [2.5, 3], [True, 3], "2x3", {"a": 1}, [float("inf"), 1]])
def test_unusable_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(ProfileError, match=re.escape("geometry.shape of profile 'generic'")):
        geometry_of(profile(), {"shape": shape})
