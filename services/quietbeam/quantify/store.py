"""Calibrations in files: ours in a folder, by name, and PyXRF's."""

from __future__ import annotations

import json
import re
from pathlib import Path

from quietbeam.core.errors import FileFormatError, InputError

from .calibration import Calibration
from .pyxrf import calibration_from_pyxrf, is_pyxrf

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(calibration.to_dict(), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


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
    except (InputError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be read as a calibration: {error}") from error


def list_calibrations(folder: Path) -> list[str]:
    """Return the names of the calibrations in a folder."""
    return sorted(path.stem for path in folder.glob("*.json") if NAME.fullmatch(path.stem))
