"""What the user chooses of a file that leaves a choice, through the command line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import structlog
import zarr
from files_kit import bliss, cut, pyxrf, spectra
from typer.testing import CliRunner

from quietbeam.cli import app
from quietbeam.core.errors import InputError
from quietbeam.files import read_map

MESH = "amesh samx 0 6 6 samy 0 5 5 0.1"
DATA = spectra()
FLAT = DATA.reshape(42, 2, -1)


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIETBEAM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "400")


def quietbeam(*words: object) -> str:
    """Run a command that works; return what it printed."""
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    return " ".join(done.output.split())


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, list(map(str, words)))
    assert isinstance(done.exception, InputError), done.output
    return str(done.exception)


def denoised(path: Path, *options: str) -> tuple[str, np.ndarray]:
    """Denoise without learning; return what was printed, and the raw map of Fe."""
    out = path.with_name("out.nxs")
    said = quietbeam("denoise", path, "-o", out, "--budget", 0, "--lines", "Fe_Ka", *options)
    with h5py.File(out) as file:
        return said, file["entry/raw/data"][0]


def test_the_scan_and_the_scaler_are_chosen_and_printed(tmp_path: Path) -> None:
    counters = {"mon": np.full(42, 7.0), "diode": np.full(42, 3.0)}
    path = bliss(tmp_path / "a.h5", {1: ("ct 1", FLAT[:1], {}), 2: (MESH, FLAT, {}), 3: (MESH, FLAT[::-1], counters)})
    said, raw = denoised(path)
    assert "scan 2.1 (amesh" in said and "other maps in the file: 3.1 (--scan)" in said and "I0" in said
    said, turned = denoised(path, "--scan", "3", "--i0", "mon")
    assert "scan 3.1 (amesh" in said and "I0 is mon" in said
    assert np.corrcoef(turned.ravel(), raw[::-1, ::-1].ravel())[0, 1] > 0.95
    for command in (("profile", "check", path), ("replay", path, "--transport", "none", "--speed", 0)):
        said = quietbeam(*command, "--scan", "3", "--i0", "diode", "--lines", "Fe_Ka")
        assert "scan 3.1 (amesh" in said and "I0 is diode" in said and "6 x 7 pixels" in said


def test_an_array_is_named_with_its_axes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["scan/eiger"] = DATA.transpose(2, 3, 0, 1)
        file["scan/other"] = np.zeros((3, 4))
    words = ("--dataset", "scan/eiger", "--axes", "detector,channel,row,col", "--energy", "0,10eV")
    said, raw = denoised(path, *words)
    assert np.corrcoef(raw.ravel(), cut(DATA).sum(0).ravel())[0, 1] > 0.99
    said = quietbeam("profile", "check", path, *words, "--entry", "scan", "--dataset", "eiger")
    assert "6 x 7 pixels" in said


def test_points_get_a_shape_and_run_back_and_forth(tmp_path: Path) -> None:
    path = tmp_path / "points.npz"
    there = DATA.copy()
    there[1::2] = there[1::2, ::-1]
    np.savez(path, spectra=there.reshape(42, 2, -1))
    text = refused("denoise", path, "-o", tmp_path / "out.nxs", "--energy", "0,0.01")
    assert f"quietbeam denoise {path} -o {tmp_path / 'out.nxs'} --shape 6x8" in text
    said, raw = denoised(path, "--shape", "6x7", "--snake", "--energy", "0,0.01")
    assert np.corrcoef(raw.ravel(), cut(DATA).sum(0).ravel())[0, 1] > 0.99
    assert "the order of the pixels is assumed" in said


def test_positions_of_the_input_are_the_axes_of_the_output(tmp_path: Path) -> None:
    x, y = np.meshgrid(2 + 0.25 * np.arange(7), 9 - 0.5 * np.arange(6))
    there = DATA.copy()
    there[1::2] = there[1::2, ::-1]  # as measured: a snake, whose rows fall
    x[1::2] = x[1::2, ::-1].copy()
    title = "amesh samx 2 3.5 6 samy 9 6.5 5 0.1"
    path = bliss(tmp_path / "a.h5", {1: (title, there.reshape(42, 2, -1), {"samx": x.ravel(), "samy": y.ravel()})})
    read = read_map(path, ["Fe_Ka"])
    denoised(path)
    with h5py.File(tmp_path / "out.nxs") as file:
        data = file["entry/denoised"]
        np.testing.assert_allclose(data["row"], 9 - 0.5 * np.arange(6))
        np.testing.assert_allclose(data["col"], 2 + 0.25 * np.arange(7))
        assert (data["row"].attrs["long_name"], data["col"].attrs["long_name"]) == ("samy", "samx")
        np.testing.assert_allclose(file["entry/positions/col"], read.positions[1])
        assert file["entry/pixel_order"][()].decode() == read.order
    again = read_map(tmp_path / "out.nxs")
    assert again.step == pytest.approx(read.step) and again.origin == pytest.approx(read.origin)
    for name in ("out.maps.h5", "out.pyxrf.h5", "out.ome.zarr"):
        quietbeam("denoise", path, "-o", tmp_path / name, "--budget", 0, "--lines", "Fe_Ka")
    with h5py.File(tmp_path / "out.maps.h5") as file:
        np.testing.assert_allclose(file["MAPS/Scan/y_axis"], 9 - 0.5 * np.arange(6))
    with h5py.File(tmp_path / "out.pyxrf.h5") as file:
        np.testing.assert_allclose(file["xrfmap/positions/pos"][0], np.tile(2 + 0.25 * np.arange(7), (6, 1)))
    ome = zarr.open_group(tmp_path / "out.ome.zarr", mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]
    assert ome["coordinateTransformations"][0]["scale"] == pytest.approx([1.0, -0.5, 0.25])


def test_what_has_no_use_is_refused_with_the_command_that_works(tmp_path: Path) -> None:
    path = pyxrf(tmp_path / "a map.h5", DATA, {"sr": np.ones((6, 7)), "ion": np.full((6, 7), 2.0)})
    wrong = ("--scan", "2", "--i0", "ion", "--lines", "Fe_Ka")
    out = tmp_path / "out.nxs"
    for command in (("denoise", path, "-o", out), ("replay", path), ("profile", "check", path)):
        text = refused(*command, *wrong)
        works = text.partition("as in: ")[2]
        assert "--scan has no use here" in text and works.startswith(f"quietbeam {command[0]}"), text
        words = shlex.split(works)[1:]
        assert words[-2:] == ["--i0", "ion"] and "Fe_Ka" in words and str(path) in words
        fast = {"denoise": ["--budget", "0"], "replay": ["--transport", "none", "--speed", "0"]}
        assert "I0 is ion" in quietbeam(*words, *fast.get(command[0], []))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shape", "6"), "--shape 6x8"),
        (("--axes", "x,y"), "row,col,channel"),
        (("--energy", "ten"), "--energy 0,0.01"),
    ],
)
@pytest.mark.parametrize("command", ["denoise {} -o out.nxs", "replay {}", "profile check {}"])
def test_an_option_that_cannot_be_understood_says_how_it_is_written(
    command: str, words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    path = pyxrf(tmp_path / "a.h5", DATA, {})
    assert message in refused(*command.format(path).split(), *words)


def test_a_recording_takes_no_choices(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("")
    assert "--draft mine.yaml" in refused("profile", "check", path, "--shape", "6x7")
    assert "played as it is" in refused("replay", path, "--scan", "3")
    text = refused("denoise", path, "-o", tmp_path / "out.nxs", "--shape", "6x7")
    assert "is read as its profile says: --shape is for files" in text and "--profile mine.yaml" in text
    assert "--draft are for recordings" in refused("profile", "check", tmp_path / "a.h5", "--draft", "x.yaml")


def test_options_of_a_choice_are_those_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"quietbeam denoise \S+ -o OUT.h5 --i0 mon$"):
        from quietbeam.files import parse_choice

        read_map(pyxrf(tmp_path / "a.h5", DATA, {}), choice=parse_choice(scan="3", shape="6x7", i0="mon"))
