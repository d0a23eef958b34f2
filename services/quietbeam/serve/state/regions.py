"""The named regions of runs, kept in a file of the run's folder, so that they go with the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout

from quietbeam.buffer.durable import replace_file
from quietbeam.buffer.run_buffer import run_path
from quietbeam.core.errors import DamagedRunError, InputError, NotMeasuredError, ServiceError
from quietbeam.core.model.types import RunInfo
from quietbeam.regions import Region

FILE = "regions.json"
MAX_REGIONS = 64
_LOCK = ".regions.lock"
"""In the folder of the run buffers: changes of all processes that serve it come one after the other. It is no file of a
run, which may be deleted meanwhile."""
_PATIENCE_S = 30.0


class RegionStore:
    """Reads and changes the regions of runs. Safe for several threads and processes.

    Parameters
    ----------
    root
        Folder of the run buffers.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._lock = root, Lock()

    def read(self, info: RunInfo) -> dict[str, Region]:
        """Return the regions of a run by name, in the order in which they were made.

        Raises
        ------
        DamagedRunError
            Their file is there and cannot be read.
        """
        path = run_path(self._root, info.uid) / FILE
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            regions = [Region.from_dict(one, info.shape) for one in found["regions"]]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DamagedRunError(
                f"the regions of run {info.uid} cannot be read", remedy=f"remove its {FILE}", uid=info.uid
            ) from error
        return {region.name: region for region in regions}

    def put(self, info: RunInfo, region: Region) -> bool:
        """Keep a region, in place of one of the same name; return whether there was one.

        Raises
        ------
        InputError
            There are too many.
        """

        def add(regions: dict[str, Region]) -> bool:
            before = region.name in regions
            if not before and len(regions) >= MAX_REGIONS:
                raise InputError(f"a run has at most {MAX_REGIONS} regions: delete one first")
            regions[region.name] = region
            return before

        return self._change(info, add)

    def replace(self, info: RunInfo, names: Collection[str], new: Sequence[Region]) -> None:
        """Keep regions in place of all that have one of the `names`.

        Raises
        ------
        InputError
            There are too many.
        """

        def exchange(regions: dict[str, Region]) -> bool:
            for name in names:
                regions.pop(name, None)
            if len(regions) + len(new) > MAX_REGIONS:
                raise InputError(f"a run has at most {MAX_REGIONS} regions: delete some first")
            regions.update({region.name: region for region in new})
            return True

        self._change(info, exchange)

    def delete(self, info: RunInfo, name: str) -> None:
        """Delete a region.

        Raises
        ------
        NotMeasuredError
            There is none of that name.
        """

        def remove(regions: dict[str, Region]) -> bool:
            if name not in regions:
                raise no_region(info, name, regions)
            del regions[name]
            return True

        self._change(info, remove)

    def get(self, info: RunInfo, name: str) -> Region:
        """Return a region.

        Raises
        ------
        NotMeasuredError
            There is none of that name.
        """
        regions = self.read(info)
        if name not in regions:
            raise no_region(info, name, regions)
        return regions[name]

    def _change(self, info: RunInfo, change: Callable[[dict[str, Region]], bool]) -> bool:
        folder = run_path(self._root, info.uid)
        with self._alone(info):
            if not folder.is_dir():
                raise NotMeasuredError(f"run {info.uid} has no folder to keep regions in")
            regions = self.read(info)
            told = change(regions)
            text = json.dumps({"regions": [region.to_dict() for region in regions.values()]}, indent=1)
            try:
                replace_file(folder / FILE, text.encode(), durable=True)
            except OSError as error:
                raise ServiceError(f"the regions of run {info.uid} could not be written: {error.strerror}") from error
        return told

    @contextmanager
    def _alone(self, info: RunInfo) -> Iterator[None]:
        """Keep other threads and other processes from changing regions."""
        lock = FileLock(self._root / _LOCK)
        with self._lock:
            try:
                lock.acquire(timeout=_PATIENCE_S)
            except Timeout as error:
                raise ServiceError(
                    f"the regions of run {info.uid} are not changed: another process has held {_LOCK} for "
                    f"{_PATIENCE_S:g} s",
                    remedy="try again; if it stays so, restart the services that serve this data_dir",
                ) from error
            except OSError as error:
                raise ServiceError(f"the regions of run {info.uid} could not be locked: {error.strerror}") from error
            try:
                yield
            finally:
                lock.release()


def no_region(info: RunInfo, name: str, regions: dict[str, Region]) -> NotMeasuredError:
    """Return the error of a region that is not there."""
    listed = ", ".join(regions) or "none"
    return NotMeasuredError(f"run {info.uid} has no region {name[:64]!r}; there are {listed}")
