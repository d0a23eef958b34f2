"""Deaths on demand, for tests of "persist, then acknowledge"."""

from __future__ import annotations

import os
from pathlib import Path


def failpoint(name: str) -> None:
    """Kill this process at once when ``QUIETBEAM_FAILPOINT`` has ``NAME``, or (only once) ``NAME@MARKER_FILE``.

    Several are separated by commas.
    """
    wanted = os.environ.get("QUIETBEAM_FAILPOINT")
    if not wanted:
        return
    for one in wanted.split(","):
        point, _, marker = one.partition("@")
        if point == name and _is_first(marker):
            os._exit(99)


def _is_first(marker: str) -> bool:
    """Make the marker file; False when it was there. Without one every time is the first."""
    if not marker:
        return True
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
