"""structlog, set up once per process: readable on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import Any

import structlog

from ..secrets import masked

_SECRET_KEYS = ("api_key", "authorization", "password", "secret", "token")


def _redact(_logger: Any, _method: str, event: Any) -> Any:
    for key in event:
        if any(word in key.lower() for word in _SECRET_KEYS):
            event[key] = "***"
        elif isinstance(event[key], str):
            event[key] = masked(event[key])
    return event


class _Lossy:
    """stderr, as it is at the moment; what a full disk does not take is lost, and ends no stage."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def keep_from_others() -> None:
    """Let what this process writes be readable by its owner and group at most."""
    os.umask(os.umask(0o077) | 0o007)


def configure_logging(stage: str, *, level: str | None = None, json: bool | None = None) -> None:
    """Log to stderr with the name of the stage on every line.

    Parameters
    ----------
    stage
        Name of this process, e.g. ``ingest``.
    level
        ``debug``, ``info``, ``warning`` or ``error``; default from ``QUIETBEAM_LOG_LEVEL``, else ``info``.
    json
        Force JSON lines (default: JSON unless stderr is a terminal).
    """
    name = (level or os.environ.get("QUIETBEAM_LOG_LEVEL", "info")).upper()
    number = logging.getLevelNamesMapping().get(name, logging.INFO)
    as_json = (not sys.stderr.isatty()) if json is None else json
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback  # others show local variables, keys among them
        )
    )
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([structlog.processors.format_exc_info] if as_json else []),
        _redact,
    ]
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.PrintLogger(_Lossy()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(stage=stage)
