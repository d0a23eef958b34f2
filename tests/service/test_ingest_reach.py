"""What a detector file reaches stays below the allowed folders: links, virtual sources, external storage, path maps."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from quietbeam.core.errors import DataNotReadyError, DocumentError
from quietbeam.ingest.documents import StreamResource
from quietbeam.ingest.frames.detector_files import DetectorFiles

DATA = np.arange(40, dtype="u4").reshape(10, 4)


def resource(path: Path, dataset: str) -> StreamResource:
    return StreamResource(
        uid="u", run="r", data_key="k", mimetype="application/x-hdf5", uri=f"file://localhost{path}",
        parameters={"dataset": dataset},
    )  # fmt: skip


def read(files: DetectorFiles, path: Path, dataset: str, stop: int = 2) -> np.ndarray:
    announced = resource(path, dataset)
    return files.part(announced, files.array(announced, dataset), 0, stop)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return an allowed and a secret folder, each with a file of data."""
    found = tmp_path / "allowed", tmp_path / "secret"
    for folder in found:
        folder.mkdir()
        with h5py.File(folder / "other.h5", "w") as file:
            file["g/data"] = DATA
    return found


def write_links(path: Path, target: Path) -> None:
    """Write every kind of reference to the data of `target`."""
    with h5py.File(path, "w") as file:
        file["direct"] = h5py.ExternalLink(str(target), "/g/data")
        file["entry"] = h5py.ExternalLink(str(target), "/g")
        file["soft"] = h5py.SoftLink("/entry/data")
        file["chain"] = h5py.SoftLink("soft")
        layout = h5py.VirtualLayout(DATA.shape, DATA.dtype)
        layout[:] = h5py.VirtualSource(str(target), "g/data", DATA.shape)
        file.create_virtual_dataset("virtual", layout)
    with h5py.File(path.with_name("twice.h5"), "w") as file:
        file["twice"] = h5py.ExternalLink(path.name, "/chain")


PATHS = ["direct", "entry/data", "/entry/data", "soft", "chain", "virtual", "./entry/./data"]


@pytest.mark.parametrize("name", PATHS)
def test_a_reference_below_the_roots_is_followed(folders: tuple[Path, Path], name: str) -> None:
    allowed, _ = folders
    write_links(allowed / "a.h5", allowed / "other.h5")
    files = DetectorFiles([allowed], max_bytes=10**8)
    assert np.array_equal(read(files, allowed / "a.h5", name), DATA[:2])
    files.close()


@pytest.mark.supports("damage", "links, virtual sources and raw storage out of data_roots: refused")
@pytest.mark.parametrize("name", PATHS)
def test_a_reference_out_of_the_roots_is_refused(folders: tuple[Path, Path], name: str) -> None:
    allowed, secret = folders
    write_links(allowed / "a.h5", secret / "other.h5")
    files = DetectorFiles([allowed], max_bytes=10**8)
    with pytest.raises(DocumentError, match="not below the allowed folders"):
        read(files, allowed / "a.h5", name)
    files.close()


def test_two_files_on_the_way(folders: tuple[Path, Path]) -> None:
    allowed, secret = folders
    files = DetectorFiles([allowed], max_bytes=10**8)
    write_links(allowed / "a.h5", allowed / "other.h5")
    assert np.array_equal(read(files, allowed / "twice.h5", "twice"), DATA[:2])
    files.close()
    write_links(allowed / "a.h5", secret / "other.h5")
    with pytest.raises(DocumentError, match="not below the allowed folders"):
        read(files, allowed / "twice.h5", "twice")
    files.close()


def test_a_link_of_the_file_system_in_the_middle(folders: tuple[Path, Path]) -> None:
    allowed, secret = folders
    (allowed / "inside").symlink_to(secret)
    with h5py.File(allowed / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("inside/other.h5", "/g/data")
    files = DetectorFiles([allowed], max_bytes=10**8)
    with pytest.raises(DocumentError, match="not below the allowed folders"):
        read(files, allowed / "a.h5", "x")
    files.close()


def test_raw_storage_out_of_the_roots_is_refused(folders: tuple[Path, Path]) -> None:
    allowed, secret = folders
    (secret / "raw.bin").write_bytes(DATA.tobytes())
    with h5py.File(allowed / "a.h5", "w") as file:
        file.create_dataset("x", DATA.shape, DATA.dtype, external=[(str(secret / "raw.bin"), 0, DATA.nbytes)])
    files = DetectorFiles([allowed], max_bytes=10**8)
    with pytest.raises(DocumentError, match="not below the allowed folders"):
        read(files, allowed / "a.h5", "x")
    files.close()


def test_links_in_a_circle_are_refused(folders: tuple[Path, Path]) -> None:
    allowed, _ = folders
    with h5py.File(allowed / "a.h5", "w") as file:
        file["x"] = h5py.SoftLink("/y")
        file["y"] = h5py.SoftLink("/x")
    files = DetectorFiles([allowed], max_bytes=10**8)
    with pytest.raises(DocumentError, match="more than 32 links"):
        read(files, allowed / "a.h5", "x")
    files.close()


@pytest.mark.supports("damage", "sources of a virtual dataset that are missing: awaited, never zeros")
def test_a_virtual_dataset_is_followed_live(folders: tuple[Path, Path]) -> None:
    allowed, _ = folders
    with h5py.File(allowed / "v.h5", "w") as file:
        layout = h5py.VirtualLayout((20, 4), "u4")
        for n in range(2):
            layout[10 * n : 10 * n + 10] = h5py.VirtualSource(f"part{n}.h5", "data", (10, 4))
        file.create_virtual_dataset("data", layout)
    files = DetectorFiles([allowed], max_bytes=10**8)
    for n in range(2):
        with pytest.raises(DataNotReadyError, match=f"part{n}"):
            read(files, allowed / "v.h5", "data", 10 * n + 1)
        with h5py.File(allowed / f"part{n}.h5", "w") as file:
            file["data"] = DATA + 100 * n
        assert np.array_equal(read(files, allowed / "v.h5", "data", 10 * n + 10)[10 * n :], DATA + 100 * n)
    files.close()


def test_the_detectors_mount_is_mapped_to_ours(folders: tuple[Path, Path]) -> None:
    allowed, secret = folders
    files = DetectorFiles([allowed], max_bytes=10**8, path_map={"/det": allowed, "/det/x": secret})
    assert np.array_equal(read(files, Path("/det/other.h5"), "g/data"), DATA[:2])
    for path in ("/det/x/other.h5", "/det/../secret/other.h5", "/detector/other.h5"):
        with pytest.raises(DocumentError, match="not below the allowed folders"):
            read(files, Path(path), "g/data")
    files.close()
