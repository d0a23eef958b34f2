"""Absent is not zero, and one bad value costs one pixel: files as stopped scans and broken scalers leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from files_kit import bliss, cut, maps, pyxrf, spectra

import quietbeam
from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import ReadChoice, read_map

ROWS, COLS = 6, 7


def lit(file: Any) -> np.ndarray:
    assert file.measured is not None
    return np.asarray(file.measured)


@pytest.mark.parametrize("with_i0", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
def test_pyxrf_of_a_stopped_scan(tmp_path: Path, with_i0: bool, backwards: bool) -> None:
    data, there = spectra(), np.ones((ROWS, COLS), bool)
    there[4:], there[3, 3:] = False, False
    if backwards:
        there[3] = there[3][::-1]
    data[~there] = 0
    file = read_map(pyxrf(tmp_path / "a.h5", data, {"i0": np.where(there, 1e5, 0)} if with_i0 else {}), ["Fe_Ka"])
    assert np.array_equal(lit(file), there)
    assert np.array_equal(file.counts[:, 0][:, there], cut(data)[:, there])
    assert ("stopped" in file.remark) != with_i0 and (file.i0 is not None) == with_i0


@pytest.mark.parametrize("value", [0.0, np.nan, -3e-9, np.inf])
@pytest.mark.parametrize("kind", ["pyxrf", "maps", "bliss", "npz", "own"])
def test_a_bad_i0_costs_its_pixels(tmp_path: Path, kind: str, value: float) -> None:
    data, i0 = spectra(), np.linspace(3, 9, ROWS * COLS).reshape(ROWS, COLS)
    i0[2, 5] = value
    flat = data.reshape(ROWS * COLS, 2, -1)
    if kind == "pyxrf":
        path = pyxrf(tmp_path / "a.h5", data, {"time": np.ones_like(i0), "sclr_i0": i0})
    elif kind == "maps":
        path = maps(tmp_path, "a.mda", data, i0)
    elif kind == "bliss":
        path = bliss(tmp_path / "a.h5", {1: ("amesh x 0 1 6 y 0 1 5 0.1", flat, {"I0": i0.ravel()})})
    elif kind == "npz":
        path = tmp_path / "a.npz"
        np.savez(path, spectra=data, i0=i0)
    else:
        path = tmp_path / "a.npz"
        np.savez(path, counts=cut(data)[:, None], lines=["Fe_Ka"], i0=i0)
    choice = ReadChoice(energy=(0.0, 0.01)) if kind == "npz" else None
    file = read_map(path, ["Fe_Ka"], choice=choice)
    assert lit(file).sum() == ROWS * COLS - 1 and not lit(file)[2, 5]
    assert file.i0 is not None and np.allclose(file.i0[lit(file)], i0[lit(file)])
    assert "not positive in 1 pixels" in file.remark
    quietbeam.denoise(
        file.counts, file.lines, i0=file.i0, measured=file.measured, options=DenoiseOptions(threads=1, fine_tune=False)
    )


def test_an_i0_that_is_never_positive_is_left_out_loudly(tmp_path: Path) -> None:
    data = spectra()
    file = read_map(pyxrf(tmp_path / "a.h5", data, {"i0": np.full((ROWS, COLS), -2e-9)}), ["Fe_Ka"])
    assert file.i0 is None and lit(file).all() and "NOT NORMALISED: I0 (i0) is nowhere positive" in file.remark
    np.savez(tmp_path / "own.npz", counts=cut(data)[:, None], i0=np.zeros((ROWS, COLS)))
    file = read_map(tmp_path / "own.npz")
    assert file.i0 is None and file.measured is None and "NOT NORMALISED" in file.remark


def test_which_scaler_is_i0_is_said_and_chosen(tmp_path: Path) -> None:
    one = np.ones((ROWS, COLS))
    path = pyxrf(tmp_path / "a.h5", spectra(), {"sis_x": one, "ion chamber [2]": 5 * one})
    file = read_map(path, ["Fe_Ka"])
    assert file.i0 is None and "none of the scalers is known as I0 (sis_x, ion chamber [2])" in file.remark
    file = read_map(path, ["Fe_Ka"], choice=ReadChoice(i0="Ion Chamber [2]"))
    assert file.i0 is not None and (file.i0 == 5).all() and "I0 is ion chamber [2]" in file.remark
    assert "no I0 is used, as chosen" in read_map(path, ["Fe_Ka"], choice=ReadChoice(i0="none")).remark
    with pytest.raises(InputError, match=r"no scaler I1 .* sis_x, ion chamber \[2\]: --i0 NAME"):
        read_map(path, ["Fe_Ka"], choice=ReadChoice(i0="I1"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 2.5, 2.0**32])
def test_one_bad_channel_costs_its_pixel(tmp_path: Path, value: float) -> None:
    data = spectra().astype(np.float32)
    data[1, 2, 0, 640] = value
    file = read_map(pyxrf(tmp_path / "a.h5", data, {}), ["Fe_Ka"])
    assert lit(file).sum() == 41 and not lit(file)[1, 2] and "1 of 42 pixels are not measured" in file.remark
    good = lit(file)
    assert np.array_equal(file.counts[:, 0][:, good], cut(data)[:, good])


def test_spectra_that_are_no_counts_are_refused(tmp_path: Path) -> None:
    path = pyxrf(tmp_path / "a.h5", spectra().astype(np.float32) * 1.07, {})
    with pytest.raises(FileFormatError, match="spectra are no counts: 42 of 42 pixels"):
        read_map(path, ["Fe_Ka"])


@pytest.mark.parametrize("dtype", ["u2", "i4", "u4", "f8"])
def test_a_lines_file_with_one_odd_row_is_read(tmp_path: Path, dtype: str) -> None:
    counts = np.random.default_rng(0).poisson(9, (2, 2, ROWS, COLS)).astype(dtype)
    odd = counts.copy()
    odd[0, 1, 3] = {"u2": 65535, "i4": -1, "u4": 2**32 - 1, "f8": -1}[dtype]
    np.savez(tmp_path / "a.npz", counts=odd)
    file = read_map(tmp_path / "a.npz")
    line_map = read_map(tmp_path / "a.npz").select(["line_0", "line_1"])
    assert "7 of 42 pixels" in file.remark
    if dtype == "f8":
        assert np.isnan(file.counts[0, 1, 3]).all() and np.isfinite(file.counts).sum() == counts.size - COLS
    else:
        assert not lit(file)[3].any() and lit(file).sum() == 35 and line_map.counts[:, :, 3].max() == 0
    out = quietbeam.denoise(file.counts, measured=file.measured, options=DenoiseOptions(threads=1, fine_tune=False))
    assert out.evidence.kind == "counts"


def test_counts_that_are_fits_stay_fits(tmp_path: Path) -> None:
    areas = np.random.default_rng(0).normal(1, 3, (2, 1, ROWS, COLS))
    areas[:, :, 2] = 0  # as non-negative fits leave it
    areas[0, 0, 1, 1] = np.inf
    np.savez(tmp_path / "a.npz", counts=areas)
    file = read_map(tmp_path / "a.npz")
    assert not file.remark and np.isnan(file.counts[0, 0, 1, 1]) and np.isfinite(file.counts).sum() == areas.size - 1


def test_a_bliss_scan_whose_detectors_stopped_one_after_the_other(tmp_path: Path) -> None:
    data = spectra()
    flat = data.reshape(42, 2, -1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["1.1/title"] = "amesh x 0 1 6 y 0 1 5 0.1"
        file["1.1/measurement/mca0"], file["1.1/measurement/mca1"] = flat[:20, 0], flat[:18, 1]
        file["1.1/measurement/I0"] = np.ones(19)
    file = read_map(tmp_path / "a.h5", ["Fe_Ka"])
    assert np.array_equal(lit(file).ravel(), np.arange(42) < 18) and "18 to 20 spectra" in file.remark
    assert np.array_equal(file.counts[:, 0].reshape(2, -1)[:, :18], cut(data).reshape(2, -1)[:, :18])


@pytest.mark.parametrize("scale", [1000.0, 1.0])
def test_energies_in_ev_are_recognised(tmp_path: Path, scale: float) -> None:
    path = pyxrf(tmp_path / "scan_1.h5", spectra(), {})
    pairs = [[0.0, 0.01 * scale]] * 2
    (tmp_path / "scan_energy_calibration.json").write_text(json.dumps({"scan": pairs}))
    file = read_map(path, ["Fe_Ka"])
    assert np.array_equal(file.counts[:, 0], cut(spectra()))
    assert ("taken to be in eV: 0.01 keV per channel" in file.remark) == (scale == 1000)


def test_energies_that_fit_no_unit_are_refused(tmp_path: Path) -> None:
    path = pyxrf(tmp_path / "a.h5", spectra(), {})
    for pair in ((0.0, 0.5), (-200.0, 0.01)):
        with pytest.raises(FileFormatError, match=r"cannot be in keV.*--energy 0,0\.01"):
            read_map(path, ["Fe_Ka"], choice=ReadChoice(energy=pair))
