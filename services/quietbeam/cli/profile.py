"""`quietbeam profile`: does a beamline profile read a recorded run; a first draft of one; how a file is read."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import ChoiceAndSnakeOptions, grouped, split_lines

if TYPE_CHECKING:
    from quietbeam.files import ReadChoice
    from quietbeam.ingest.offline.check import Checked

_MARKS = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "wrong": "[red]wrong[/]"}


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    profile = typer.Typer(no_args_is_help=True, help="Check how a recorded run is read; draft a profile for it.")
    profile.callback()(_group)
    profile.command()(check)
    app.add_typer(profile, name="profile")


def _group() -> None:
    """Check how a recorded run is read; draft a profile for it."""


@grouped
def check(
    recording: Annotated[
        Path,
        typer.Argument(
            help="Recorded run: JSON lines or msgpack, also gzipped; or a measured map: whatever `quietbeam denoise` "
            "takes."
        ),
    ],
    choice: ChoiceAndSnakeOptions,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--profile", help="Profile to read it by: a shipped name or a YAML file; several are tried."
        ),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("--files", help="Folder of the detector files. Default: that of the recording."),
    ] = None,
    draft: Annotated[
        Path | None,
        typer.Option("--draft", help="Write a draft of a profile to this file, and check the run with it."),
    ] = None,
    lines: Annotated[str, typer.Option(help="Measured maps only: comma-separated lines to read.")] = "",
) -> None:
    """Say what ingest understands of a run: lines, detectors, geometry, dose, what is missing, what looks wrong.

    Exit code 0: it can be used. 1: it cannot, or something looks wrong. Of a measured map, say how it is read.
    """
    from quietbeam.core.errors import InputError
    from quietbeam.core.process.log import configure_logging
    from quietbeam.ingest.documents.recording import is_recording

    configure_logging("profile", level="error")
    command = f"quietbeam profile check {shlex.quote(str(recording))}"
    if recording.is_dir() or (recording.suffix and not is_recording(recording)):
        if profile or files or draft is not None:
            raise InputError(
                f"{recording} is no recording (.jsonl, .msgpack): --profile, --files and --draft are for recordings",
                remedy=f"leave them out, as in: {command}",
            )
        wanted = split_lines(lines)
        command += f" --lines {shlex.quote(lines)}" if lines else ""
        _show(_checked_file(recording, wanted, choice.choice(snake=choice.snake), command))
        return
    if lines or choice != ChoiceAndSnakeOptions():
        raise InputError(
            f"{recording} is a recording, which is read as a profile says: --lines, --scan, --shape and the like are "
            "for measured maps",
            remedy=f"write a profile, as in: {command} --draft mine.yaml",
        )
    _check_recording(recording, profile, files, draft)


def _checked_file(path: Path, lines: list[str], choice: ReadChoice, command: str) -> Checked:
    """Return how a measured map is read."""
    from quietbeam.batch.source import errors_showing, remarks_of
    from quietbeam.files import read_map
    from quietbeam.ingest.offline.check import Checked

    with errors_showing(command, str(path)):
        file = read_map(path, lines, choice=choice)
    detectors, n_line, rows, cols = file.counts.shape
    checked = Checked()
    checked.add("ok", "map", f"{rows} x {cols} pixels")
    checked.add("ok", "lines", ", ".join(file.lines or (f"{n_line} without names",)))
    checked.add("ok", "detectors", ", ".join(file.detectors or (f"{detectors} without names",)))
    if file.step is not None:
        checked.add("ok", "step", f"{file.step[0]:g} x {file.step[1]:g} {file.units}".rstrip())
    if file.measured is not None:
        checked.add("ok", "measured", f"{int(file.measured.sum())} of {file.measured.size} pixels")
    for remark in remarks_of(file):
        checked.add("ok", "remark", remark)
    return checked


def _check_recording(recording: Path, profile: list[str] | None, files: list[Path] | None, draft: Path | None) -> None:
    from quietbeam.core.errors import InputError
    from quietbeam.ingest.documents.recording import read_recording, relocate
    from quietbeam.ingest.offline.check import check as check_run
    from quietbeam.ingest.profile.draft import draft_profile, questions
    from quietbeam.ingest.profile.schema import load_profile, shipped_profiles

    found = read_recording(recording)
    folders = [folder.resolve() for folder in files or [recording.parent]]
    recorded = relocate(found.documents, folders)
    if draft is not None:
        if draft.exists():
            raise InputError(f"{draft} is there already; give --draft another name")
        text = draft_profile(recorded)
        draft.write_text(text, encoding="utf-8")
        typer.echo(f"{draft} is a draft. Answer in it what the documents do not say:")
        typer.echo("".join(f"  {n}. {question}\n" for n, question in enumerate(questions(text), 1)))
        profile = [str(draft)]
    checked = check_run(recorded, [load_profile(name) for name in profile or shipped_profiles()], folders)
    if found.broken:
        checked.add("wrong", "recording", found.broken)
    _show(checked)
    if not checked.usable:
        raise typer.Exit(1)


def _show(checked: Checked) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("what", "", "found"):
        table.add_column(name, overflow="fold")
    for finding in checked.findings:
        table.add_row(escape(finding.what), _MARKS[finding.verdict], escape(finding.found))
    Console(soft_wrap=False, emoji=False).print(table)
