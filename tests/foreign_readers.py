"""Do other programs read what quietbeam writes? `python -m tests.foreign_readers`, beside the gate.

Each reader is that program's own, used where it can be imported: silx and nexusformat (NeXus), PyXRF, ome-zarr-py,
tifffile, and the MDA library of synApps (as mdaviz carries it) for the file that the tests write.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import quietbeam
from quietbeam.denoiser.offline import DenoiseResult
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import write_result
from quietbeam.quantify import Calibration, LineCalibration
from quietbeam.quantify.pyxrf import calibration_to_pyxrf


def silx(folder: Path, result: DenoiseResult) -> None:
    """What silx view plots by default is the denoised stack, with axes and errors."""
    nxdata = importlib.import_module("silx.io.nxdata")
    data = nxdata.get_default(__import__("h5py").File(written(folder, "a.h5", result)))
    assert data.is_valid, data.issues
    assert np.array_equal(data.signal, result.denoised) and np.array_equal(data.errors, result.uncertainty)
    assert data.axes_dataset_names == ["line", "row", "col"]


def nexusformat(folder: Path, result: DenoiseResult) -> None:
    """The tree of nexusformat has the default plot and valid NXdata."""
    nexus = importlib.import_module("nexusformat.nexus")
    root = nexus.nxload(str(written(folder, "b.nxs", result)))
    data = root.get_default()
    assert data.nxname == "denoised" and np.array_equal(data.nxsignal.nxvalue, result.denoised)
    assert [axis.nxname for axis in data.nxaxes] == ["line", "row", "col"]


def pyxrf(folder: Path, result: DenoiseResult) -> None:
    """PyXRF's own functions find the maps as a fit of the sum."""
    fileio = importlib.import_module("pyxrf.model.fileio")
    path = written(folder, "c.pyxrf.h5", result)
    images, data_sets, *_ = fileio.read_hdf_APS(str(path.parent), path.name, load_summed_data=True)
    fits = [value for name, value in images.items() if name.endswith("fit")]
    assert fits and all(
        np.array_equal(fits[0][f"{line[:-1]}"], result.denoised[j]) for j, line in enumerate(result.lines)
    )
    assert data_sets


def pyxrf_standard(folder: Path, _result: DenoiseResult) -> None:
    """PyXRF's own function reads a calibration, and its own normalisation gives the standard's density."""
    analysis = importlib.import_module("pyxrf.core.quant_analysis")
    line = LineCalibration(line="Fe_Ka", sensitivity=(0.01, 0.02), background=(0, 0), relative_error=0.0, density=0.5)
    found = Calibration(
        name="f",
        standard="f",
        energy_kev=10.0,
        detectors=("det1", "det2"),
        normalised="i0",
        kind="areas",
        lines=(line,),
        i0_name="i0",
    )
    path = folder / "standard.json"
    path.write_text(json.dumps(calibration_to_pyxrf(found)), encoding="utf-8")
    assert analysis.load_xrf_quant_fluor_json_file(str(path)) == calibration_to_pyxrf(found)
    quantify = analysis.ParamQuantitativeAnalysis()
    quantify.load_entry(str(path))
    quantify.set_experiment_incident_energy(10.0)
    quantify.set_experiment_detector_channel("sum")
    seen, i0 = np.full((3, 4), 0.03 * 0.5 * 1e5), {"i0": np.full((3, 4), 1e5)}
    density, done = quantify.apply_quantitative_normalization(
        seen, scaler_dict=i0, scaler_name_default=None, data_name="Fe_K"
    )
    assert done and np.allclose(density, 0.5)


def ome_zarr(folder: Path, result: DenoiseResult) -> None:
    """ome-zarr-py finds one multiscale image with named channels."""
    reader = importlib.import_module("ome_zarr.reader")
    io = importlib.import_module("ome_zarr.io")
    location = io.parse_url(written(folder, "d.ome.zarr", result))
    (node, *_) = list(reader.Reader(location)())
    assert np.array_equal(np.asarray(node.data[0])[: len(result.lines)], result.denoised)
    assert node.metadata["channel_names"][0] == f"{result.lines[0]} denoised"


def tifffile(folder: Path, result: DenoiseResult) -> None:
    """tifffile sees one page a line and kind."""
    library = importlib.import_module("tifffile")
    with library.TiffFile(written(folder, "e.tif", result)) as tif:
        assert len(tif.pages) == 3 * len(result.lines)
        assert np.array_equal(tif.pages[0].asarray(), result.denoised[0])


def synapps_mda(folder: Path, result: DenoiseResult) -> None:
    """The MDA file that the tests write is one to synApps."""
    mda = importlib.import_module("mdaviz.synApps_mdalib.mda")
    from tests.unit.test_files_mda import CHANNELS, COLS, DETECTORS, ROWS, mda_file

    spectra = np.random.default_rng(0).poisson(3, (ROWS, COLS, DETECTORS, CHANNELS))
    scans = mda.readMDA(str(mda_file(folder / "f.mda", spectra)), 4)
    for d in range(DETECTORS):
        assert np.array_equal(np.array(scans[3].d[d].data), spectra[:, :, d])


def written(folder: Path, name: str, result: DenoiseResult) -> Path:
    """Write and return the path."""
    write_result(folder / name, result, source="in.npz", settings={"seed": 0})
    return folder / name


READERS: tuple[Callable[[Path, Any], None], ...] = (
    silx,
    nexusformat,
    pyxrf,
    pyxrf_standard,
    ome_zarr,
    tifffile,
    synapps_mda,
)


def main() -> int:
    """Print a line for each reader; fail when one that is there cannot read."""
    warnings.simplefilter("ignore")
    rate = np.full((2, 20, 24), 3.0)
    rate[0, 6:14, 6:14] = 12
    data = np.random.default_rng(0).poisson(rate[None] / 2, (2, 2, 20, 24))
    result = quietbeam.denoise(data, ["Fe_Ka", "Pt_La"], options=DenoiseOptions(fine_tune=False, threads=1))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="quietbeam-readers-") as folder:
        for reader in READERS:
            try:
                reader(Path(folder), result)
                told = "reads it"
            except ImportError as error:
                told = f"not here ({error})"
            except Exception as error:
                told, failed = f"FAILED: {type(error).__name__}: {error}", failed + 1
            print(f"{reader.__name__:15} {told}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
