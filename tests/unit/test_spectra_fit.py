"""Fitted areas: PyMca's fast linear fit, where it is installed (`pip install quietbeam[fit]`)."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from pydantic import ValidationError

from quietbeam.core.errors import FileFormatError, InputError, ServiceError
from quietbeam.ingest.profile.sections import SpectraSection
from quietbeam.ingest.profile.source import Source
from quietbeam.spectra import MapInfo, SpectralMap, line_energy, resolution_fwhm, spectra_to_lines
from quietbeam.spectra.fit import fit_lines, linear_fit

CHANNELS, DETECTORS = 1200, 2
ENERGY = 0.01 * np.arange(CHANNELS)


def measured(areas: dict[str, float], pixels: int = 200) -> SpectralMap:
    """Peaks with their areas in counts on a background that falls with energy."""
    mean = 0.6 * np.exp(-ENERGY / 4)
    for line, area in areas.items():
        sigma = resolution_fwhm(line_energy(line)) / 2.355
        mean = mean + area * 0.01 / sigma / 2.507 * np.exp(-0.5 * ((ENERGY - line_energy(line)) / sigma) ** 2)
    spectra = np.random.default_rng(0).poisson(mean, (2, pixels // 2, DETECTORS, CHANNELS)).astype(np.uint32)
    info = MapInfo(source="made up", detectors=("det1", "det2"), shape=(2, pixels // 2))
    return SpectralMap(info=info, spectra=spectra, calibration=np.array([[0.0, 0.01]] * DETECTORS))


def test_without_pymca_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PyMca5", "PyMca5.PyMcaPhysics.xrf.FastXRFLinearFit"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ServiceError, match=r"quietbeam\[fit\]"):
        fit_lines(measured({"Fe_Ka": 50.0}))
    with pytest.raises(ValidationError, match=r"quietbeam\[fit\]"):
        SpectraSection(lines=Source(literal=["Fe_Ka"]), method="fit")


def test_areas_lose_the_background_and_the_overlap() -> None:
    pytest.importorskip("PyMca5", reason="PyMca is an extra: pip install 'quietbeam[fit]'")
    source = measured({"Cr_Ka": 300.0, "Cr_Kb": 40.0, "Mn_Ka": 60.0, "Mn_Kb": 8.0})
    windows = spectra_to_lines(source, ["Mn_Ka"]).counts.mean((0, 2, 3))[0]
    fitted = fit_lines(source, ["Mn_Ka"])
    assert fitted.counts.dtype == np.float32 and fitted.counts.shape == (DETECTORS, 1, 2, 100)
    area = fitted.counts.mean((2, 3))[:, 0]
    assert windows > 95, "the window holds Kb of chromium"
    assert area == pytest.approx([68, 68], rel=0.2), "Ka and Kb of manganese, without chromium, which was not asked for"
    with pytest.raises(InputError, match="one family"):
        fit_lines(source, ["Mn_Ka", "Mn_Kb"])
    with pytest.raises(FileFormatError, match="Peaks found"):
        fit_lines(source, ["Zr_Ka"])


def test_a_fit_as_a_matrix_gives_the_areas_of_the_families() -> None:
    """As the fit of files does, and below the scattered beam only."""
    pytest.importorskip("PyMca5", reason="PyMca is an extra: pip install 'quietbeam[fit]'")
    source = measured({"Cr_Ka": 300.0, "Cr_Kb": 40.0, "Mn_Ka": 60.0, "Mn_Kb": 8.0, "Zn_Ka": 500.0}, pixels=400)
    lines = ["Mn_Ka", "Cr_Ka"]
    fit = linear_fit(lines, source.calibration, CHANNELS, below_kev=7.5)
    areas = fit.areas(source.spectra.reshape(-1, DETECTORS, CHANNELS))
    assert areas.shape == (400, DETECTORS, 2) and areas.dtype == np.float32
    assert areas.mean(0) == pytest.approx(np.array([[68, 340]] * DETECTORS), rel=0.06)
    for bad, words in ((["Mn_Ka", "Mn_Kb"], "one family"), ([*lines, "Zr_Ka"], "Zr_Ka cannot be fitted")):
        with pytest.raises(InputError, match=words):
            linear_fit(bad, source.calibration, CHANNELS, below_kev=7.5)
