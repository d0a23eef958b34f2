"""`quietbeam denoise` as people use it, and misuse it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quietbeam.cli import app
from quietbeam.files import FORMATS

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


@pytest.mark.parametrize("command", ["denoise in.npz -o out.h5", "simulate", "demo", "benchmark quality"])
def test_a_seed_below_zero_is_refused(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--seed", "-1"])
    assert done.exit_code == 2 and "--seed" in done.output
