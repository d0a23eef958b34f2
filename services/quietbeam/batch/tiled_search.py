"""Runs of a Tiled server that a batch takes: one run, or those of a container whose metadata fit."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.settings import Settings

from .source import tiled_address

_RUN, _RESULT = "BlueskyRun", "XRFDenoisedRun"


def runs_in_tiled(address: str, site: Settings, tiled: str = "") -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (address, uid) of runs, and (name, reason) of nodes that are left out.

    Parameters
    ----------
    address
        Of a run or of a container, with conditions behind a question mark: ``http://HOST/api/v1/metadata/raw?KEY=VALUE``
        takes the runs whose metadata have this value, as ``start.plan_name=grid_scan``.

    Raises
    ------
    InputError
        There is no such node, or it is no container.
    ServiceError
        Tiled cannot be reached, or refuses the search.
    """
    from tiled.client.utils import ClientError
    from tiled.queries import Key

    from quietbeam.ingest.documents.from_tiled import opened

    parts = urlsplit(address)
    uri, key, _ = tiled_address(urlunsplit((*parts[:3], "", "")), site, tiled)
    runs, left_out = [], []
    with opened(uri, key) as node:
        if kind_of(node):
            nodes = [(_last(node.uri), node)]
        elif not hasattr(node, "search"):
            raise InputError(f"{uri} is neither a run nor a container of runs")
        else:
            for name, value in parse_qsl(parts.query, keep_blank_values=True):
                node = node.search(Key(name) == _value(value))
            try:
                nodes = list(node.items())
            except ClientError as error:
                raise ServiceError(f"Tiled at {uri} refuses the search: {str(error)[:200]}") from error
        for name, child in nodes:
            kind = kind_of(child)
            if kind == _RUN:
                runs.append((child.uri, str(dict(child.metadata).get("start", {}).get("uid") or name)))
            else:
                left_out.append((child.uri, "is a result of quietbeam" if kind == _RESULT else "is no run"))
    return runs, left_out


def kind_of(node: Any) -> str:
    """Return the spec that says that a node is a run or a result; empty for others."""
    names = {spec.name for spec in node.specs}
    return _RUN if _RUN in names else _RESULT if _RESULT in names else ""


def _value(text: str) -> Any:
    """Return a number or truth value where the text is one, else the text."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, int | float) else text


def _last(uri: str) -> str:
    return uri.rstrip("/").rsplit("/", 1)[-1]
