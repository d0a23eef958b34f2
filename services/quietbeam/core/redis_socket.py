"""Where the embedded Redis server listens."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_LONGEST = 100
"""A socket path has at most 107 bytes; some room for what libraries add."""


def socket_path(data_dir: Path) -> Path:
    """Return the Unix socket of the embedded server; in /tmp when `data_dir` is too deep for a socket path."""
    path = data_dir.resolve() / "redis" / "valkey.sock"
    if len(str(path)) <= _LONGEST:
        return path
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return Path(f"/tmp/quietbeam-{os.getuid()}-{digest}") / "valkey.sock"
