"""Our own files as people make them: what can be understood is, and what cannot is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

import quietbeam
from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import read_map, write_result

COUNTS = np.random.default_rng(0).poisson(3, (3, 2, 24, 24)).astype(np.uint32)


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "in.npz", counts=COUNTS, **arrays)
    return folder / "in.npz"


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"lines": np.array(["Fe_Ka", "Cu_Ka"], object)}, r"`lines` holds Python objects; save it.*as text"),
        ({"i0": np.full((24, 24), "1")}, "`i0` is <U1, it must be numbers"),
        ({"measured": np.full((24, 24), "True")}, "`measured` is <U4, it must be numbers"),
        ({"measured": np.full((24, 24), np.nan)}, "`measured` holds NaN"),
        ({"live_time_s": np.ones((2, 24, 24))}, r"`live_time_s` is .* ask for \(3, 24, 24\) or \(24, 24\)"),
    ],
)
def test_arrays_that_cannot_be_used_are_named(tmp_path: Path, arrays: dict[str, Any], why: str) -> None:
    with pytest.raises(FileFormatError, match=why):
        read_map(npz(tmp_path, **arrays))


def test_objects_beside_spectra_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", spectra=np.ones((2, 2, 1, 9), int), who=np.array([None], object))
    with pytest.raises(FileFormatError, match="`who` holds Python objects"):
        read_map(tmp_path / "in.npz")


def test_a_text_called_npz_is_none(tmp_path: Path) -> None:
    (tmp_path / "in.npz").write_text("Fe 1 2 3\n")
    with pytest.raises(FileFormatError, match=r"is no \.npz archive"):
        read_map(tmp_path / "in.npz")


def test_a_file_without_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root, who may run this test, may read anything
    with pytest.raises(FileFormatError, match="may not be read by you"):
        read_map(npz(tmp_path))


@pytest.mark.parametrize("names", ["Fe_Ka,Cu_Ka", "Fe_Ka, Cu_Ka", '["Fe_Ka", "Cu_Ka"]', b"Fe_Ka,Cu_Ka"])
def test_names_may_be_one_text(tmp_path: Path, names: str | bytes) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["counts"] = COUNTS
        file.attrs["lines"] = names
    assert read_map(tmp_path / "in.h5").lines == ("Fe_Ka", "Cu_Ka")
    assert read_map(npz(tmp_path, lines=names)).lines == ("Fe_Ka", "Cu_Ka")


def test_one_live_time_for_all_detectors(tmp_path: Path) -> None:
    live = np.random.default_rng(1).uniform(0.1, 0.2, (24, 24))
    file = read_map(npz(tmp_path, live_time_s=live))
    assert file.live_time_s is not None and file.live_time_s.shape == (3, 24, 24)
    np.testing.assert_array_equal(file.live_time_s[2], live)


def test_a_calibration_is_for_spectra(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave --calibration out"):
        read_map(npz(tmp_path), calibration=Path("nosuch.json"))


@pytest.mark.parametrize(("scale", "kind"), [(1.0, "counts"), (0.9, "areas")])
def test_a_result_is_denoised_again_as_what_it_is(tmp_path: Path, scale: float, kind: str) -> None:
    result = quietbeam.denoise(COUNTS, ["Fe_Ka", "Cu_Ka"], options=DenoiseOptions(fine_tune=False, threads=1))
    result.raw[:] = scale * COUNTS.sum(0) * np.float32(1 + 1e-6)  # as floating point leaves it
    write_result(tmp_path / "out.h5", result, source="in.npz", settings={})
    file = read_map(tmp_path / "out.h5")
    assert f"{kind} of one detector" in file.remark
    assert (kind == "counts") == np.array_equal(file.counts[0], COUNTS.sum(0))
    again = quietbeam.denoise(file.counts, file.lines, options=DenoiseOptions(fine_tune=False, threads=1))
    assert again.evidence.kind == kind


def test_where_the_pixels_of_a_run_lie(tmp_path: Path) -> None:
    """A buffer keeps positions in the announced order of the axes; in the file they are in that of the array."""
    y, x = np.meshgrid(5 - 0.5 * np.arange(24.0), 2 + 0.25 * np.arange(24.0), indexing="ij")
    y[3, 4] = np.nan
    group = zarr.open_group(tmp_path / "run", mode="w")
    group.create_array("counts", data=COUNTS)
    group.create_array("positions", data=np.stack([x, y]))
    info = {"units": "mm", "axes": ["sy", "sx"], "position_axes": ["sx", "sy"], "order": "from_positions"}
    group.attrs["info"] = info
    file = read_map(tmp_path / "run")
    assert file.order == "from_positions" and file.units == "mm" and file.axes is not None
    assert file.axes.names == ("sy", "sx") and file.positions is not None
    np.testing.assert_array_equal(file.positions[0], y)
    assert file.origin == pytest.approx((5, 2)) and file.step == pytest.approx((-0.5, 0.25))
    group.attrs["info"] = info | {"origin": [4.9, 2.1], "step": [-0.51, 0.26]}
    assert read_map(tmp_path / "run").step == (-0.51, 0.26)
    group.attrs["info"] = {"step": [1.0, 2.0], "units": "um"}
    del group["positions"]
    file = read_map(tmp_path / "run")
    assert (file.step, file.origin, file.positions, file.units, file.order) == ((1, 2), None, None, "um", "")
