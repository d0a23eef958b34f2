"""Calibrations in files: ours in a folder, by name, and PyXRF's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quietbeam.buffer.durable import replace_file
from quietbeam.core.errors import FileFormatError, InputError

from .calibration import Calibration, check
from .pyxrf import calibration_from_pyxrf, is_pyxrf

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as JSON, whole or not at all.

    Raises
    ------
    InputError
        Its figures cannot be a calibration's: it could not be read again.
    """
    check(calibration)
    write_json(calibration.to_dict(), path)


def write_json(data: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file, whole or not at all; of several processes that write it, the last has its way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode(), durable=True)


def read_calibration(wanted: str, folder: Path) -> Calibration:
    """Read a calibration: by its name, of `folder`; or a JSON file, ours or PyXRF's.

    Raises
    ------
    InputError
        There is none of that name; the message lists those that are there.
    FileFormatError
        The file is no calibration.
    """
    path = Path(wanted)
    if not path.is_file():
        path = folder / f"{wanted}.json"
        if not NAME.fullmatch(wanted) or not path.is_file():
            listed = ", ".join(list_calibrations(folder)) or "none"
            raise InputError(
                f"there is no calibration {wanted!r}; in {folder} there are {listed}",
                remedy="make one with quietbeam calibrate, or give its file",
            )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise InputError("it is no object")
        return calibration_from_pyxrf(data) if is_pyxrf(data) else Calibration.from_dict(data)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} cannot be read as a calibration: {error}") from error


def list_calibrations(folder: Path) -> list[str]:
    """Return the names of the calibrations in a folder."""
    return sorted(path.stem for path in folder.glob("*.json") if NAME.fullmatch(path.stem))
