"""The numbers of X-ray fluorescence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xraylib

from quietbeam.beamline import physics
from quietbeam.beamline.specimen import make_specimen
from quietbeam.core.errors import InputError
from quietbeam.spectra import resolution_fwhm


@pytest.mark.parametrize(
    ("line", "kev"),
    [
        ("P_Ka", 2.010),
        ("S_Ka", 2.307),
        ("K_Ka", 3.313),
        ("Ca_Ka", 3.691),
        ("Fe_Ka", 6.400),
        ("Fe_Kb", 7.06),
        ("Zn_Ka", 8.632),
        ("Pt_La", 9.43),
    ],
)
def test_line_energies_are_those_of_the_tables(line: str, kev: float) -> None:
    assert physics.line_energy(line) == pytest.approx(kev, abs=0.01)


def test_ka_is_the_doublet() -> None:
    doublet = sum(xraylib.CS_FluorLine_Kissel(26, m, 12.0) for m in (xraylib.KL2_LINE, xraylib.KL3_LINE))
    assert physics.fluorescence_cross_section("Fe_Ka", 12.0) == pytest.approx(doublet, rel=1e-3)
    assert physics.fluorescence_cross_section("Fe_Ka", 7.0) == 0.0, "below the K edge at 7.11 keV"


@pytest.mark.parametrize("line", ["Fe", "Fe_K", "fe_Ka", "Xx_Ka", "Fe_Kz", "", "H_La"])
def test_a_wrong_line_is_refused_with_its_name(line: str) -> None:
    with pytest.raises(InputError, match=line or "''"):
        physics.parse_line(line)


def test_thin_films_shine_in_proportion_and_thick_ones_saturate() -> None:
    def shine(density: float) -> float:
        film = np.full((1, 1, 1), density)
        return float(physics.fluorescence_yield(["Fe_Ka"], film, "H2O", np.zeros((1, 1)))[0, 0, 0])

    assert shine(2e-6) / shine(1e-6) == pytest.approx(2, rel=1e-2)
    assert shine(20.0) / shine(10.0) == pytest.approx(1, rel=1e-6)
    mu_in = physics.attenuation("Fe", 12.0) / math.sin(physics.INCIDENCE_RAD)
    mu_out = physics.attenuation("Fe", physics.line_energy("Fe_Ka")) / math.sin(physics.TAKE_OFF_RAD)
    thick = physics.fluorescence_cross_section("Fe_Ka") / math.sin(physics.INCIDENCE_RAD) / (mu_in + mu_out)
    assert shine(10.0) == pytest.approx(thick, rel=1e-6)


def test_soft_lines_lose_more_in_the_specimen() -> None:
    films = np.full((2, 1, 1), 1e-6)
    water = np.full((1, 1), 2e-3)
    bare = physics.fluorescence_yield(["P_Ka", "Zn_Ka"], films, "H2O", np.zeros((1, 1)))
    wet = physics.fluorescence_yield(["P_Ka", "Zn_Ka"], films, "H2O", water)
    kept = (wet / bare).ravel()
    assert kept[0] < 0.4 < 0.95 < kept[1]


def test_resolution_is_that_of_a_drift_detector() -> None:
    assert 0.135 < resolution_fwhm(5.9) < 0.155
    assert physics.detector_efficiency("P_Ka") < physics.detector_efficiency("Fe_Ka") <= 1


@pytest.mark.parametrize("name", ["star", "cell"])
@pytest.mark.parametrize("shape", [(11, 11), (1, 40), (24, 60)])
def test_specimens_are_seeded_and_sane_at_any_shape(name: str, shape: tuple[int, int]) -> None:
    one, two, other = (make_specimen(name, ("P_Ka", "Fe_Ka", "Ni_Ka"), shape, seed) for seed in (3, 3, 4))
    assert one.areal_density.shape == (3, *shape)
    assert np.array_equal(one.areal_density, two.areal_density)
    assert not np.array_equal(one.areal_density, other.areal_density)
    assert np.isfinite(one.areal_density).all() and one.areal_density.min() >= 0 and one.areal_density.max() < 1e-2


def test_the_cell_has_its_organelles() -> None:
    cell = make_specimen("cell", physics.DEFAULT_LINES, (96, 96), 0)
    maps = dict(zip(cell.lines, cell.areal_density, strict=True))
    fractions = {line: float((m > 0.5 * m.max()).mean()) for line, m in maps.items()}
    assert fractions["Ca_Ka"] < 0.08 and fractions["Cu_Ka"] < 0.12, "vesicles and filaments are small"
    assert fractions["K_Ka"] > 0.15, "potassium fills the cell"
    assert not np.corrcoef(maps["Ca_Ka"].ravel(), maps["Cu_Ka"].ravel())[0, 1] > 0.5


def test_what_cannot_be_simulated_is_refused() -> None:
    for name, lines, words in (
        ("rock", ("Fe_Ka",), "star, cell"),
        ("cell", ("Fe_Ka", "Fe_Ka"), "twice"),
        ("cell", ("Fe_Ka", "Sr_Ka"), "Sr_Ka cannot be excited"),
    ):
        with pytest.raises(InputError, match=words):
            make_specimen(name, lines, (8, 8))
