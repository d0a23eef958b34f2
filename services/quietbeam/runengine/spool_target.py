"""Which spooled documents belong to a server: one server has many URLs, and its password changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_LOOPBACK = ("", "localhost", "localhost.localdomain", "127.0.0.1", "::1")
_MARK = ".server"


def canonical(url: str) -> str:
    """Return what a Redis URL says about the place: no user, no password, no options; defaults are written out."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if parts.scheme.lower() == "unix":
        path = os.path.realpath(unquote(parts.path))
        return f"unix:{path}/{_number(query.get('db', ['0'])[-1], 0)}"
    try:
        port = parts.port or 6379
    except ValueError:
        port = 6379
    host = (parts.hostname or "").rstrip(".")
    database = query.get("db", [unquote(parts.path).strip("/")])[-1]
    return f"tcp:{'localhost' if host in _LOOPBACK else host}:{port}/{_number(database, 0)}"


def _number(text: str, default: int) -> int:
    return int(text) if text.isdecimal() else default


def tag_of(target: str) -> str:
    """Return the part of a file's name that stands for a target."""
    return hashlib.sha256(target.encode(errors="surrogateescape")).hexdigest()[:12]


def tags_of(url: str) -> tuple[str, str]:
    """Return the tag of new segments, and the one that version 0.1 wrote for this URL."""
    return tag_of(canonical(url)), tag_of(url)


def remember(folder: Path, tag: str, server: str) -> None:
    """Note that the target of `tag` is the server of this identity."""
    path = folder / (tag + _MARK)
    if not path.exists() or path.read_text(encoding="utf-8") != server:
        path.touch(mode=0o600)
        path.write_text(server, encoding="utf-8")


def aliases(folder: Path, server: str) -> list[str]:
    """Return the tags of all URLs under which this server was met."""
    return [path.stem for path in folder.glob(f"*{_MARK}") if path.read_text(encoding="utf-8") == server]
