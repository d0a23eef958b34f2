"""Where the buffers of runs lie."""

from __future__ import annotations

import re
from pathlib import Path

from quietbeam.core.errors import InputError

_UID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


def is_uid(name: str) -> bool:
    """Return whether a run may be called so."""
    return _UID.fullmatch(name) is not None


def run_path(root: Path, uid: str) -> Path:
    """Return the folder of a run.

    Raises
    ------
    InputError
        The uid could leave `root`.
    """
    if not is_uid(uid):
        raise InputError(f"run uid {uid[:80]!r} is not allowed: use letters, digits, '-' and '_' (at most 64)")
    return root / uid


def list_buffers(root: Path) -> list[str]:
    """Return the uids of the runs that are buffered below `root`."""
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if is_uid(p.name) and (p / "zarr.json").exists())
