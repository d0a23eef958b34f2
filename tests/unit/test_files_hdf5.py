"""HDF5 files as they lie there: filters, locks, virtual datasets, links, names, and memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from files_kit import CHANNELS, bliss, cut, maps, pyxrf, spectra

from quietbeam.core.errors import FileFormatError
from quietbeam.core.hdf5 import gaps, missing_filters
from quietbeam.files import read_map

MESH = "amesh x 0 1 6 y 0 1 5 0.1"


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return spectra()


@pytest.mark.parametrize(
    "filters",
    [
        pytest.param(dict(hdf5plugin.Bitshuffle(cname="lz4")), id="bitshuffle"),
        pytest.param(dict(hdf5plugin.Blosc()), id="blosc"),
        pytest.param(dict(hdf5plugin.LZ4()), id="lz4"),
        pytest.param(dict(hdf5plugin.Zstd()), id="zstd"),
        pytest.param({"compression": "gzip", "shuffle": True, "fletcher32": True}, id="gzip"),
    ],
)
def test_filters(tmp_path: Path, data: np.ndarray, filters: dict[str, object]) -> None:
    pyxrf(tmp_path / "a.h5", data, {}, chunks=(2, 7, CHANNELS), **filters)
    code = (
        "import sys; from pathlib import Path; from quietbeam.files import read_map\n"
        "print(int(read_map(Path(sys.argv[1]), ['Fe_Ka']).counts.sum()))"
    )  # of its own: here hdf5plugin is loaded already
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.h5"], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) == cut(data).sum()


def test_an_unknown_filter_is_named_at_once(tmp_path: Path, data: np.ndarray) -> None:
    pyxrf(tmp_path / "a.h5", data, {}, chunks=(2, 7, CHANNELS), **hdf5plugin.Bitshuffle())
    known = (32008).to_bytes(2, "little")
    raw = re.sub(
        known + b"(?=.{6}bitshuffle)", (31999).to_bytes(2, "little"), (tmp_path / "a.h5").read_bytes(), flags=re.S
    )
    (tmp_path / "b.h5").write_bytes(raw)
    with h5py.File(tmp_path / "b.h5") as file:
        (name,) = missing_filters(file["xrfmap/det1/counts"])
        assert name.startswith("31999 (bitshuffle")
    with pytest.raises(FileFormatError, match=r"/xrfmap/det1/counts is compressed with the HDF5 filter 31999"):
        read_map(tmp_path / "b.h5", ["Fe_Ka"])


@contextmanager
def writer(path: Path, mode: str) -> Iterator[None]:
    """Another process that holds a file open."""
    code = f"import h5py; f = h5py.File({str(path)!r}, {mode}); print('open', flush=True); input()"
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as one:
        assert one.stdin is not None and one.stdout is not None and one.stdout.readline() == "open\n"
        yield
        one.communicate("\n")


def test_the_writer_and_the_reader_do_not_wait_for_each_other(tmp_path: Path, data: np.ndarray) -> None:
    path = bliss(tmp_path / "a.h5", {1: (MESH, data.reshape(42, 2, -1), {})})
    with writer(path, "'a'"):
        assert read_map(path, ["Fe_Ka"]).counts.sum() == cut(data).sum()
    again = subprocess.run([sys.executable, "-c", f"import h5py; h5py.File({str(path)!r}, 'a')"], check=False)
    assert again.returncode == 0


def test_a_file_that_nobody_else_can_read_says_so(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["xrfmap/det1/counts"] = data[:, :, 0]
    with writer(tmp_path / "a.h5", "'a', libver='latest'"), pytest.raises(FileFormatError, match="is being written"):
        read_map(tmp_path / "a.h5", ["Fe_Ka"])


def virtual(folder: Path, data: np.ndarray, sources: int = 3) -> Path:
    """BLISS with a detector's spectra in several files behind a virtual dataset."""
    flat = data.reshape(42, 2, -1)
    layout = h5py.VirtualLayout((42, CHANNELS), flat.dtype)
    for n in range(sources):
        part = slice(14 * n, 14 * n + 14)
        with h5py.File(folder / f"mca_{n}.h5", "w") as file:
            file["data"] = flat[part, 0]
        layout[part] = h5py.VirtualSource(f"mca_{n}.h5", "data", (14, CHANNELS))
    with h5py.File(folder / "extra.h5", "w") as file:
        file["data"] = flat[:, 1]
    with h5py.File(folder / "scan.h5", "w") as file:
        file["1.1/title"] = MESH
        file.create_virtual_dataset("1.1/instrument/mca0/data", layout)
        file["1.1/measurement/mca0"] = h5py.SoftLink("/1.1/instrument/mca0/data")
        file["1.1/measurement/mca1"] = h5py.ExternalLink("extra.h5", "data")
    return folder / "scan.h5"


@pytest.mark.supports("file in", "HDF5 with virtual datasets and external links")
def test_virtual_datasets_and_links_are_followed(tmp_path: Path, data: np.ndarray) -> None:
    file = read_map(virtual(tmp_path, data), ["Fe_Ka"])
    assert file.measured is not None and file.measured.all()
    assert np.array_equal(file.counts[:, 0], cut(data))


@pytest.mark.parametrize("damage", ["gone", "short", "empty"])
def test_missing_sources_are_named_and_their_pixels_not_measured(tmp_path: Path, data: np.ndarray, damage: str) -> None:
    path = virtual(tmp_path, data)
    if damage == "gone":
        (tmp_path / "mca_1.h5").unlink()
    else:
        with h5py.File(tmp_path / "mca_1.h5", "w") as file:
            file["data" if damage == "short" else "other"] = data.reshape(42, 2, -1)[14:20, 0]
    file = read_map(path, ["Fe_Ka"])
    there = np.ones(42, bool)
    there[20 if damage == "short" else 14 : 28] = False
    assert file.measured is not None and np.array_equal(file.measured.ravel(), there)
    assert "mca_1.h5" in file.remark and "mca_2.h5" not in file.remark
    good = there.reshape(6, 7)
    assert np.array_equal(file.counts[:, 0][:, good], cut(data)[:, good])


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, data: np.ndarray) -> None:
    path = virtual(tmp_path, data)
    (tmp_path / "extra.h5").unlink()
    file = read_map(path, ["Fe_Ka"])
    assert file.detectors == ("mca0",) and "detector mca1 is left out" in file.remark and "extra.h5" in file.remark
    with h5py.File(path, "a") as stored:
        del stored["1.1/measurement/mca0"]
    with pytest.raises(FileFormatError, match=r"lead nowhere: 1\.1/mca1 -> extra\.h5"):
        read_map(path, ["Fe_Ka"])


def test_chunks_that_were_never_written(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for d in range(2):
            stored = file.create_dataset(f"xrfmap/det{d + 1}/counts", (6, 7, CHANNELS), "u4", chunks=(1, 7, CHANNELS))
            stored[:4] = data[:4, :, d]
        assert [(gap.begin, gap.end) for gap in gaps(stored)] == [((4, 0, 0), (6, 7, CHANNELS))]
    file = read_map(tmp_path / "a.h5", ["Fe_Ka"])
    assert file.measured is not None and file.measured.sum(axis=1).tolist() == [7] * 4 + [0] * 2


@pytest.mark.parametrize("stem", ["sample[2]_0123.mda", "a*b?.mda", "Probe 7 µm – Fe α.mda", "100%_{x}.mda"])
def test_any_name_of_a_file(tmp_path: Path, data: np.ndarray, stem: str) -> None:
    folder = tmp_path / "Ordner [1] ä"
    folder.mkdir()
    maps(folder, "other.mda", data[:, :, :1], np.ones((6, 7)))
    path = maps(folder, stem, data, np.ones((6, 7)))
    (folder / "none_energy_calibration.json").write_text(json.dumps({"none": [[5.0, 0.01]] * 2}))
    file = read_map(path, ["Fe_Ka"])
    assert file.detectors == ("det1", "det2") and np.array_equal(file.counts[:, 0], cut(data))


def test_float_spectra_are_read_in_pieces(tmp_path: Path) -> None:
    """In a process of its own: the peak of memory over that before is a small part of the spectra."""
    data = np.tile(spectra(10, 10, 4), (4, 8, 1, 1))
    pyxrf(tmp_path / "a.h5", data, {}, chunks=(1, 80, CHANNELS))
    code = (
        "import resource, sys; from pathlib import Path; from quietbeam.files import read_map\n"
        "read_map(Path(sys.argv[1]), ['Fe_Ka'])\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); read_map(Path(sys.argv[2]), ['Fe_Ka', 'Ca_Ka']); print(peak() - before)"
    )
    pyxrf(tmp_path / "small.h5", data[:2], {})
    command = [sys.executable, "-c", code, tmp_path / "small.h5", tmp_path / "a.h5"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 0.75 * 4 * data.size, "less than the spectra alone take"
