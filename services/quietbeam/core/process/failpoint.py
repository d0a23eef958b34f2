"""Deaths on demand, for tests of "persist, then acknowledge"."""

from __future__ import annotations

import os
from pathlib import Path


def failpoint(name: str) -> None:
    """Kill this process at once when ``QUIETBEAM_FAILPOINT`` is ``NAME``, or (only once) ``NAME@MARKER_FILE``."""
    wanted = os.environ.get("QUIETBEAM_FAILPOINT")
    if not wanted:
        return
    point, _, marker = wanted.partition("@")
    if point != name:
        return
    if marker:
        try:
            Path(marker).touch(exist_ok=False)
        except FileExistsError:
            return
    os._exit(99)
