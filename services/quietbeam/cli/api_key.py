"""`quietbeam api-key`: keys of people and programs for the REST API."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from quietbeam.core.errors import InputError

from .options import Config

if TYPE_CHECKING:
    from quietbeam.serve.access.api_keys import KeyStore

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    keys = typer.Typer(no_args_is_help=True, help="API keys of people and programs: create, list, revoke.")
    keys.command()(create)
    keys.command("list")(show)
    keys.command()(revoke)
    app.add_typer(keys, name="api-key")


def create(
    user: Annotated[str, typer.Argument(help="Owner of the key: a person or a program.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may do, repeatable: read:metadata, read:data, write:data, delete:data, metrics, "
            "admin:apikeys. Default: read:metadata and read:data."
        ),
    ] = None,
    expires_in: Annotated[str, typer.Option(help="30d, 12h, 90m, or never.")] = "365d",
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    config: Config = None,
) -> None:
    """Make a key and show it, this once; only its hash is kept. A running `serve` takes it at once."""
    from quietbeam.serve.access.api_keys import date
    from quietbeam.serve.access.scopes import Scope

    try:
        scopes = [Scope(name) for name in scope or (Scope.READ_METADATA, Scope.READ_DATA)]
    except ValueError as error:
        raise InputError(f"{error}; scopes are {', '.join(Scope)}") from error
    lifetime = parse_lifetime(expires_in)
    expires = None if lifetime is None else time.time() + lifetime
    secret, key = _store(config).create(user, scopes, expires=expires, note=note)
    typer.echo(
        f"Created key {key.first_eight} for {key.user} (scopes: {', '.join(key.scopes)}; "
        f"expires: {date(key.expires)}). Copy it now, it is not stored:",
        err=True,
    )
    typer.echo(secret)


def show(
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per key.")] = False,
) -> None:
    """List every key: its first eight characters, user, scopes, end, note."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from quietbeam.serve.access.api_keys import date

    keys = _store(config).keys()
    if as_json:
        for key in keys:
            typer.echo(
                json.dumps(
                    {
                        "first_eight": key.first_eight,
                        "user": key.user,
                        "scopes": list(key.scopes),
                        "created": key.created,
                        "expires": key.expires,
                        "expired": key.expired,
                        "note": key.note,
                    }
                )
            )
        return
    if not keys:
        typer.echo("No keys yet: quietbeam api-key create USER", err=True)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("key", "user", "scopes", "ends", "note"):
        table.add_column(name, overflow="fold")
    for key in keys:
        ends = f"[red]expired {date(key.expires)}[/]" if key.expired else date(key.expires)
        table.add_row(key.first_eight, escape(key.user), " ".join(key.scopes), ends, escape(key.note))
    Console(soft_wrap=False, emoji=False).print(table)


def revoke(
    first_eight: Annotated[str, typer.Argument(help="First eight characters of the key.")],
    config: Config = None,
) -> None:
    """Revoke a key; it is refused from the next request on, and so are the browsers that signed in with it."""
    key = _store(config).revoke(first_eight)
    typer.echo(f"Key {key.first_eight} of {key.user} is revoked.", err=True)


def parse_lifetime(text: str) -> float | None:
    """Return seconds, None for never.

    Raises
    ------
    InputError
        Not a time.
    """
    if text == "never":
        return None
    match = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if not match or not int(match[1]):
        raise InputError(f"--expires-in {text[:20]!r}: write 90m, 12h, 30d, or never")
    return int(match[1]) * _UNITS[match[2]]


def _store(config: str | None) -> KeyStore:
    from quietbeam.core.settings import load_settings
    from quietbeam.serve.access.api_keys import KeyStore

    settings = load_settings(config)
    settings.make_data_dir()
    return KeyStore(settings.secrets_dir / "api_keys.json")
