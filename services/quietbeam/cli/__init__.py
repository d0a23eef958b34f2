"""The command line. Each module adds its commands through ``register(app)`` and imports what is heavy only when run."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated

import typer

from quietbeam import __version__
from quietbeam.core.errors import QuietbeamError
from quietbeam.core.process.stop import interrupt_on_sigint
from quietbeam.core.secrets import masked

MODULES = (
    "demo",
    "up",
    "ingest",
    "worker",
    "publish",
    "serve",
    "api_key",
    "simulate",
    "ioc",
    "replay",
    "record",
    "profile",
    "denoise",
    "calibrate",
    "batch",
    "benchmark",
    "chaos",
    "report",
    "backup",
    "tools",
)
"""Modules of this package with a ``register(app)``, in the order of ``quietbeam --help``; absent ones are skipped."""

EXIT_REFUSED = 2
"""Exit code of an error that quietbeam raised on purpose: the message says what to change."""

app = typer.Typer(
    name="quietbeam",
    help="Denoise X-ray fluorescence maps while the scan runs, proven on held-out photons.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"quietbeam {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (also QUIETBEAM_DEBUG=1).")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Denoise X-ray fluorescence maps while the scan runs, proven on held-out photons."""
    if debug:
        os.environ["QUIETBEAM_DEBUG"] = "1"


for _name in MODULES:
    importlib.import_module(f"{__name__}.{_name}").register(app)


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2, one of the system exit code 1."""
    _speak_utf8()
    interrupt_on_sigint()
    try:
        app()
    except QuietbeamError as error:
        if os.environ.get("QUIETBEAM_DEBUG"):
            raise
        typer.echo(f"quietbeam: {' '.join(masked(str(error)).split())}", err=True)
        sys.exit(EXIT_REFUSED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if os.environ.get("QUIETBEAM_DEBUG"):
            raise
        typer.echo(f"quietbeam: {_plain(error)} (--debug shows where)", err=True)
        sys.exit(1)


def _speak_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the locale is another: names of files have one form on every machine."""
    import codecs
    import locale

    encodings = {codecs.lookup(name).name for name in (sys.getfilesystemencoding(), locale.getencoding())}
    if encodings == {"utf-8"} or sys.flags.utf8_mode or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _plain(error: OSError) -> str:
    return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
