"""The motors of a map: which data keys hold their measured positions, and in which unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .sections import Dataset

_LENGTHS_M = {"nm": 1e-9, "um": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
_SPELLINGS = {
    "µm": "um", "μm": "um", "micron": "um", "microns": "um", "micrometer": "um", "micrometers": "um",
    "micrometre": "um", "micrometres": "um", "millimeter": "mm", "millimeters": "mm", "millimetre": "mm",
    "nanometer": "nm", "nanometers": "nm", "nanometre": "nm", "degree": "deg", "degrees": "deg",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Motors:
    """Names, data keys and unit of the (slow, fast) axis.

    Attributes
    ----------
    names
        As in the start document; "" for the slow axis of a scan over one motor.
    keys
        Data keys of the measured positions; () where they are not in the descriptor, "" for an axis without a motor or
        without a key, whose positions are the announced ones.
    units
        Unit of the positions; "" when no motor says it.
    scale
        Factors of the (slow, fast) position to `units`.
    notes
        Warnings about the units.
    datasets
        Arrays of the positions in files, by data key.
    encoders
        True when the keys are not those of the motors themselves.
    guessed
        True when the keys were found by their numbers alone: they may belong to other axes.
    order_only
        True when the positions have no unit that is known: they say the order of the pixels, not where these are.
    """

    names: tuple[str, str] | tuple[()] = ()
    keys: tuple[str, str] | tuple[()] = ()
    units: str = ""
    scale: tuple[float, float] = (1.0, 1.0)
    notes: tuple[str, ...] = ()
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    encoders: bool = False
    guessed: bool = False
    order_only: bool = False

    def step_of(self, announced: tuple[float, float] | None, units: str) -> tuple[float, float] | None:
        """Return an announced (row, col) step, in `units`, in the unit of the positions; None where that is unknown."""
        if announced is None or self.order_only:
            return None
        if self.units in ("", units):
            return announced
        if self.units not in _LENGTHS_M or units not in _LENGTHS_M:
            return None
        factor = _LENGTHS_M[units] / _LENGTHS_M[self.units]
        return announced[0] * factor, announced[1] * factor


def motor_names(start: Mapping[str, Any], maps: int) -> tuple[str, str] | tuple[()]:
    """Return the names of the slow and the fast motor, as a plan announces them; () when it does not.

    ``hints.dimensions`` names the axes from the slowest to the fastest; ``motors`` is in the same order in most plans.
    """
    hints = start.get("hints")
    dimensions: Any = hints.get("dimensions") if isinstance(hints, Mapping) else None
    names: list[str] = []
    if isinstance(dimensions, list | tuple):
        for dimension in dimensions:
            fields = dimension[0] if isinstance(dimension, list | tuple) and dimension else ()
            names += [str(fields[0])] if isinstance(fields, list | tuple) and len(fields) == 1 else []
    motors = start.get("motors")
    if len(names) < 2 and isinstance(motors, list | tuple) and not names:
        names = [str(motor) for motor in motors]
    wanted = 2 if maps == 1 else 3
    if len(names) != wanted:
        return ()
    return names[-2], names[-1]


def motors_of(names: tuple[str, str] | tuple[()], data_keys: Mapping[str, Mapping[str, Any]]) -> Motors:
    """Return where a descriptor has the positions of the motors."""
    if not names:
        return Motors()
    if not names[0]:
        key = _position_key(names[1], data_keys)
        return Motors(names=names, keys=("", key), units=_unit(data_keys[key])) if key else Motors(names=names)
    slow, fast = (_position_key(name, data_keys) for name in names)
    if fast and not slow:  # the rows are taken to be where they are announced
        return Motors(names=names, keys=("", fast), encoders=True, order_only=True)
    return Motors(names=names) if not fast or slow == fast else with_units(names, (slow, fast), data_keys)


def with_units(
    names: tuple[str, str] | tuple[()], keys: tuple[str, str], data_keys: Mapping[str, Mapping[str, Any]]
) -> Motors:
    """Return the motors whose positions have these data keys, with the unit of both."""
    units = [_unit(data_keys[key]) for key in keys]
    known = [unit for unit in units if unit]
    target = known[-1] if known else ""
    if not target or all(unit in ("", target) for unit in units):
        return Motors(names=names, keys=keys, units=target)
    if not all(unit in _LENGTHS_M for unit in units):
        note = f"the positions {keys[0]} ({units[0] or '?'}) and {keys[1]} ({units[1] or '?'}) have different units"
        return Motors(names=names, keys=keys, units=" / ".join(unit or "?" for unit in units), notes=(note,))
    scale = _LENGTHS_M[units[0]] / _LENGTHS_M[target], _LENGTHS_M[units[1]] / _LENGTHS_M[target]
    return Motors(names=names, keys=keys, units=target, scale=scale)


def _position_key(name: str, data_keys: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the data key of a motor's measured position, of its setpoint where there is no other, or ''."""
    if name in data_keys:
        return name
    keys = [key for key, entry in data_keys.items() if entry.get("object_name") == name]
    keys = keys or [key for key in data_keys if key.startswith((f"{name}_", f"{name}-"))]
    readbacks = [key for key in keys if key.endswith("readback")]
    others = [key for key in keys if "setpoint" not in key]
    found = readbacks or others or keys
    return found[0] if len(found) == 1 or readbacks else ""


def _unit(entry: Mapping[str, Any]) -> str:
    unit = entry.get("units")
    if isinstance(unit, bytes):
        unit = unit.decode(errors="replace")
    text = unit.strip() if isinstance(unit, str) else ""
    return _SPELLINGS.get(text.lower(), text)
