"""What a user chooses when a file is read: which scan, which array, how its axes run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from quietbeam.core.errors import InputError

AXES = ("detector", "line", "row", "col", "channel", "point", "-")
"""Names for ``axes``; ``-`` is an axis of length 1."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ENERGY = re.compile(rf"(?P<offset>{_NUMBER})\s*,\s*(?P<width>{_NUMBER})\s*(?P<unit>eV|keV)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadChoice:
    """What to read of a file, where it leaves a choice; every field may be left empty.

    Attributes
    ----------
    scan
        Number of a scan in a file of several, ``3`` or ``3.1``.
    entry
        Group of an HDF5 or zarr file in which to look.
    dataset
        Array of counts or spectra; several, one for each detector, with commas.
    axes
        Names of the array's axes, of :data:`AXES`.
    shape
        (row, col) of points that come one after the other.
    snake
        Points of every second row run backwards.
    i0
        Name of the scaler that is I0; ``none``: leave it out.
    energy
        (energy of channel 0, width of a channel) in keV, for all detectors.
    """

    scan: str = ""
    entry: str = ""
    dataset: str = ""
    axes: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None
    snake: bool | None = None
    i0: str = ""
    energy: tuple[float, float] | None = None

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the chosen arrays."""
        return tuple(name.strip() for name in self.dataset.split(",") if name.strip())

    def refuse_others(self, path: Path, kind: str, *usable: str) -> None:
        """Raise when something was chosen that this kind of file does not leave open.

        Raises
        ------
        InputError
            The message names the option.
        """
        for field in fields(self):
            if field.name not in usable and getattr(self, field.name) not in ("", (), None):
                able = " ".join(f"--{name}" for name in usable) or "none of these options"
                works = command_line(path, *(self.options(*usable) if usable else ()))
                raise InputError(
                    f"{path} is {kind}: --{field.name} has no use here (of use: {able})",
                    remedy=f"leave it out, as in: {works}",
                )

    def options(self, *names: str) -> list[str]:
        """Return what was chosen as options of the command line; of the named fields only, where names are given."""
        found = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value in ("", (), None) or (names and field.name not in names):
                continue
            if field.name == "snake":
                found.append("--snake" if value else "--no-snake")
                continue
            separator = "x" if field.name == "shape" else ","
            text = value if isinstance(value, str) else separator.join(_written(part) for part in value)
            found.append(f"--{field.name} {shlex.quote(text)}")
        return found


def _written(part: str | float) -> str:
    return part if isinstance(part, str) else f"{part:g}"


def parse_choice(
    *,
    scan: str = "",
    entry: str = "",
    dataset: str = "",
    axes: str = "",
    shape: str = "",
    snake: bool | None = None,
    i0: str = "",
    energy: str = "",
) -> ReadChoice:
    """Return the choice that options of the command line make.

    Parameters
    ----------
    axes
        ``detector,line,row,col``.
    shape
        ``6x8``: rows x columns.
    energy
        ``0,0.01``: keV of channel 0 and per channel; ``0,10eV`` in eV.

    Raises
    ------
    InputError
        An option cannot be understood; the message shows how it is written.
    """
    names = tuple(name.strip().lower() for name in axes.split(",") if name.strip())
    return ReadChoice(
        scan=scan,
        entry=entry,
        dataset=dataset,
        axes=_checked_axes(names),
        shape=_shape(shape),
        snake=snake,
        i0=i0,
        energy=_energy(energy),
    )


def _checked_axes(names: tuple[str, ...]) -> tuple[str, ...]:
    named = [name for name in names if name != "-"]
    if any(name not in AXES for name in named) or len(set(named)) < len(named):
        raise InputError(f"--axes {','.join(names)}: name every axis once, of {', '.join(AXES)}, as in row,col,channel")
    return names


def _shape(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*[xX×,]\s*(\d+)\s*", text)
    if not match or "0" in (match[1], match[2]):
        raise InputError(f"--shape {text}: write rows x columns, as --shape 6x8")
    return int(match[1]), int(match[2])


def _energy(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    match = _ENERGY.fullmatch(text.strip())
    if not match:
        raise InputError(f"--energy {text}: write keV of channel 0 and per channel, as --energy 0,0.01 (or 0,10eV)")
    scale = 1e-3 if (match["unit"] or "").lower() == "ev" else 1.0
    return scale * float(match["offset"]), scale * float(match["width"])


def command_line(path: Path | str, *options: str) -> str:
    """Return the command that would read a file, for an error message."""
    return " ".join(["quietbeam denoise", shlex.quote(str(path)), "-o OUT.h5", *options])
