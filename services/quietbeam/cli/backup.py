"""`quietbeam backup` and `quietbeam restore`: a data folder in one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(backup)
    app.command()(restore)


def backup(
    data_dir: Annotated[Path, typer.Argument(help="The folder that the setting data_dir names.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="New file: .tar, or .tar.zst to pack it.")],
    secrets: Annotated[bool, typer.Option("--secrets", help="Put the keys of data_dir/secrets in, too.")] = False,
) -> None:
    """Write runs (counts, newest maps), weights and calibrations of a data folder into one file. Services may run."""
    from quietbeam.app.backup import back_up

    contents = back_up(data_dir, output, secrets=secrets)
    typer.echo(f"{output}: {contents}")
    for uid, rows in contents.left_out.items():
        listed = ", ".join(map(str, rows[:10])) + (" ..." if len(rows) > 10 else "")
        typer.echo(f"run {uid}: row(s) {listed} were being written and are not in the backup", err=True)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `quietbeam backup` wrote.")],
    data_dir: Annotated[Path, typer.Argument(help="Folder that is empty or not there.")],
) -> None:
    """Check a backup and put it into an empty data folder; the services find the runs when they start."""
    from quietbeam.app.restore import restore as put_back

    typer.echo(f"{data_dir}: {put_back(file, data_dir)}")
