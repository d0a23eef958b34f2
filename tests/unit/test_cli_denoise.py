"""`quietbeam denoise` as people use it, and misuse it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quietbeam.cli import app, main
from quietbeam.core.errors import InputError, QuietbeamError, ServiceError
from quietbeam.files import FORMATS
from quietbeam_models.weights import DEFAULT, FOLDER

COUNTS = np.random.default_rng(0).poisson(3, (2, 2, 24, 24)).astype(np.uint32)


def denoise(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["denoise", *arguments, "--budget", "0"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_names_are_printed_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("in.npz", counts=COUNTS, lines=["Fe[red]", "Cu[/x]:x:"])
    Path("run[").mkdir()
    code, output = denoise("in.npz", "-o", "run[/1]:smile:.h5")
    assert code == 0, output
    for name in ("Fe[red]", "Cu[/x]:x:", "run[/1]:smile:.h5: 2 lines"):
        assert name in output


def test_an_interruption_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, *_: object) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    np.savez(tmp_path / "in.npz", counts=COUNTS)
    monkeypatch.setitem(FORMATS, "csv", ((".csv",), interrupted))
    code, output = denoise(str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.csv"))
    assert (code, output.strip()) == (130, "quietbeam: interrupted; nothing was written")
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


def test_weights_are_a_name_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIETBEAM_DATA_DIR", str(tmp_path / "data"))
    np.savez(tmp_path / "in.npz", counts=COUNTS)
    (tmp_path / "data" / "weights").mkdir(parents=True)
    for suffix in (".safetensors", ".json"):
        shutil.copy(FOLDER / f"{DEFAULT}{suffix}", tmp_path / f"filed{suffix}")
        shutil.copy(FOLDER / f"{DEFAULT}{suffix}", tmp_path / "data" / "weights" / f"named{suffix}")
    names = {"": DEFAULT, "named": "named", str(tmp_path / "filed.safetensors"): "filed"}
    for weights, name in names.items():
        code, output = denoise(str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.csv"), "--weights", weights)
        assert code == 0 and f"weights {name} " in output, output
    for missing, answer in (("nobodys", "there are named, "), ("nobodys.safetensors", "cannot be read")):
        command = ["denoise", str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.csv"), "--weights", missing]
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, QuietbeamError) and answer in str(done.exception)


@pytest.mark.parametrize("command", ["denoise in.npz -o out.h5", "simulate", "demo", "benchmark quality"])
def test_a_seed_below_zero_is_refused(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--seed", "-1"])
    assert done.exit_code == 2 and "--seed" in done.output


def test_a_mistyped_name_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIETBEAM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("QUIETBEAM_TILED__URI", "http://127.0.0.1:1/api/v1")
    monkeypatch.setenv("QUIETBEAM_TILED__API_KEY", "key")
    done = CliRunner().invoke(app, ["denoise", "missing", "-o", str(tmp_path / "out.h5")])
    assert isinstance(done.exception, ServiceError)
    assert str(done.exception).startswith("there is no file missing, and") and "does not answer" in str(done.exception)


def test_a_run_takes_no_calibration(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["denoise", "abcdef", "-o", str(tmp_path / "out.h5"), "--calibration", "c.json"])
    assert isinstance(done.exception, InputError) and "--calibration is for files of spectra" in str(done.exception)


def test_a_result_says_what_is_denoised_again(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", counts=COUNTS)
    assert denoise(str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.h5"))[0] == 0
    code, output = denoise(str(tmp_path / "out.h5"), "-o", str(tmp_path / "again.h5"))
    assert code == 0 and "counts of one detector" in " ".join(output.split())


def test_a_failure_of_the_system_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "/data/x")

    monkeypatch.setattr("quietbeam.cli.app", full)
    monkeypatch.delenv("QUIETBEAM_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "quietbeam: /data/x: No space left on device (--debug shows where)\n"
