"""Encoders: data keys with measured positions that are not those of the plan's motors, such as ``zebra_pos1_enc``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .motors import Motors, with_units
from .sections import AxisPosition, Dataset, EncodersSection

_ENCODER = re.compile(r"(?:^|[_\W])(?:in)?enc(?:oder)?s?\d*(?:$|[_\W])", re.IGNORECASE)
_READBACK = re.compile(r"(?:^|[_\W])readbacks?(?:$|[_\W])", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


def positions_of(
    motors: Motors, section: EncodersSection | None, data_keys: Mapping[str, Mapping[str, Any]], units: str
) -> Motors:
    """Return where the positions are: in the motors' own keys, in those that the profile names, or in keys of encoders.

    Parameters
    ----------
    motors
        As the plan names them, with their data keys where they have some.
    section
        Encoders in the beamline profile; None: keys are found by their names.
    units
        Of the geometry, in which the profile's encoders are.
    """
    if section is not None and not section.used:
        return motors if motors.keys else Motors(names=motors.names)
    named = _named(section, data_keys) if section is not None else {}
    if named:
        return _of(motors, named, units=units, scale=(_scale(named.get("slow")), _scale(named.get("fast"))))
    if motors.keys:
        external = {
            key: Dataset(data_key=key, axes=("frame",)) for key in motors.keys if key and _is_streamed(data_keys[key])
        }
        no_unit = not motors.units and any(_ENCODER.search(key) for key in motors.keys)
        return replace(motors, datasets=external, order_only=no_unit)
    return _by_name(motors, data_keys)


def _named(section: EncodersSection, data_keys: Mapping[str, Mapping[str, Any]]) -> dict[str, AxisPosition]:
    """Return the encoders of the profile, by axis, that the run has; none without that of the fast axis."""
    axes = {"slow": section.slow, "fast": section.fast}
    found = {axis: entry for axis, entry in axes.items() if entry is not None and entry.data_key in data_keys}
    return found if "fast" in found else {}


def _scale(entry: AxisPosition | None) -> float:
    return entry.scale if entry is not None else 1.0


def _of(motors: Motors, named: Mapping[str, AxisPosition], *, units: str, scale: tuple[float, float]) -> Motors:
    slow, fast = named.get("slow"), named["fast"]
    own = motors.keys[0] if motors.keys and slow is None else ""  # the slow motor stands in Events, the fast one flies
    datasets = {entry.data_key: entry.dataset for entry in named.values() if entry.dataset is not None}
    return replace(
        motors,
        keys=(slow.data_key if slow is not None else own, fast.data_key),
        units=units if slow is not None or not own else motors.units,
        scale=scale if slow is not None or not own else (motors.scale[0], scale[1]),
        datasets=datasets,
        encoders=True,
        order_only=slow is None,
    )


def _by_name(motors: Motors, data_keys: Mapping[str, Mapping[str, Any]]) -> Motors:
    """Return the encoders whose names fit the motors (``x_readback`` for ``sample_x``), else two that are numbered."""
    keys = [
        key for key in data_keys if (_ENCODER.search(key) or _READBACK.search(key)) and _is_one_value(data_keys[key])
    ]
    if motors.names and (matched := _matched(motors.names, keys)):
        return _found(motors, matched, data_keys, guessed=False)
    numbered = sorted((key for key in keys if _ENCODER.search(key)), key=_numbers)
    if len(numbered) == 2 and _numbers(numbered[0]) != _numbers(numbered[1]):
        return _found(motors, (numbered[1], numbered[0]), data_keys, guessed=True)
    if len(numbered) > 2:
        note = (
            f"the order of the pixels is not checked: which of the encoders {', '.join(numbered[:6])} belong to the "
            "axes must be said in geometry.encoders of the profile"
        )
        return replace(motors, notes=(*motors.notes, note))
    return motors


def _matched(names: tuple[str, str], keys: list[str]) -> tuple[str, str] | tuple[()]:
    """Return the keys that name the slow ('' for none) and the fast motor, or its axis; () without the fast one."""
    found = []
    for name in names:
        words = _words(name)
        fitting = [key for key in keys if name and (words <= _words(key) or {_last(name)} <= _words(key))]
        found.append(fitting[0] if len(fitting) == 1 else "")
    return (found[0], found[1]) if found[1] and found[0] != found[1] else ()


def _found(
    motors: Motors, keys: tuple[str, str], data_keys: Mapping[str, Mapping[str, Any]], *, guessed: bool
) -> Motors:
    streamed = {key: Dataset(data_key=key, axes=("frame",)) for key in keys if key and _is_streamed(data_keys[key])}
    if keys[0] and not guessed:
        known = with_units(motors.names, keys, data_keys)
        return replace(known, datasets=streamed, encoders=True, order_only=not known.units)
    return replace(motors, keys=keys, datasets=streamed, encoders=True, guessed=guessed, order_only=True)


def _words(text: str) -> set[str]:
    return {word for word in re.split(r"[_\W]+", text.lower()) if word}


def _last(name: str) -> str:
    return re.split(r"[_\W]+", name.lower())[-1]


def _numbers(key: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _NUMBER.findall(key))


def _is_one_value(entry: Mapping[str, Any]) -> bool:
    """Return whether a data key has one number per frame, in Events or in a streamed file (not behind a datum)."""
    here = _is_streamed(entry) or not entry.get("external")
    return here and entry.get("dtype") in ("number", "integer", "array") and len(entry.get("shape") or ()) <= 1


def _is_streamed(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("external", "")).upper() == "STREAM:"
