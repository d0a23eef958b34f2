"""Secrets that quietbeam makes at its first start and keeps in files of their owner."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

_PASSWORD = re.compile(r"(\w://[^\s/?#'\"@:]*:)[^\s/?#'\"]+(?=@)")
_PARAMETER = re.compile(r"([?&](?:api_?key|access_token|token|password|secret)=)[^&\s#'\"]+", re.I)


def masked(text: str) -> str:
    """Return a text with the passwords and keys of all URLs in it masked."""
    return _PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1***", text)) if "://" in text else text


def read_or_make(path: Path) -> str:
    """Return the secret in `path`; make one (0600) when there is none. Two processes at once get the same."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32), encoding="ascii")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="utf-8").strip()
