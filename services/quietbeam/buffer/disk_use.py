"""How much of the disk a run takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 512


def sizes_on_disk(run: Path) -> Iterator[int]:
    """Yield the bytes that each folder of a run takes on disk, its small files rounded up as the file system does.

    A file with several names in the run, as maps of two leases have, counts once. Nothing for a run that is gone.
    """
    linked: set[int] = set()
    for folder, _, names in os.walk(run):
        size = 0
        for name in names:
            try:
                stat = Path(folder, name).stat()
            except FileNotFoundError:
                continue
            if stat.st_nlink > 1 and stat.st_ino in linked:
                continue
            if stat.st_nlink > 1:
                linked.add(stat.st_ino)
            size += stat.st_blocks * _BLOCK
        yield size
