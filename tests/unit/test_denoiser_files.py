"""Files in and out, and the command."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

import quietbeam
from quietbeam.cli import app
from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.files import read_map


@pytest.fixture
def counts() -> np.ndarray:
    rate = np.full((2, 24, 24), 3.0)
    rate[0, 8:16, 8:16] = 12
    return np.random.default_rng(0).poisson(rate[None] / 2, (2, 2, 24, 24)).astype(np.uint32)


def write(folder, kind: str, counts: np.ndarray):
    names = np.array(["P_K", "Fe_Ka"])
    if kind == "npz":
        np.savez(folder / "in.npz", counts=counts, lines=names)
        return folder / "in.npz"
    if kind == "h5":
        with h5py.File(folder / "in.h5", "w") as file:
            group = file.create_group("entry/data")
            group["counts"], group["i0"] = counts, np.ones(counts.shape[2:])
            group.attrs["lines"] = names.astype("S")
        return folder / "in.h5"
    if kind == "array":
        array = zarr.create_array(folder / "in.zarr", data=counts)
        array.attrs["lines"] = names.tolist()
        return folder / "in.zarr"
    group = zarr.open_group(folder / "in.zarr", mode="w")
    group.create_array("counts", data=counts)
    group.attrs["lines"] = names.tolist()
    return folder / "in.zarr"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("npz", marks=pytest.mark.supports("file in", "ours: .npz with `counts`")),
        pytest.param("h5", marks=pytest.mark.supports("file in", "ours: HDF5 with `counts`")),
        pytest.param("zarr", marks=pytest.mark.supports("file in", "ours: zarr group with `counts`")),
        pytest.param("array", marks=pytest.mark.supports("file in", "a plain zarr array of counts")),
    ],
)
def test_every_format_gives_the_same(tmp_path, counts: np.ndarray, kind: str) -> None:
    file = read_map(write(tmp_path, kind, counts))
    np.testing.assert_array_equal(file.counts, counts)
    assert file.lines == ("P_K", "Fe_Ka")
    assert file.select(["Fe_Ka"]).counts.shape == (2, 1, 24, 24)
    with pytest.raises(InputError, match="P_K"):
        file.select(["Zn_Ka"])


def test_unusable_files_say_why(tmp_path) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        read_map(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(FileFormatError, match="neither"):
        read_map(tmp_path / "text.h5")
    np.savez(tmp_path / "x.npz", spectra=np.ones(3))
    with pytest.raises(FileFormatError, match="spectra"):
        read_map(tmp_path / "x.npz")
    np.savez(tmp_path / "pickled.npz", counts=np.array([{}], dtype=object))
    with pytest.raises(FileFormatError):
        read_map(tmp_path / "pickled.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileFormatError, match="zarr"):
        read_map(tmp_path / "folder")


def test_the_command_writes_nexus(tmp_path, counts: np.ndarray) -> None:
    source, out = write(tmp_path, "npz", counts), tmp_path / "out" / "map.h5"
    arguments = ["denoise", str(source), "-o", str(out), "--no-fine-tune", "--lines", "Fe_Ka,P_K", "--device", "cpu"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and "Fe_Ka" in done.stdout
    with h5py.File(out) as file:
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        assert data.attrs["NX_class"] == "NXdata" and data[data.attrs["signal"]].shape == (2, 24, 24)
        for axis, length in zip(data.attrs["axes"], (2, 24, 24), strict=True):
            assert data[axis].shape == (length,)
        np.testing.assert_array_equal(entry["raw/data"][1], counts.sum(0)[0])
        evidence = json.loads(entry["process/evidence"][()])
        assert [line["line"] for line in evidence["lines"]] == ["Fe_Ka", "P_K"]
        assert entry["evidence/P_K"].attrs["estimator"] == evidence["lines"][1]["estimator"]
    assert not list(out.parent.glob("*.partial"))


def test_so_many_steps_give_the_same_file_again(tmp_path, counts: np.ndarray) -> None:
    source = write(tmp_path, "npz", counts)
    maps = []
    for name in ("a.h5", "b.h5"):
        answer = CliRunner().invoke(app, ["denoise", str(source), "-o", str(tmp_path / name), "--steps", "3"])
        assert answer.exit_code == 0 and "3 fine-tuning steps" in " ".join(answer.output.split()), answer.output
        with h5py.File(tmp_path / name) as file:
            entry = file[file.attrs["default"]]
            data = entry[entry.attrs["default"]]
            maps.append(data[data.attrs["signal"]][()])
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-4)


def test_importing_quietbeam_does_not_load_torch() -> None:
    code = "import sys, quietbeam; assert 'torch' not in sys.modules; assert quietbeam.__version__"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="nothing"):
        quietbeam.nothing  # noqa: B018
