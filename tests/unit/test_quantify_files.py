"""Files of calibrations: ours and PyXRF's, whole and damaged."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from test_quantify import CONDITIONS, FILM, PYXRF_SCHEMA, film

from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.quantify import (
    read_calibration,
    write_calibration,
)
from quietbeam.quantify.measure import calibrate
from quietbeam.quantify.pyxrf import calibration_to_pyxrf


def test_files_of_calibrations(tmp_path: Path) -> None:
    found = calibrate(film(), FILM, CONDITIONS, name="film", source="s")
    write_calibration(found, tmp_path / "film.json")
    assert read_calibration("film", tmp_path) == found == read_calibration(str(tmp_path / "film.json"), tmp_path)
    with pytest.raises(InputError, match="there are film: make one"):
        read_calibration("other", tmp_path)
    with pytest.raises(InputError, match=r"no calibration .\.\./film."):
        read_calibration("../film", tmp_path / "x")
    data = found.to_dict()
    for name, text in {
        "cut": json.dumps(data)[:50],
        "list": "[]",
        "energy": json.dumps(data | {"energy_kev": 1e4}),
        "units": json.dumps(data | {"normalised": "flux"}),
        "detectors": json.dumps(data | {"detectors": ["det1"]}),
        "lines": json.dumps(data | {"lines": []}),
        "line": json.dumps(data | {"lines": [{"line": "Fe_Ka"}]}),
    }.items():
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
        with pytest.raises(FileFormatError, match="cannot be read as a calibration"):
            read_calibration(name, tmp_path)


def test_pyxrfs_json_is_read_and_written(tmp_path: Path) -> None:
    found = calibrate(film(kind="areas"), FILM, CONDITIONS, name="film", source="uid")
    for detector, share in (("sum", 0.03), ("det2", 0.01)):
        data = calibration_to_pyxrf(found, detector)
        jsonschema.validate(data, PYXRF_SCHEMA)
        assert data["element_lines"]["Ca_K"]["density"] == 2.0 and data["detector_channel"] == detector
        (tmp_path / "p.json").write_text(json.dumps(data), encoding="utf-8")
        back = read_calibration("p", tmp_path)
        assert back.detectors == (detector,) and back.kind == "areas" and back.energy_kev == 10.0
        assert [one.line for one in back.lines] == ["Ca_Ka", "Fe_Ka"]
        assert back.lines[0].sensitivity == pytest.approx((share,), rel=0.01)
    with pytest.raises(InputError, match="no detector 'x'"):
        calibration_to_pyxrf(found, "x")
    for broken in ({"element_lines": {"Qq_K": {"density": 1, "fluorescence": 1}}}, {"element_lines": {}}):
        (tmp_path / "p.json").write_text(json.dumps(data | broken), encoding="utf-8")
        with pytest.raises(FileFormatError):
            read_calibration("p", tmp_path)


WRONG: list[tuple[tuple[str | int, ...], Any, str]] = [  # where, another value, words of the error
    (("energy_kev",), None, "energy_kev: input should be a valid number"),
    (("energy_kev",), [10.0], "energy_kev"),
    (("energy_kev",), 10**400, "energy_kev|10 keV|cannot"),
    (("distance_mm",), [1], "distance_mm: input"),
    (("distance_mm",), float("nan"), "distance_mm is nan"),
    (("i0",), -1.0, "i0 is -1"),
    (("path",), {"air_mm": "x"}, "path.air_mm: input should be a valid number"),
    (("path",), {"air_mm": -1e6}, "air_mm is -1e[+]06, and must lie between"),
    (("path",), {"silicon_um": float("inf")}, "silicon_um is inf"),
    (("path",), [], "path"),
    (("detectors",), 3, "detectors"),
    (("detectors",), ["a", "b", "a"], "the detector a more than once"),
    (("notes",), {"a": 1}, "notes"),
    (("lines",), {"Fe_Ka": 5}, "lines"),
    (("lines", 0), 5, "lines.0"),
    (("lines", 0, "line"), "Ca_Qq", "Ca_Qq"),
    (("lines", 0, "line"), "Fe_Ka", "the line Fe_Ka more than once"),
    (("lines", 0, "sensitivity", 0), float("inf"), "finite sensitivity"),
    (("lines", 0, "sensitivity", 0), None, "lines.0.sensitivity.0"),
    (("lines", 0, "background", 1), float("nan"), "finite sensitivity and background"),
    (("lines", 0, "relative_error"), float("inf"), "relative error of inf"),
    (("lines", 0, "relative_error"), float("nan"), "relative error of nan"),
    (("lines", 0, "density"), 0.0, "density of 0"),
]


@pytest.mark.parametrize(("where", "value", "words"), WRONG)
def test_every_figure_of_a_calibration_is_checked(
    tmp_path: Path, where: tuple[str | int, ...], value: Any, words: str
) -> None:
    data = json.loads(json.dumps(calibrate(film(), FILM, CONDITIONS, name="film", source="s").to_dict()))
    place: Any = data
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    (tmp_path / "film.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(FileFormatError, match=words):
        read_calibration("film", tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"incident_energy": None}, "incident_energy: input should be a valid number"),
        ({"incident_energy": [10]}, "incident_energy"),
        ({"incident_energy": float("nan")}, "give it in keV"),
        ({"distance_to_sample": [1]}, "distance_to_sample"),
        ({"element_lines": {"Fe_K": 5}}, "element_lines.Fe_K"),
        ({"element_lines": {"Fe_K": {"density": "1", "fluorescence": 1}}}, "element_lines.Fe_K.density"),
        ({"element_lines": {"Fe_K": {"density": 1, "fluorescence": float("inf")}}}, "must be positive numbers"),
        ({"element_lines": {"Fe_K": {"fluorescence": 1}}}, "must be positive numbers"),
        ({"element_lines": {key: {"density": 1, "fluorescence": 1} for key in ("Fe_K", "Fe_Ka1")}}, "the same line"),
        ({"scaler_name": 3}, "scaler_name"),
        ({"name": None}, "name"),
    ],
)
def test_every_figure_of_pyxrfs_json_is_checked(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    data = calibration_to_pyxrf(calibrate(film(kind="areas"), FILM, CONDITIONS, name="film", source="uid"))
    (tmp_path / "p.json").write_text(json.dumps(data | changes), encoding="utf-8")
    with pytest.raises(FileFormatError, match=words):
        read_calibration("p", tmp_path)


def test_pyxrfs_json_keeps_a_second_line_of_an_element() -> None:
    found = calibrate(film(kind="areas"), FILM, CONDITIONS, name="film", source="uid")
    second = replace(found.lines[1], line="Fe_Kb", sensitivity=(1e-3, 0.0, 0.0))
    lines = calibration_to_pyxrf(replace(found, lines=(*found.lines, second)))["element_lines"]
    assert list(lines) == ["Ca_K", "Fe_K", "Fe_Kb"] and lines["Fe_K"] != lines["Fe_Kb"]


def test_a_calibration_that_could_not_be_read_again_is_not_made(tmp_path: Path) -> None:
    good = calibrate(film(), FILM, CONDITIONS, name="f", source="s")
    with pytest.raises(InputError, match="relative error of inf"):
        calibrate(film(), FILM, replace(CONDITIONS, standard_error=float("inf")), name="f", source="s")
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(InputError, match="finite"):
        calibrate(film(counts=film().counts * 1e305), FILM, CONDITIONS, name="f", source="s")
    broken = replace(good, lines=(replace(good.lines[0], relative_error=float("nan")),))
    with pytest.raises(InputError, match="relative error of nan"):
        write_calibration(broken, tmp_path / "f.json")
    (tmp_path / "f.json").mkdir()
    with pytest.raises(OSError, match=r"f\.json"):
        write_calibration(good, tmp_path / "f.json")
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"], "nothing half-written stays"


def test_calibrations_of_one_name_that_are_written_at_once_are_whole(tmp_path: Path) -> None:
    good = calibrate(film(), FILM, CONDITIONS, name="f", source="s")
    kinds = [replace(good, description="x" * 10**6 * n) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: [write_calibration(one, tmp_path / "f.json") for _ in range(5)], kinds))
    assert read_calibration("f", tmp_path) in kinds and len(list(tmp_path.iterdir())) == 1
