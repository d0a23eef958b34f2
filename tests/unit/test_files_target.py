"""Where a result goes: what is there is not destroyed, and what cannot be written is refused before computing."""

from __future__ import annotations

import errno
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

import quietbeam
from quietbeam.cli import app
from quietbeam.core.errors import InputError, ServiceError
from quietbeam.denoiser.offline import DenoiseResult
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import FORMATS, check_target, write_result

COUNTS = np.random.default_rng(0).poisson(3, (2, 2, 24, 24)).astype(np.uint32)


@pytest.fixture(scope="module")
def result() -> DenoiseResult:
    return quietbeam.denoise(COUNTS, ["Fe_Ka", "Cu_Ka"], options=DenoiseOptions(fine_tune=False, threads=1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with counts in every form; nothing is to be computed in it."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["counts"] = COUNTS
    np.savez(tmp_path / "in.npz", counts=COUNTS)
    zarr.create_array(tmp_path / "in.zarr", data=COUNTS)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.h5").symlink_to(tmp_path / "in.h5")
    (tmp_path / "holder.zarr").mkdir()
    np.savez(tmp_path / "holder.zarr/in.npz", counts=COUNTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quietbeam.denoiser.offline.denoise", lambda *_, **__: pytest.fail("it was computed"))
    return tmp_path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("source", "output", "format"),
    [
        ("in.h5", "in.h5", ""),
        ("in.h5", "./sub/../in.h5", ""),
        ("in.h5", "link.h5", ""),
        ("link.h5", "in.h5", ""),
        ("in.npz", "in.npz", "nexus"),
        ("in.zarr", "in.zarr", ""),
        ("in.zarr", "in.zarr/out.h5", ""),
        ("holder.zarr/in.npz", "holder.zarr", ""),
        ("in.npz", "in.h5", ""),  # counts of another map
        ("in.npz", "in.zarr", ""),
        ("in.npz", "in.zarr", "nexus"),
        ("in.npz", "sub", "nexus"),
        ("in.h5", "in.npz", "ome-zarr"),
        ("in.h5", "in.npz/x.h5", ""),
        ("in.h5", "/proc/x.h5", ""),
        ("in.h5", "/dev/null", "csv"),
        pytest.param("in.h5", f"{300 * 'x'}.h5", "", id="a name too long"),
    ],
)
def test_an_output_that_would_destroy_or_fail_is_refused_first(folder: Path, source, output, format) -> None:
    before = everything(folder)
    done = CliRunner().invoke(app, ["denoise", source, "-o", output, "--format", format, "--budget", "0"])
    assert isinstance(done.exception, InputError) and str(Path(output)) in str(done.exception)
    assert everything(folder) == before


def test_only_an_ome_zarr_of_ours_is_replaced(tmp_path: Path, result: DenoiseResult) -> None:
    out = tmp_path / "out.zarr"
    write_result(out, result, source="a", settings={})
    with pytest.raises(InputError, match="something else"):
        write_result(out, result, source="b", settings={}, format="nexus")
    write_result(out, result, source="b", settings={})
    assert zarr.open_group(out, mode="r").attrs["ome"]["multiscales"][0]["name"] == "b"
    buffer = zarr.open_group(tmp_path / "run.zarr", mode="w", zarr_format=3)
    buffer.attrs["info"] = {"uid": "x"}
    with pytest.raises(InputError, match="something else"):
        write_result(tmp_path / "run.zarr", result, source="b", settings={})
    assert {path.name for path in tmp_path.iterdir()} == {"out.zarr", "run.zarr"}


@pytest.mark.parametrize("name", ["a.h5", "a.pyxrf.h5", "a.maps.h5", "a.csv", "a.tif", "new/folder/a.h5"])
def test_a_result_replaces_a_result(tmp_path: Path, result: DenoiseResult, name: str) -> None:
    for _ in range(2):
        write_result(tmp_path / name, result, source="a", settings={})
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_a_link_stays_a_link(tmp_path: Path, result: DenoiseResult) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.csv").symlink_to(tmp_path / "disk/b.csv")
    write_result(tmp_path / "a.csv", result, source="a", settings={})
    assert (tmp_path / "a.csv").is_symlink() and (tmp_path / "disk/b.csv").read_text().startswith("line,")


def test_a_full_disk_is_one_error_and_leaves_what_was_there(tmp_path: Path, result, monkeypatch) -> None:
    def fails(path: Path, *_: object) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.csv").write_text("before")
    monkeypatch.setitem(FORMATS, "csv", ((".csv",), fails))
    with pytest.raises(ServiceError, match=r"a\.csv could not be written.*No space"):
        write_result(tmp_path / "a.csv", result, source="a", settings={})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refused)  # root, who may run this test, may write anywhere
    with pytest.raises(InputError, match="Permission denied"):
        check_target(tmp_path / "a.h5", "nexus")
