"""Files of other programs in, and out again: every layout written as that program writes it, read to exact counts."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from typer.testing import CliRunner

import quietbeam
from quietbeam.cli import app
from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.denoiser.offline import DenoiseResult
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import format_of, read_map, write_result
from quietbeam.files.names import line_name, maps_name, short_name
from quietbeam.spectra import line_energy, resolution_fwhm, window

LINES = ("Ca_Ka", "Fe_Ka", "Cu_Ka")
ROWS, COLS, DETECTORS, CHANNELS = 6, 5, 3, 1200
CALIBRATION = (0.0, 0.01)


@pytest.fixture(scope="module")
def spectra() -> np.ndarray:
    """(row, col, detector, channel) photon counts with three peaks on a flat background."""
    rng = np.random.default_rng(0)
    energy = CALIBRATION[0] + CALIBRATION[1] * np.arange(CHANNELS)
    shape = np.full(CHANNELS, 0.02)
    for line, strength in zip(LINES, (40, 90, 30), strict=True):
        sigma = resolution_fwhm(line_energy(line)) / 2.355
        shape = shape + strength * 0.01 / sigma / 2.507 * np.exp(-0.5 * ((energy - line_energy(line)) / sigma) ** 2)
    gains = np.array([1.0, 1.2, 0.8])
    return rng.poisson(shape * gains[:, None], (ROWS, COLS, DETECTORS, CHANNELS)).astype(np.uint32)


@pytest.fixture(scope="module")
def counts(spectra: np.ndarray) -> np.ndarray:
    """(detector, line, row, col): what the windows hold."""
    out = np.zeros((DETECTORS, len(LINES), ROWS, COLS), np.uint32)
    for j, line in enumerate(LINES):
        low, stop = window(line, np.array(CALIBRATION), CHANNELS)
        out[:, j] = spectra[..., low:stop].sum(-1).transpose(2, 0, 1)
    return out


def pyxrf_file(path: Path, spectra: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["xrfmap/detsum/counts"] = spectra.sum(2)
        for d in range(spectra.shape[2]):
            file[f"xrfmap/det{d + 1}/counts"] = spectra[:, :, d].astype(np.float32)
        file["xrfmap/scalers/name"] = np.array([b"i0", b"time"])
        file["xrfmap/scalers/val"] = np.stack([np.full(spectra.shape[:2], 7.0), np.zeros(spectra.shape[:2])], -1)
    return path


def maps_files(folder: Path, spectra: np.ndarray) -> Path:
    for d in range(spectra.shape[2]):
        with h5py.File(folder / f"2xfm_0123.mda.h5{d}", "w") as file:
            file["MAPS/Spectra/mca_arr"] = spectra[:, :, d].transpose(2, 0, 1).astype(np.float32)
            file["MAPS/Spectra/Energy_Calibration"] = [*CALIBRATION, 0.0]
            file["MAPS/Spectra/Elapsed_Livetime"] = np.full(spectra.shape[:2], 0.1 + d)
            file["MAPS/Scalers/Names"] = np.array([b"SRCURRENT", b"US_IC"])
            file["MAPS/Scalers/Values"] = np.full((2, *spectra.shape[:2]), 5.0)
    return folder / "2xfm_0123.mda.h51"


def bliss_file(path: Path, spectra: np.ndarray, *, points: int, title: str) -> Path:
    flat = spectra.reshape(-1, *spectra.shape[2:])[:points]
    with h5py.File(path, "w") as file:
        file["1.1/title"], file["1.1/measurement/samx"] = "ascan samx 0 1 3 0.1", np.zeros(4)
        file["2.1/title"] = title
        for d in range(flat.shape[1]):
            file[f"2.1/instrument/mca{d}/data"] = flat[:, d]
            file[f"2.1/measurement/mca{d}"] = h5py.SoftLink(f"/2.1/instrument/mca{d}/data")
            file[f"2.1/measurement/mca{d}_live_time"] = np.full(points, 0.09)
        file["2.1/measurement/samy"] = np.repeat(np.arange(ROWS), COLS)[:points].astype(float)
    return path


@pytest.mark.supports("file in", "PyXRF HDF5, spectra of single detectors")
def test_pyxrf_spectra(tmp_path, spectra, counts) -> None:
    file = read_map(pyxrf_file(tmp_path / "scan2D_1.h5", spectra), LINES)
    np.testing.assert_array_equal(file.counts, counts)
    assert (file.lines, file.detectors) == (LINES, ("det1", "det2", "det3"))
    assert file.i0 is not None and (file.i0 == 7).all()
    found = read_map(tmp_path / "scan2D_1.h5").lines  # every line with a peak; the last may be the beam's own
    assert set(LINES[:2]) <= set(found)


@pytest.mark.supports("file in", "PyXRF HDF5, fits of single detectors")
def test_pyxrf_fits(tmp_path) -> None:
    values = np.random.default_rng(0).normal(30, 6, (2, 4, ROWS, COLS)).astype(np.float32)
    with h5py.File(tmp_path / "fit.h5", "w") as file:
        for d in range(2):
            file[f"xrfmap/det{d + 1}/xrf_fit"] = values[d]
            file[f"xrfmap/det{d + 1}/xrf_fit_name"] = np.array([b"Fe_K", b"Pt_L", b"compton", b"Au_M"])
    file = read_map(tmp_path / "fit.h5")
    assert file.lines == ("Fe_Ka", "Pt_La", "Au_Ma")
    np.testing.assert_array_equal(file.counts, values[:, [0, 1, 3]])
    assert read_map(tmp_path / "fit.h5", ["Pt_La"]).counts.shape == (2, 1, ROWS, COLS)
    result = quietbeam.denoise(file.counts, file.lines, options=DenoiseOptions(fine_tune=False, threads=1))
    assert result.evidence.kind == "areas"


@pytest.mark.supports("file in", "MAPS HDF5, one file a detector (.h50, .h51 ...)")
def test_maps_single_detector_files(tmp_path, spectra, counts) -> None:
    file = read_map(maps_files(tmp_path, spectra), LINES)
    np.testing.assert_array_equal(file.counts, counts)
    assert file.live_time_s is not None and file.live_time_s[:, 0, 0] == pytest.approx([0.1, 1.1, 2.1])
    assert file.i0 is not None and (file.i0 == 5).all()


@pytest.mark.supports("file in", "MAPS HDF5, raw spectra (`MAPS_RAW`)")
def test_maps_raw(tmp_path, spectra, counts) -> None:
    with h5py.File(tmp_path / "2xfm_0007.h5", "w") as file:
        for d, letter in enumerate("abc"):
            file[f"MAPS_RAW/data_{letter}"] = spectra[:, :, d].transpose(2, 0, 1).astype(np.int32)
        file["MAPS_RAW/livetime"] = np.full((DETECTORS, ROWS, COLS), 0.4)
        file["MAPS_RAW/realtime"] = np.full((DETECTORS, ROWS, COLS), 0.5)
    with pytest.raises(FileFormatError, match="says nothing of energies"):
        read_map(tmp_path / "2xfm_0007.h5", LINES)
    beside = tmp_path / "2xfm_energy_calibration.json"
    beside.write_text(json.dumps({"2xfm": [list(CALIBRATION)] * DETECTORS}))
    file = read_map(tmp_path / "2xfm_0007.h5", LINES)
    np.testing.assert_array_equal(file.counts, counts)
    assert file.live_time_s is not None and (file.live_time_s == 0.4).all() and file.metadata["dwell_s"] == 0.5


@pytest.mark.supports("file in", "MAPS HDF5, fitted maps of each detector")
def test_maps_fits(tmp_path) -> None:
    values = np.random.default_rng(0).normal(30, 6, (2, 3, ROWS, COLS)).astype(np.float32)
    for d in range(2):
        with h5py.File(tmp_path / f"a.h5{d}", "w") as file:
            file["MAPS/XRF_Analyzed/NNLS/Counts_Per_Sec"] = values[d]
            file["MAPS/XRF_Analyzed/NNLS/Channel_Names"] = np.array([b"Fe", b"Pt_L", b"COHERENT_SCT_AMPLITUDE"])
    file = read_map(tmp_path / "a.h50")
    assert file.lines == ("Fe_Ka", "Pt_La")
    np.testing.assert_array_equal(file.counts, values[:, :2])


@pytest.mark.supports("file in", "BLISS HDF5, spectra of a mesh or fscan2d")
@pytest.mark.parametrize(
    ("title", "points"),
    [
        ("amesh samx 0 4 4 samy 0 5 5 0.1", ROWS * COLS),
        ("amesh samx 0 4 4 samy 0 5 5 0.1", ROWS * COLS - 7),
        (f"fscan2d samy 0 1 {ROWS} samx 0 1 {COLS} 0.1", ROWS * COLS),
        ("something else", ROWS * COLS),
    ],
)
def test_bliss(tmp_path, spectra, counts, title: str, points: int) -> None:
    file = read_map(bliss_file(tmp_path / "dataset.h5", spectra, points=points, title=title), LINES)
    assert file.detectors == ("mca0", "mca1", "mca2")
    flat = file.counts.reshape(DETECTORS, len(LINES), -1)
    np.testing.assert_array_equal(flat[..., :points], counts.reshape(DETECTORS, len(LINES), -1)[..., :points])
    assert file.measured is not None and file.measured.sum() == points
    assert file.live_time_s is not None and file.live_time_s[0, 0, 0] == pytest.approx(0.09)


@pytest.mark.parametrize("label", ["Fe", "Fe_K", "fe_ka", b"FE-K", "Fe_Ka1"])
def test_names_of_lines(label) -> None:
    assert line_name(label) == "Fe_Ka"
    assert (line_name("Pt_L"), line_name("Au_M"), line_name("compton"), line_name("snip_bkg")) == (
        "Pt_La",
        "Au_Ma",
        "",
        "",
    )
    assert (short_name("Fe_Ka"), maps_name("Fe_Ka"), maps_name("Pt_La")) == ("Fe_K", "Fe", "Pt_L")


@pytest.mark.parametrize("name", ["counts.npz", "stored.npz", "counts.h5"])
def test_damaged_files_are_named(name: str, counts: np.ndarray, tmp_path: Path) -> None:
    """Cut off anywhere, or with bytes overwritten: it is read, or refused with the file's name."""
    path, rng = tmp_path / name, np.random.default_rng(0)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["counts"], file["lines"] = counts, list(LINES)
    else:
        (np.savez if "stored" in name else np.savez_compressed)(path, counts=counts, lines=LINES)
    whole, refused = np.frombuffer(path.read_bytes(), np.uint8), 0
    for n in range(40):
        data = whole[: rng.integers(len(whole))] if n % 2 else whole.copy()
        if not n % 2:
            data[rng.integers(len(data), size=20)] = rng.integers(256, size=20)
        path.write_bytes(data.tobytes())
        try:
            read_map(path)
        except FileFormatError as error:
            assert name in str(error)
            refused += 1
    assert refused >= 20


def test_what_cannot_be_used_says_why(tmp_path, spectra) -> None:
    with h5py.File(tmp_path / "sum.h5", "w") as file:
        file["xrfmap/detsum/counts"] = spectra.sum(2)
    with pytest.raises(FileFormatError, match="no single detectors"):
        read_map(tmp_path / "sum.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = 1
    with pytest.raises(FileFormatError, match=r"none of PyXRF.*it holds something"):
        read_map(tmp_path / "other.h5")
    whole = pyxrf_file(tmp_path / "whole.h5", spectra)
    half = tmp_path / "half.h5"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    with pytest.raises(FileFormatError):
        read_map(half)
    with pytest.raises(FileFormatError, match="Peaks found"):
        read_map(whole, ["Zr_Ka"])
    with h5py.File(whole, "a") as file:
        del file["xrfmap/det2/counts"]
        file["xrfmap/det2/counts"] = np.zeros((ROWS, COLS + 1, CHANNELS))
    with pytest.raises(FileFormatError, match="different shapes"):
        read_map(whole)


# --- out ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result() -> DenoiseResult:
    rate = np.full((2, 20, 24), 3.0)
    rate[0, 6:14, 6:14] = 12
    data = np.random.default_rng(0).poisson(rate[None] / 2, (2, 2, 20, 24))
    return quietbeam.denoise(data, ["Fe_Ka", "Pt_La"], options=DenoiseOptions(fine_tune=False, threads=1))


def written(folder: Path, name: str, result: DenoiseResult) -> Path:
    write_result(folder / name, result, source="in.npz", settings={"seed": 0})
    assert not list(folder.glob("*.partial"))
    return folder / name


@pytest.mark.supports("file out", "PyXRF HDF5")
def test_pyxrf_out_is_what_its_reader_looks_for(tmp_path, result) -> None:
    """Follows read_hdf_APS and get_fit_data of pyxrf 1.0.31, pyxrf/model/fileio.py."""
    with h5py.File(written(tmp_path, "a.pyxrf.h5", result), "r+") as file:
        data = file["xrfmap"]
        fit = dict(zip(data["detsum/xrf_fit_name"][()], data["detsum/xrf_fit"][()], strict=True))
        np.testing.assert_array_equal(fit[b"Fe_K"], result.denoised[0])
        assert data["detsum/counts"].shape[:2] == (20, 24)
        scalers = {n.decode(): data["scalers/val"][:, :, i] for i, n in enumerate(data["scalers/name"])}
        assert scalers["quietbeam_measured"].all()
        assert [n.decode() for n in data["positions/name"]] == ["x_pos", "y_pos"]
        assert data["positions/pos"][0].shape == (20, 24)


@pytest.mark.supports("file out", "MAPS HDF5")
def test_maps_out_comes_back(tmp_path, result) -> None:
    file = read_map(written(tmp_path, "a.maps.h5", result))
    assert file.lines == ("Fe_Ka", "Pt_La") and file.remark.endswith("its denoised map")
    np.testing.assert_array_equal(file.counts[0], result.denoised)


@pytest.mark.supports("file out", "OME-Zarr 0.5")
def test_ome_zarr_out(tmp_path, result) -> None:
    group = zarr.open_group(written(tmp_path, "a.ome.zarr", result), mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5" and [a["name"] for a in ome["multiscales"][0]["axes"]] == ["c", "y", "x"]
    np.testing.assert_array_equal(group["0"][:2], result.denoised)
    assert [c["label"] for c in ome["omero"]["channels"]][:3] == ["Fe_Ka denoised", "Pt_La denoised", "Fe_Ka raw"]
    written(tmp_path, "a.ome.zarr", result)  # replaces itself
    (tmp_path / "mine.zarr").mkdir()
    with pytest.raises(InputError, match="something else"):
        write_result(tmp_path / "mine.zarr", result, source="", settings={})


@pytest.mark.supports("file out", "TIFF stack")
def test_tiff_out_names_every_page(tmp_path, result) -> None:
    with Image.open(written(tmp_path, "a.tif", result)) as image:
        assert image.n_frames == 6
        for page, (kind, j) in enumerate((k, j) for k in ("denoised", "raw", "uncertainty") for j in range(2)):
            image.seek(page)
            np.testing.assert_array_equal(np.asarray(image), getattr(result, kind)[j])
            told = json.loads(image.tag_v2[270])
            assert (told["line"], told["kind"]) == (result.lines[j], kind)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        pages = np.stack([page.asarray() for page in tif.pages])
    np.testing.assert_array_equal(pages, np.concatenate([result.denoised, result.raw, result.uncertainty]))


@pytest.mark.supports("file in", "NeXus that quietbeam wrote: its raw maps")
def test_nexus_out_comes_back(tmp_path, result) -> None:
    file = read_map(written(tmp_path, "back.h5", result))
    assert file.lines == result.lines and file.detectors == ("sum",)
    np.testing.assert_allclose(file.counts[0], result.raw, rtol=2e-6)
    again = quietbeam.denoise(file.counts, file.lines, options=DenoiseOptions(fine_tune=False, threads=1))
    assert again.detectors == ("detector_0",) and np.isfinite(again.denoised).all()


@pytest.mark.supports("file out", "CSV of the evidence")
def test_csv_out(tmp_path, result) -> None:
    lines = written(tmp_path, "a.csv", result).read_text().splitlines()
    assert lines[0].startswith("line,estimator,verdict,verdict_reason,dwell_gain") and lines[1].startswith("Fe_Ka,")


@pytest.mark.supports("file out", "NeXus HDF5")
def test_nexus_out(tmp_path, result) -> None:
    with h5py.File(written(tmp_path, "a.h5", result)) as file:
        group = file["entry/denoised"]
        assert group.attrs["NX_class"] == "NXdata" and group.attrs["signal"] == "data"
        np.testing.assert_array_equal(group["data"], result.denoised)


def test_an_unknown_ending_lists_what_there_is() -> None:
    with pytest.raises(InputError, match=r"tiff \(.tif"):
        format_of(Path("out.xyz"))
    assert format_of(Path("out.xyz"), "csv") == "csv"
    with pytest.raises(InputError, match="no format 'png'"):
        format_of(Path("out.h5"), "png")


def test_the_command_takes_another_programs_file(tmp_path, spectra) -> None:
    path = pyxrf_file(tmp_path / "scan.h5", spectra)
    out = tmp_path / "out.tif"
    arguments = ["denoise", str(path), "-o", str(out), "--lines", "Fe_Ka,Cu_Ka", "--no-fine-tune"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    with Image.open(out) as image:
        assert image.n_frames == 6
    assert "Fe_Ka" in answer.output


NAMES = ("Fe Kα", "Fe Ka", "a/b", "a_b", ".", "Ĉu_Kβ₁ and more than twenty letters", "鉄_Ka", "銅_Ka")


@pytest.fixture(scope="module")
def oddly_named() -> DenoiseResult:
    data = np.random.default_rng(0).poisson(3, (2, len(NAMES), 24, 24))
    return quietbeam.denoise(data, NAMES, options=DenoiseOptions(fine_tune=False, threads=1))


@pytest.mark.parametrize("name", ["a.h5", "a.pyxrf.h5", "a.maps.h5", "a.ome.zarr", "a.tif", "a.csv"])
def test_lines_of_any_name_are_written(tmp_path, oddly_named, name: str) -> None:
    assert written(tmp_path, name, oddly_named).exists()


def test_true_names_are_kept(tmp_path, oddly_named) -> None:
    with h5py.File(written(tmp_path, "a.h5", oddly_named)) as file:
        groups = {group.attrs["line"]: name for name, group in file["entry/evidence"].items()}
        assert set(groups) == set(NAMES) and (groups["a_b"], groups["a/b"]) == ("a_b", "a_b_2")
    assert read_map(tmp_path / "a.h5").lines == NAMES
    with h5py.File(written(tmp_path, "a.pyxrf.h5", oddly_named)) as file:
        names = [name.decode("ascii") for name in file["xrfmap/detsum/xrf_fit_name"][()]]
        kept = json.loads(file["xrfmap/scan_metadata"].attrs["param_quietbeam"])["lines"]
    long = "Cu_Kb1 and more than twenty letters"
    assert names == ["Fe Ka_2", "Fe Ka", "a/b", "a_b", ".", long, "__K", "__K_2"] and kept == list(NAMES)
    with h5py.File(written(tmp_path, "a.maps.h5", oddly_named)) as file:
        names = [name.decode("ascii") for name in file["MAPS/XRF_Analyzed/ROI/Channel_Names"][()]]
        assert len(set(names)) == len(NAMES) and not any("?" in name for name in names)
        assert json.loads(file["MAPS/quietbeam"][()])["lines"] == list(NAMES)


@pytest.mark.parametrize("name", ["run.mpd", "run.lmf", "run.dai"])
def test_files_of_geopixe_say_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x00\x01" * 200)
    with pytest.raises(FileFormatError, match="save the image of each element"):
        read_map(tmp_path / name)
