"""More formats that people have, each read to exact counts from a file that is made here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dask
import h5py
import numpy as np
import pytest
import tifffile
import zarr
from files_kit import CHANNELS, cut, spectra

from quietbeam.core.errors import FileFormatError, InputError, ServiceError
from quietbeam.files import ReadChoice, parse_choice, read_map

ENERGY = ReadChoice(energy=(0.0, 0.01))


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return spectra()


@pytest.mark.supports("file in", ".npy, counts or spectra with `--axes`")
def test_npy(tmp_path: Path, data: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", cut(data)[:, None])
    assert np.array_equal(read_map(tmp_path / "a.npy").counts[:, 0], cut(data))
    np.save(tmp_path / "b.npy", data.transpose(3, 1, 0, 2))
    choice = parse_choice(axes="channel,col,row,detector", energy="0,0.01")
    assert np.array_equal(read_map(tmp_path / "b.npy", ["Fe_Ka"], choice=choice).counts[:, 0], cut(data))
    np.save(tmp_path / "c.npy", data.reshape(42, 2, CHANNELS)[:40].astype(np.float32))
    points = parse_choice(axes="point,detector,channel", shape="6x7", energy="0,10eV")
    file = read_map(tmp_path / "c.npy", ["Fe_Ka"], choice=points)
    assert file.measured is not None and file.measured.sum() == 40
    with pytest.raises(InputError, match=r"3 axes, of 42 x 2 x 1200: .*--axes row,col,channel|40 x 2 x 1200"):
        read_map(tmp_path / "c.npy")
    with pytest.raises(FileFormatError, match="--shape 6x8"):
        read_map(tmp_path / "c.npy", choice=parse_choice(axes="point,detector,channel", energy="0,0.01"))
    np.save(tmp_path / "d.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(FileFormatError, match="Python objects"):
        read_map(tmp_path / "d.npy")


@pytest.mark.supports("file in", "TIFF stack, a page for each line")
def test_tiff(tmp_path: Path, data: np.ndarray) -> None:
    maps = np.stack([cut(data, line)[0] for line in ("Fe_Ka", "Ca_Ka")]).astype(np.float32)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for label, page in zip(("Fe K", "Ca_Ka"), maps, strict=True):
            file.write(page, description=label, metadata=None)
    found = read_map(tmp_path / "a.tif")
    assert found.lines == ("Fe_Ka", "Ca_Ka") and np.array_equal(found.counts[0], maps)
    tifffile.imwrite(tmp_path / "b.tif", data[:, :, 0].transpose(2, 0, 1))
    choice = parse_choice(axes="channel,row,col", energy="0,0.01")
    assert np.array_equal(read_map(tmp_path / "b.tif", ["Fe_Ka"], choice=choice).counts[0, 0], cut(data)[0])
    (tmp_path / "c.tif").write_bytes((tmp_path / "b.tif").read_bytes()[:1000])
    with pytest.raises(FileFormatError, match=r"c\.tif"):
        read_map(tmp_path / "c.tif", choice=choice)


def test_any_dataset_of_hdf5(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw/all"] = data[None].astype("f4")
        for d in range(2):
            file[f"raw/element {d}"] = data[:, :, d]
    one = parse_choice(dataset="raw/all", axes="-,row,col,detector,channel", energy="0,0.01")
    two = parse_choice(entry="raw", dataset="element 0,element 1", axes="row,col,channel", energy="0,0.01")
    for choice in (one, two):
        assert np.array_equal(read_map(tmp_path / "a.h5", ["Fe_Ka"], choice=choice).counts[:, 0], cut(data))
    with pytest.raises(
        InputError, match=r"no dataset nothing; arrays in it: raw/all \(1, 6, 7, 2, 1200\), raw/element 0"
    ):
        read_map(tmp_path / "a.h5", choice=ReadChoice(dataset="nothing"))
    with pytest.raises(FileFormatError, match=r"--dataset entry/data/data --axes row,col,channel"):
        read_map(tmp_path / "a.h5")
    with pytest.raises(InputError, match="needs row and col, or point"):
        read_map(tmp_path / "a.h5", choice=parse_choice(dataset="raw/element 0", axes="row,line,channel"))


def test_a_dataset_of_counts(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["some/array"] = cut(data).transpose(1, 2, 0)
    file_ = read_map(tmp_path / "a.h5", choice=parse_choice(dataset="some/array", axes="row,col,detector"))
    assert np.array_equal(file_.counts[:, 0], cut(data)) and file_.lines == ("line_0",)


@pytest.mark.supports("file in", "NeXus, NXdata of spectra for each detector")
def test_nxdata(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        for entry, rows in (("scan1", slice(0, 3)), ("scan2", slice(0, 6))):
            for d in range(2):
                group = file.create_group(f"{entry}/xsp{d}")
                group.attrs["NX_class"], group.attrs["signal"] = "NXdata", "spectra"
                group.attrs["axes"] = ["y", "x", "energy"]
                group["spectra"] = data[rows, :, d]
                group["y"], group["x"] = 5 - 0.5 * np.arange(len(data[rows])), 2 + 0.25 * np.arange(7)
                group["energy"] = 10.0 * np.arange(CHANNELS)
                group["energy"].attrs["units"] = "eV"
                for name in "xy":
                    group[name].attrs["units"] = "mm"
        file["scan2/xsp1/copy"] = h5py.SoftLink("/scan2/xsp1/spectra")
    found = read_map(tmp_path / "a.nxs", ["Fe_Ka"])
    assert found.counts.shape[-2:] == (3, 7) and "scan1 was read; also there: scan2 (--entry)" in found.remark
    found = read_map(tmp_path / "a.nxs", ["Fe_Ka"], choice=ReadChoice(entry="scan2"))
    assert np.array_equal(found.counts[:, 0], cut(data)) and found.detectors == ("xsp0", "xsp1")
    assert found.step == pytest.approx((-0.5, 0.25)) and found.units == "mm" and found.origin == pytest.approx((5, 2))
    with pytest.raises(InputError, match="nothing below scan3 is NXdata of spectra; there are scan1, scan2"):
        read_map(tmp_path / "a.nxs", choice=ReadChoice(entry="scan3"))


@pytest.mark.supports("file in", "Oxford Instruments .h5oina (layout as published, no real file)")
def test_h5oina(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5oina", "w") as file:
        file["1/EDS/Data/Spectrum"] = data[:, :, 0].reshape(42, CHANNELS).astype(np.int32)
        for name, value in (("X Cells", 7), ("Y Cells", 6), ("X Step", 0.5), ("Y Step", 0.4)):
            file[f"1/EDS/Header/{name}"] = [value]
        file["1/EDS/Header/Start Channel"], file["1/EDS/Header/Channel Width"] = [0.0], [10.0]
    found = read_map(tmp_path / "a.h5oina", ["Fe_Ka"])
    assert np.array_equal(found.counts[0, 0], cut(data)[0]) and found.step == (0.4, 0.5)


TABLE = ["row", "column", "Fe_K", "s(Fe_K)", "Ca_K"]


@pytest.mark.supports("file in", "text, a row for each pixel (PyMca, MAPS)")
@pytest.mark.parametrize("separator", ["  ", ";", "\t", ", "])
def test_text(tmp_path: Path, data: np.ndarray, separator: str) -> None:
    fe, ca = cut(data)[0], cut(data, "Ca_Ka")[0]
    rows = [separator.join(map(str, (r, c, fe[r, c], 0.5, ca[r, c]))) for r in range(6) for c in range(7)]
    rows[10] = separator.join(["1", "3"])  # the program was stopped while it wrote
    rows[20] = rows[20].replace(str(fe[2, 6]), "nan", 1)
    (tmp_path / "map.dat").write_text("\n".join([separator.join(TABLE), *rows]) + "\n")
    found = read_map(tmp_path / "map.dat")
    assert found.lines == ("Fe_Ka", "Ca_Ka") and found.counts.shape == (1, 2, 6, 7) and found.measured is not None
    lost = [(1, 3), (2, 6)]
    assert [tuple(at) for at in np.argwhere(~found.measured)] == lost and "2 lines of text" in found.remark
    assert np.array_equal(found.counts[0, 0][found.measured], fe[found.measured])


def test_text_by_positions_or_as_said(tmp_path: Path, data: np.ndarray) -> None:
    fe = cut(data)[0]
    fe_of = [
        (0.5 * c, 2 - 0.25 * r, fe[r, c]) for r in range(6) for c in (range(7) if r % 2 == 0 else range(6, -1, -1))
    ]
    (tmp_path / "a.csv").write_text("x,y,Fe\n" + "\n".join(",".join(map(str, one)) for one in fe_of))
    found = read_map(tmp_path / "a.csv")
    assert np.array_equal(found.counts[0, 0], fe) and found.order == "from_positions"
    (tmp_path / "b.csv").write_text("t,Fe\n" + "\n".join(f"{n},{one[2]}" for n, one in enumerate(fe_of)))
    with pytest.raises(FileFormatError, match="--shape 6x8"):
        read_map(tmp_path / "b.csv")
    assert np.array_equal(read_map(tmp_path / "b.csv", choice=ReadChoice(shape=(6, 7), snake=True)).counts[0, 0], fe)
    (tmp_path / "c.txt").write_text("Dear diary,\n1 2 3\n4 5 6\n")
    with pytest.raises(FileFormatError, match=r"c\.txt"):
        read_map(tmp_path / "c.txt")


RPL = """key\tvalue
width\t7
height\t6
depth\t1200
offset\t0
data-length\t2
data-type\tunsigned
byte-order\tlittle-endian
record-by\tvector
depth-scale\t10.0
depth-origin\t0
depth-units\teV
depth-name\tEnergy
width-scale\t0.5
width-units\tµm
height-scale\t0.5
height-units\tµm
"""


@pytest.mark.supports("file in", ".rpl with .raw (LISPIX), through rosettasciio")
def test_rpl(tmp_path: Path, data: np.ndarray) -> None:
    (tmp_path / "a.rpl").write_text(RPL, encoding="latin-1")
    data[:, :, 0].astype("<u2").tofile(tmp_path / "a.raw")
    found = read_map(tmp_path / "a.rpl", ["Fe_Ka"])
    assert np.array_equal(found.counts[0, 0], cut(data)[0])
    assert found.step == (0.5, 0.5) and found.units == "um"


def test_files_are_read_here_also_after_dask_had_a_client(tmp_path: Path, data: np.ndarray) -> None:
    (tmp_path / "a.rpl").write_text(RPL, encoding="latin-1")
    data[:, :, 0].astype("<u2").tofile(tmp_path / "a.raw")
    with dask.config.set(scheduler="dask.distributed"):
        assert np.array_equal(read_map(tmp_path / "a.rpl", ["Fe_Ka"]).counts[0, 0], cut(data)[0])


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rsciio.bruker", None)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for name in ("a.bcf", "a.tif"):
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(ServiceError, match=r"quietbeam\[formats\]"):
            read_map(tmp_path / name)


@pytest.mark.parametrize("name", ["a.bcf", "a.pts", "a.emd", "a.spd", "a.rpl"])
def test_what_is_no_such_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no such file" * 100)
    with pytest.raises(FileFormatError, match=name):
        read_map(tmp_path / name)


REAL = Path(os.environ.get("QUIETBEAM_RSCIIO_DATA", "/nowhere"))
"""rosettasciio's own test files, rsciio/tests/data of its repository."""


@pytest.mark.parametrize(
    ("name", "detectors", "shape"),
    [
        ("bruker/P45_the_default_job.bcf", 1, (75, 100)),
        ("jeol/Sample/00_View000/View000_0000006.pts", 8, (512, 512)),
    ],
)
def test_real_files(name: str, detectors: int, shape: tuple[int, int]) -> None:
    if not (REAL / name).is_file():
        pytest.skip(f"{REAL / name} is not here: set QUIETBEAM_RSCIIO_DATA to rsciio/tests/data of rosettasciio")
    found = read_map(REAL / name)
    assert found.counts.shape[0] == detectors and found.counts.shape[2:] == shape and found.units == "um"


def test_a_zarr_array_with_axes(tmp_path: Path, data: np.ndarray) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("xrf/spectra", data=data.transpose(2, 0, 1, 3))
    choice = parse_choice(dataset="xrf/spectra", axes="detector,row,col,channel", energy="0,0.01")
    assert np.array_equal(read_map(tmp_path / "a.zarr", ["Fe_Ka"], choice=choice).counts[:, 0], cut(data))
