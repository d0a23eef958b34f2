"""Paths of requests below the prefix of a proxy, and the methods that an address has."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.routing import compile_path

HEALTH = ("/healthz", "/readyz")
_FILES = ("/", "/ui/{file:path}")


def path_in(scope: MutableMapping[str, Any]) -> str:
    """Return the path of a request below the prefix."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def allowed_at(path: str, places: Iterable[tuple[str, str]]) -> set[str]:
    """Return the methods that an address has.

    Parameters
    ----------
    path
        Below the prefix.
    places
        (method, path template) of every address of the API.
    """
    everywhere = [*places, *(("GET", template) for template in _FILES)]
    return {method for method, template in everywhere if compile_path(template)[0].match(path)} - {"WEBSOCKET"}
