"""What a power failure leaves of a folder: what was synced, as `fixtures/power_cut.c` notes it, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "fixtures" / "power_cut.c"


class PowerCut:
    """Processes that run in :meth:`environment` lose everything that they did not sync.

    Parameters
    ----------
    root
        Folder that is watched; it is there, and its own entries count from the first sync of it.
    notes
        An empty folder.
    """

    def __init__(self, root: Path, notes: Path) -> None:
        self.root, self._notes = root.resolve(), notes
        notes.mkdir(parents=True, exist_ok=True)
        self._library = notes / "power_cut.so"
        command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)

    def environment(self) -> dict[str, str]:
        """Return the environment of a process whose unsynced writes are lost."""
        return {
            **os.environ,
            "LD_PRELOAD": str(self._library),
            "POWER_CUT_ROOT": str(self.root),
            "POWER_CUT_NOTES": str(self._notes),
        }

    def survivors(self, target: Path) -> Path:
        """Copy what is on disk for sure to `target`; the processes have been killed.

        A file whose folder was synced, but not itself, is there and empty.
        """
        target.mkdir(parents=True)
        self._copy("root", target)
        return target

    def _copy(self, folder: str, target: Path) -> None:
        listing = self._notes / folder
        for line in listing.read_text().splitlines() if listing.exists() else ():
            entry, _, name = line.partition(" ")
            if entry.startswith("d-"):
                (target / name).mkdir()
                self._copy(entry, target / name)
            elif (self._notes / entry).exists():
                shutil.copyfile(self._notes / entry, target / name)
            else:
                (target / name).touch()
