"""`quietbeam profile`: does a beamline profile read a recorded run, and a first draft of one that would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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


def check(
    recording: Annotated[Path, typer.Argument(help="Recorded run: JSON lines or msgpack, also gzipped.")],
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--profile", help="Profile to read it by: a shipped name or a YAML file; several are tried."
        ),
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Option("--files", help="Folder of its detector files; default: beside the recording.")
    ] = None,
    draft: Annotated[
        Path | None, typer.Option("--draft", help="Write a first profile for this run here, and check that.")
    ] = None,
) -> None:
    """Say what ingest understands of a run: lines, detectors, geometry, dose, what is missing, what looks wrong.

    Exit code 0: it can be used. 1: it cannot, or something looks wrong.
    """
    from quietbeam.core.errors import InputError
    from quietbeam.core.process.log import configure_logging
    from quietbeam.ingest.documents.recording import read_recording, relocate
    from quietbeam.ingest.offline.check import check as check_run
    from quietbeam.ingest.profile.draft import draft_profile
    from quietbeam.ingest.profile.schema import load_profile, shipped_profiles

    configure_logging("profile", level="error")
    found = read_recording(recording)
    folders = [folder.resolve() for folder in files or [recording.parent]]
    recorded = relocate(found.documents, folders)
    if draft is not None:
        if draft.exists():
            raise InputError(f"{draft} is there already; give --draft another name")
        draft.write_text(draft_profile(recorded))
        typer.echo(f"{draft} is a draft: read it, correct it.\n")
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
