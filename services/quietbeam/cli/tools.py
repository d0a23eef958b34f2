"""`quietbeam doctor` and `quietbeam config`: is this machine ready, and which settings hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .options import Config

_MARKS = {"ok": "[green]ok[/]     ", "warning": "[yellow]warning[/]", "failure": "[red]failure[/]"}


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(doctor)
    app.command()(alive)
    config = typer.Typer(no_args_is_help=True, help="Show the settings schema or the effective settings.")
    config.command()(schema)
    config.command()(show)
    app.add_typer(config, name="config")


def doctor(
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per check.")] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Repair damaged runs. Unreadable rows become not measured."),
    ] = False,
) -> None:
    """Check settings, Python, torch, device, weights, profiles, disk, ports, Redis, Tiled and runs; say what to do.

    Exit code 0: ready. 1: something must be done.
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape

    from quietbeam.app.doctor import examine_config

    findings = list(examine_config(config, repair=repair))
    if as_json:
        for finding in findings:
            typer.echo(json.dumps(asdict(finding)))
    else:
        console = Console(soft_wrap=True, emoji=False, highlight=False)  # uids and paths stay whole, to be copied
        for finding in findings:
            console.print(f"{_MARKS[finding.verdict]} [bold]{escape(finding.check)}[/]: {escape(finding.found)}")
            if finding.remedy:
                console.print(f"        what to do: {escape(finding.remedy)}")
    if any(finding.verdict == "failure" for finding in findings):
        raise typer.Exit(1)


def alive(
    stage: Annotated[str, typer.Argument(help="ingest, worker, publish or serve.")],
    config: Config = None,
) -> None:
    """Exit with 0 when a stage beats (serve: answers), with 1 when it does not; for health checks."""
    from quietbeam.app.programs import beating
    from quietbeam.core.settings import load_settings

    if not beating(load_settings(config), stage):
        typer.echo(f"quietbeam: no sign of life from {stage}", err=True)
        raise typer.Exit(1)


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of the settings."""
    from quietbeam.core.settings import Settings

    return Settings.model_json_schema()


def schema() -> None:
    """Print the JSON schema of the settings (docs/reference/config.schema.json)."""
    typer.echo(json.dumps(settings_schema(), indent=2, sort_keys=True))


def show(config: Config = None) -> None:
    """Print the settings that hold, after file and environment; secrets are masked."""
    import yaml

    from quietbeam.core.secrets import masked
    from quietbeam.core.settings import load_settings

    settings = load_settings(config)
    values = settings.model_dump(mode="json")
    values["redis"]["url"] = settings.redis_url
    values["tiled"]["uri"] = settings.tiled_uri
    text = yaml.safe_dump(_each_text(values, masked), sort_keys=False, allow_unicode=True, width=1_000_000)
    typer.echo(text, nl=False)


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return a tree with every text in it changed, keys too."""
    if isinstance(value, dict):
        return {_each_text(key, change): _each_text(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_each_text(one, change) for one in value]
    return change(value) if isinstance(value, str) else value
