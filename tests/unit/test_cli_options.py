"""Option groups, commands as functions, options that have moved, remedies of errors."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner

from quietbeam.cli import MODULES, app
from quietbeam.cli.denoise import denoise
from quietbeam.cli.options import as_arguments, map_shape, split_lines
from quietbeam.cli.sample import SampleOptions, ScanOptions
from quietbeam.cli.simulate import simulate
from quietbeam.client.errors import RefusedError
from quietbeam.core.errors import DataNotReadyError, InputError, NotMeasuredError, ServiceError


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Commands set up the log for the stderr of their process; here it is that of a test, which is closed."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_every_command_is_a_function_of_its_module() -> None:
    commands = [command.callback for command in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands += [command.callback for command in group.typer_instance.registered_commands]
    assert len(commands) > 20
    for command in commands:
        assert command is not None and "<locals>" not in command.__qualname__, command
        assert command.__module__.removeprefix("quietbeam.cli.") in MODULES
        assert callable(getattr(importlib.import_module(command.__module__), command.__name__))


def test_the_signature_of_a_grouped_command_is_that_of_its_options() -> None:
    parameters = inspect.signature(denoise).parameters
    assert {"source", "output", "lines", "calibration", "budget", "steps", "seed", "config"} <= set(parameters)
    assert parameters["budget"].default == 30.0


def test_a_command_can_be_called_with_groups_or_with_single_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUIETBEAM_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match="ROWSxCOLS"):
        simulate(sample=SampleOptions(shape="64"), scan=ScanOptions(transport="none"))
    with pytest.raises(InputError, match="ROWSxCOLS"):
        simulate(shape="64", transport="none")


def test_arguments_say_the_same_as_a_group() -> None:
    chosen = SampleOptions(shape="4x5", counts=3.5, paralyzable=True, seed=7)
    seen: list[SampleOptions] = []
    probe = typer.Typer()

    from quietbeam.cli.options import grouped

    @probe.command()
    @grouped
    def command(sample: SampleOptions) -> None:
        seen.append(sample)

    assert CliRunner().invoke(probe, as_arguments(chosen)).exit_code == 0
    assert seen == [chosen]


def test_lists_of_lines_and_shapes() -> None:
    assert split_lines(" Fe_Ka, ,Cu_Ka,") == ["Fe_Ka", "Cu_Ka"]
    assert split_lines("") == []
    assert map_shape("4X6") == (4, 6)


def test_options_that_moved_to_ioc_run_it_and_name_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quietbeam", "simulate", "--ioc", "--shape", "4x5", "--truth", "t.npz", "--repeat", "2"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"QUIETBEAM_CONFIG": "embedded"},
    )
    assert done.returncode == 2
    assert "quietbeam ioc --scan --shape 4x5 --truth t.npz --repeat 2" in done.stderr
    assert "give a folder" in done.stderr, "the new command has run"


def test_scan_options_without_a_scan_are_refused() -> None:
    done = CliRunner().invoke(app, ["ioc", "--mode", "fly"])
    assert isinstance(done.exception, InputError) and done.exception.remedy == "add --scan"


@pytest.mark.parametrize("kind", [InputError, ServiceError, NotMeasuredError, DataNotReadyError, RefusedError])
def test_a_remedy_is_printed_after_the_message_and_survives_a_copy(kind: type[ServiceError]) -> None:
    error = kind("no key", remedy="set one")
    assert (error.message, error.remedy, str(error)) == ("no key", "set one", "no key: set one")
    again = copy.copy(error)
    assert (str(again), again.remedy) == (str(error), "set one")
    assert str(kind("no key")) == "no key" and not kind("no key").remedy
