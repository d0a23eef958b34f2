"""Areal densities: standards, calibrations, conversion; on made-up maps, and on a real thin film where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_beamline_measured import CALIBRATION, made_up, real

import quietbeam
from quietbeam.core.errors import InputError
from quietbeam.core.model.evidence import DetectorEvidence, LineEvidence, RunEvidence
from quietbeam.files import read_map, read_measured
from quietbeam.ingest.profile import load_profile
from quietbeam.ingest.profile.geometry import geometry_of
from quietbeam.quantify import (
    Calibration,
    LineCalibration,
    LineDensity,
    convert,
    densities_of,
    per_second,
    read_standards,
)
from quietbeam.quantify.calibration import SINGLE_REFERENCE_ERROR
from quietbeam.quantify.checks import absorption_notes, detection_limit
from quietbeam.quantify.conversion import beam_energy_kev
from quietbeam.quantify.measure import Conditions, calibrate, lines_of_standard, with_blank
from quietbeam.quantify.standard_map import StandardCounts, counts_of_spectra
from quietbeam.quantify.standards import Standard, choose_standard
from quietbeam.spectra import SpectralMap

YAML = """
- name: Micromatter 41164
  serial: '41164'
  description: CeF3 21.1 / Au 20.6
  compounds: {CeF3: 21.1, Au: 20.6}
  density: 41.7
- name: pure
  serial: 'p1'
  description: iron
  compounds: {Fe: 5.0}
"""
FILM = Standard(name="film", densities={"Ca": 2.0, "Fe": 0.5})
CONDITIONS = Conditions(energy_kev=10.0)
PYXRF_SCHEMA: dict[str, Any] = {  # what `_xrf_quant_fluor_schema` of pyxrf/core/quant_analysis.py (1.0.31) asks for
    "type": "object",
    "additionalProperties": False,
    "required": [
        *("name", "serial", "description", "element_lines", "incident_energy", "scaler_name", "distance_to_sample"),
        *("creation_time_local", "source_scan_id", "source_scan_uid"),
    ],
    "properties": {
        **{key: {"type": "string"} for key in ("name", "serial", "description")},
        "element_lines": {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "patternProperties": {
                r"^[A-Z][a-z]?(_[KLM]([ab]\d?)?)?$": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["density", "fluorescence"],
                    "properties": {"density": {"type": "number"}, "fluorescence": {"type": ["number", "null"]}},
                }
            },
        },
        "incident_energy": {"type": "number"},
        **{key: {"type": ["string", "null"]} for key in ("detector_channel", "scaler_name")},
        **{key: {"type": ["string", "null"]} for key in ("creation_time_local", "source_scan_uid")},
        "distance_to_sample": {"type": ["number", "null"]},
        "source_scan_id": {"type": ["integer", "null"]},
    },
}


def film(**changes: Any) -> StandardCounts:
    """Ca and Fe on three detectors, 6 x 6 pixels; det2 sees half of det1, det3 nothing; I0 falls over the rows."""
    rng = np.random.default_rng(0)
    i0 = np.linspace(2e5, 1e5, 6)[:, None] * np.ones(6)
    live = np.stack([np.full((6, 6), 0.9), np.full((6, 6), 0.5), np.full((6, 6), 0.9)])
    rates = np.array([[0.02, 0.05], [0.01, 0.025], [0.0, 0.0]])  # counts per ug/cm2 and unit of dose
    doses = i0 * live / 1.0
    mean = rates[:, :, None, None] * np.array([2.0, 0.5])[:, None, None] * doses[:, None]
    values: dict[str, Any] = {
        "counts": rng.poisson(mean).astype(float),
        "lines": ("Ca_Ka", "Fe_Ka"),
        "detectors": ("det1", "det2", "det3"),
        "kind": "counts",
        "inside": np.ones((6, 6), bool),
        "background": np.zeros((3, 2)),
        "background_known": True,
        "i0": i0,
        "live_time_s": live,
        "dwell_s": 1.0,
    }
    return StandardCounts(**values | changes)


def evidence(**changes: Any) -> RunEvidence:
    gains = ({"Ca_Ka": 0.6, "Fe_Ka": 0.6}, {"Ca_Ka": 0.4, "Fe_Ka": 0.4}, {})
    detectors = tuple(
        DetectorEvidence(detector=f"det{d + 1}", gains=one, live_time_s=live)
        for d, (one, live) in enumerate(zip(gains, (0.18, 0.15, 0.18), strict=True))
    )
    lines = tuple(LineEvidence(line=name, estimator="raw", verdict="not_tested") for name in ("Ca_Ka", "Fe_Ka"))
    values: dict[str, Any] = {"rows": 4, "lines": lines, "detectors": detectors, "i0": 3e4}
    return RunEvidence(**values | changes)


def test_standards_of_pyxrf(tmp_path: Path) -> None:
    path = tmp_path / "standards.yaml"
    path.write_text(YAML, encoding="utf-8")
    standards = read_standards(path)
    first = choose_standard(standards, "41164")
    assert first.densities["Au"] == 20.6
    # CeF3: 140.12 and 3 x 19.00 g/mol
    assert first.densities["Ce"] == pytest.approx(21.1 * 140.116 / (140.116 + 3 * 18.998), rel=1e-3)
    assert sum(first.densities.values()) == pytest.approx(41.7)
    with pytest.raises(InputError, match="2 standards, say which with --name: 41164, p1"):
        choose_standard(standards, "")
    with pytest.raises(InputError, match="no standards are called 'x'"):
        choose_standard(standards, "x")


def test_standards_of_maps(tmp_path: Path) -> None:
    path = tmp_path / "maps_standardinfo.txt"
    text = "words\nFILENAME: a.mda\nELEMENTS_IN_STANDARD: Ca, Fe\nWEIGHT: 1.9, 0.5\n"
    path.write_text(text + text.replace("a.mda", "b.mda"), encoding="utf-8")
    assert [(one.name, one.densities) for one in read_standards(path)] == [
        ("a", {"Ca": 1.9, "Fe": 0.5}),
        ("b", {"Ca": 1.9, "Fe": 0.5}),
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "- {name: x, compounds: {Xx: 1}}", "'Xx' is neither an element nor a formula"),
        ("a.yaml", "- {name: x, compounds: {Fe: 1.0 mg}}", "no number: give ug/cm2"),
        ("a.yaml", "- {name: x, compounds: {Fe: 0}}", "no thin film"),
        ("a.yaml", "- {name: x, compounds: {Fe: 7.9e6}}", "no thin film"),
        ("a.yaml", "- {name: x, compounds: {Fe: 1}, density: 2}", "add up to 1 ug/cm2, its density says 2"),
        ("a.yaml", "- {name: x, compounds: {Fe: 1}, unit: ng/mm2}", "unit, which is not known"),
        ("a.yaml", "- {name: x}", "needs a name and compounds"),
        ("a.yaml", "name: x", "must be a list"),
        ("a.txt", "FILENAME: a\nELEMENTS_IN_STANDARD: Ca, Fe\nWEIGHT: 1\n", "2 elements have 1 weights"),
        ("a.txt", "in ng/mm2\nFILENAME: a\nELEMENTS_IN_STANDARD: Ca\nWEIGHT: 1\n", "speaks of ng/mm: give ug/cm2"),
        ("a.txt", "FILENAME: a\nELEMENTS_IN_STANDARD: Qq\nWEIGHT: 1\n", "'Qq' is neither"),
        ("a.txt", "FILENAME: a\nWEIGHT: 1\n", "no line ELEMENTS_IN_STANDARD"),
        ("a.txt", "nothing", "no description of standards"),
    ],
)
def test_standards_that_cannot_be_used(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_standards(tmp_path / name)


def test_sensitivities_of_each_detector_are_found() -> None:
    found = calibrate(film(), FILM, CONDITIONS, name="f", source="s")
    ca, fe = (found.measured_line(name) for name in ("Ca_Ka", "Fe_Ka"))
    assert ca is not None and fe is not None
    assert ca.sensitivity == pytest.approx((0.02, 0.01, 0.0), rel=0.01)
    assert fe.sensitivity == pytest.approx((0.05, 0.025, 0.0), rel=0.01)
    assert 0 < ca.relative_error < 0.01 and found.notes == ("det3 sees nothing of the standard",)
    worse = calibrate(film(), FILM, replace(CONDITIONS, standard_error=0.05), name="f", source="s")
    assert worse.lines[0].relative_error == pytest.approx(np.hypot(ca.relative_error, 0.05))


def test_a_run_of_other_dwell_flux_and_detectors_has_the_same_density() -> None:
    """2.0 ug/cm2 of Ca at 3e4 of I0, live 0.18 s and 0.15 s of 0.2 s; det3 is left out."""
    found = calibrate(film(), FILM, CONDITIONS, name="f", source="s")
    run = densities_of(found, ("Ca_Ka", "Fe_Ka"), evidence(), dwell_s=0.2, metadata={"energy": 10000})
    seen = 2.0 * 3e4 * (0.02 * 0.9 + 0.01 * 0.75)
    assert convert(np.array([seen]), run.line("Ca_Ka"))[0] == pytest.approx(2.0, rel=0.01)
    assert run.run_energy_kev == 10.0 and run.notes[-1].startswith("Self-absorption is not corrected")
    assert not any("WRONG" in note for note in run.notes)
    only_first = evidence(detectors=(evidence().detectors[0],))
    alone = densities_of(found, ("Ca_Ka",), only_first, dwell_s=0.2)
    assert convert(np.array([2.0 * 3e4 * 0.02 * 0.9]), alone.line("Ca_Ka"))[0] == pytest.approx(2.0, rel=0.01)


def test_error_bars_hold_the_standards() -> None:
    by = LineDensity(line="Ca_Ka", factor=0.1, background=20.0, relative_error=0.05)
    assert convert(np.array([120.0, 20.0]), by) == pytest.approx([10.0, 0.0])
    error = convert(np.array([10.0, 10.0]), by, error_of=np.array([120.0, 20.0]))
    assert error == pytest.approx([np.hypot(1.0, 0.5), 1.0])
    assert np.isnan(convert(np.ones(3), LineDensity(line="X", reason="none"))).all()


def test_the_background_of_a_blank_is_subtracted() -> None:
    plain = film()
    raised = replace(plain, counts=plain.counts + 500.0, background_known=False)
    unknown = calibrate(raised, FILM, CONDITIONS, name="f", source="s")
    assert any("windows hold background" in note for note in unknown.notes)
    known = with_blank(raised, replace(plain, counts=np.full_like(plain.counts, 500.0)), "i0")
    found = calibrate(known, FILM, CONDITIONS, name="f", source="s")
    assert found.lines[0].sensitivity[:2] == pytest.approx((0.02, 0.01), rel=0.03)
    assert found.lines[0].background[0] == pytest.approx(500 / 135000, rel=0.02)
    assert unknown.lines[0].sensitivity[0] > 1.05 * found.lines[0].sensitivity[0]
    with pytest.raises(InputError, match="measure and read both alike"):
        with_blank(raised, replace(plain, detectors=("a", "b", "c")), "i0")


@pytest.mark.parametrize(
    ("changes", "conditions", "words"),
    [
        ({"i0": np.zeros((6, 6))}, CONDITIONS, "I0 of the standard is nowhere positive"),
        ({"i0": None}, CONDITIONS, "no I0: name it"),
        ({"i0": None, "live_time_s": None, "dwell_s": None}, replace(CONDITIONS, normalised="time"), "neither live"),
        ({"counts": np.zeros((3, 2, 6, 6))}, CONDITIONS, r"none of the standard's elements \(Ca, Fe\) shows"),
        ({}, replace(CONDITIONS, energy_kev=10000.0), "give it in keV"),
    ],
)
def test_standards_without_beam_or_lines_are_refused(changes: Any, conditions: Conditions, words: str) -> None:
    with pytest.raises(InputError, match=words):
        calibrate(film(**changes), FILM, conditions, name="f", source="s")


def test_runs_that_do_not_fit_the_calibration_are_refused_or_warned_of() -> None:
    found = replace(calibrate(film(), FILM, CONDITIONS, name="f", source="s"), distance_mm=40.0)
    lines = ("Ca_Ka", "Fe_Ka")
    with pytest.raises(InputError, match="counts in windows, and this map holds fitted areas"):
        densities_of(found, lines, evidence(kind="areas"))
    with pytest.raises(InputError, match="this run has no I0"):
        densities_of(found, lines, evidence(i0=None))
    with pytest.raises(InputError, match="this run has xsp1"):
        densities_of(found, lines, evidence(detectors=(DetectorEvidence(detector="xsp1"),)))
    metadata = {"scan": {"energy": 12.0}, "detector_distance": 80.0}
    notes = " ".join(densities_of(found, lines, evidence(i0=3e6), dwell_s=None, metadata=metadata).notes)
    assert "WRONG ENERGY: this run has 12 keV" in notes and "WRONG GEOMETRY: the detector is at 80 mm" in notes
    assert "times that of the standard: is its amplifier" in notes and "dead time is not corrected" in notes
    run = densities_of(found, ("Ca_Ka", "Zn_Ka", "Ba_La", "Y_Ka"), evidence(), dwell_s=0.2)
    reasons = {one.line: one.reason for one in run.lines}
    assert "no L line" in reasons["Ba_La"] and "does not excite Y_Ka" in reasons["Y_Ka"]
    with pytest.raises(InputError, match="Ba_La has no areal density"):
        run.line("Ba_La")


def test_lines_without_a_standard_come_from_cross_sections() -> None:
    """One reference has a wide error; with two, the factor is interpolated and its error is how far off it is."""
    both = calibrate(film(), FILM, CONDITIONS, name="f", source="s")
    one, computed = replace(both, lines=both.lines[:1]).line("Fe_Ka")
    assert computed and one.density is None and one.relative_error >= SINGLE_REFERENCE_ERROR
    between, _ = both.line("Ti_Ka")
    ca, fe = both.lines
    assert ca.sensitivity[0] < between.sensitivity[0] < fe.sensitivity[0]
    assert both.line("Ca_Ka") == (ca, False)
    off = both.line("Ti_Ka")[0].relative_error
    assert off > 0.05, "made-up sensitivities do not follow cross-sections, and the error says so"


def test_counts_per_second() -> None:
    fe = per_second(("Fe_Ka",), evidence(), None)[0]
    assert fe.factor == pytest.approx(0.6 / 0.18 + 0.4 / 0.15)
    bare = evidence(detectors=(DetectorEvidence(detector="d", gains={"Fe_Ka": 1.0}),))
    assert per_second(("Fe_Ka",), bare, 0.5)[0].factor == pytest.approx(2.0)
    with pytest.raises(InputError, match="neither is known"):
        per_second(("Fe_Ka",), bare, None)


@pytest.mark.parametrize("dwell", [-0.05, 0.0, float("nan"), float("inf"), True, "0.1"])
def test_a_dwell_or_live_time_that_cannot_be_is_not_known(tmp_path: Path, dwell: Any) -> None:
    """In a file, in evidence, in the map of a standard, and in the start document of a run."""
    bare = evidence(detectors=(DetectorEvidence(detector="d", gains={"Fe_Ka": 1.0}),))
    with pytest.raises(InputError, match="neither is known"):
        per_second(("Fe_Ka",), bare, dwell)
    dead = evidence(detectors=(DetectorEvidence(detector="d", gains={"Fe_Ka": 1.0}, live_time_s=dwell),))
    assert per_second(("Fe_Ka",), dead, 0.5)[0].factor == pytest.approx(2.0)
    with pytest.raises(InputError, match="neither live time nor dwell"):
        calibrate(
            film(live_time_s=None, dwell_s=dwell), FILM, replace(CONDITIONS, normalised="time"), name="f", source="s"
        )
    no_dwell = calibrate(film(dwell_s=None), FILM, CONDITIONS, name="f", source="s")
    assert calibrate(film(dwell_s=dwell), FILM, CONDITIONS, name="f", source="s").lines == no_dwell.lines
    if not isinstance(dwell, float):
        return
    np.savez(tmp_path / "d.npz", counts=np.ones((1, 1, 4, 4), np.uint32), lines=["Fe_Ka"], dwell_s=dwell)
    read = read_map(tmp_path / "d.npz")
    assert "dwell_s" not in read.metadata and f"a dwell of {dwell} s cannot be" in read.remark
    assert read.line_map("d").info.dwell_s is None
    profile, start = load_profile("simulated"), {"shape": [2, 3], "dwell_s": dwell, "extents": [[0, 1], [0, 2]]}
    assert geometry_of(profile, start).dwell_s is None
    assert geometry_of(profile, start | {"dwell_s": 0.1}).dwell_s == 0.1


def test_a_calibration_of_the_sum_fits_only_maps_of_all_detectors() -> None:
    line = LineCalibration(line="Ca_Ka", sensitivity=(0.03,), background=(0.0,), relative_error=0.0, density=2.0)
    found = Calibration(
        name="p", standard="p", energy_kev=10.0, detectors=("sum",), normalised="i0", kind="counts", lines=(line,)
    )
    assert "left out" in densities_of(found, ("Ca_Ka",), evidence(), dwell_s=0.2).lines[0].reason
    two = evidence(detectors=evidence().detectors[:2])
    factor = densities_of(found, ("Ca_Ka",), two, dwell_s=0.2).line("Ca_Ka").factor
    assert factor == pytest.approx(1 / (0.03 * 3e4 * (0.6 * 0.9 + 0.4 * 0.75)))


def test_detection_limits_fall_with_denoising() -> None:
    rng = np.random.default_rng(4)
    truth = np.full((60, 60), 4.0)
    truth[20:40, 20:40] = 400.0
    raw = rng.poisson(truth).astype(float)
    denoised = truth + rng.normal(0, 0.3, truth.shape)
    found = detection_limit(raw, denoised, np.full(truth.shape, 0.4), "counts")
    assert found.raw == pytest.approx(3 * 2.0, rel=0.1) and found.denoised == pytest.approx(3 * 0.4, rel=0.1)
    honest = detection_limit(raw, raw, np.full(truth.shape, 0.01), "counts").denoised
    assert honest is not None and honest > 4, "an error bar that is too small does not make a limit"
    assert detection_limit(raw[:5, :5], raw[:5, :5], raw[:5, :5], "counts").raw is None
    hole = np.where(truth > 100, np.nan, raw)
    assert detection_limit(hole, hole, hole, "areas").raw == pytest.approx(6.0, rel=0.15)


def test_thick_samples_are_warned_of() -> None:
    by = (LineDensity(line="Ca_Ka", factor=1.0), LineDensity(line="Fe_Ka", factor=1.0))
    thin = {"Ca_Ka": np.full((5, 5), 2.0), "Fe_Ka": np.full((5, 5), 0.5)}
    assert absorption_notes(thin, 10.0, by) == []
    [note] = absorption_notes({"Ca_Ka": np.full((5, 5), 2000.0), "Fe_Ka": np.full((5, 5), 5.0)}, 10.0, by)
    assert note.startswith("NOT THIN") and "Ca_Ka" in note and "Fe_Ka" in note


def test_beam_energies_of_start_documents() -> None:
    assert beam_energy_kev({}) is None and beam_energy_kev({"energy": "12 keV"}) is None
    assert beam_energy_kev({"scan": {"energy": 12.0}}) == 12.0
    assert beam_energy_kev({"instrument_mono_incident_energy": 7112.0}) == 7.112
    assert beam_energy_kev({"energy": True}) is None and beam_energy_kev({"energy": float("nan")}) is None


def test_windows_beside_a_peak_show_its_background() -> None:
    spectra = made_up({"Ca_Ka": 400.0, "Fe_Ka": 150.0}, seed=3)
    spectra += np.random.default_rng(5).poisson(1.0, spectra.shape)
    from quietbeam.spectra import MapInfo

    info = MapInfo(source="s", detectors=("det1", "det2"), shape=(5, 4), i0=np.ones((5, 4)), dwell_s=1.0)
    measured = SpectralMap(info=info, spectra=spectra, calibration=np.array(CALIBRATION))
    found = counts_of_spectra(measured, ("Ca_Ka", "Fe_Ka"), 1)
    assert found.inside.sum() == 6, "edges are left out"
    cal = calibrate(found, FILM, CONDITIONS, name="f", source="s")
    assert cal.lines[0].sensitivity == pytest.approx([0.954 * 400 / 2.0] * 2, rel=0.05)
    with pytest.raises(InputError, match="take a smaller --margin"):
        counts_of_spectra(measured, ("Ca_Ka",), 3)


@pytest.mark.parametrize("half", [0, 1])
def test_one_half_of_the_real_film_gives_the_other(half: int) -> None:
    """Calibrated on every second pixel, the film's other pixels have the certified areal densities."""
    measured = read_measured(real("aps_2ide_axo_std.npz"))
    assert isinstance(measured, SpectralMap)
    [standard] = read_standards(real("aps_2ide_axo_standard.txt"))
    lines = lines_of_standard(standard, 10.0, CONDITIONS.path)
    assert lines == ("Ca_Ka", "Fe_Ka", "Cu_Ka")
    both = counts_of_spectra(measured, lines, 0)
    board = np.indices(both.inside.shape).sum(0) % 2 == half
    found = calibrate(replace(both, inside=board), standard, CONDITIONS, name="film", source="film")
    assert not any(lines in note for note in found.notes)
    result = quietbeam.denoise(
        both.counts,
        lines,
        detectors=both.detectors,
        i0=both.i0,
        live_time_s=both.live_time_s,
        measured=~board,
        device="cpu",
        steps=0,
    )
    run = densities_of(found, lines, result.evidence, dwell_s=both.dwell_s)
    for j, line in enumerate(lines):
        by = run.line(line)
        got = convert(result.denoised[j], by)[~board]
        error = convert(result.uncertainty[j], by, error_of=result.denoised[j])[~board]
        true = standard.densities[line.partition("_")[0]]
        assert got.mean() == pytest.approx(true, rel=0.02), line
        assert 0.003 * true < error.mean() < 0.1 * true
