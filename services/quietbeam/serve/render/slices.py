"""numpy-like ``slice=`` parameters: ``10:20,::2`` or ``5,0:64``."""

from __future__ import annotations

import re

from quietbeam.core.errors import InputError

_PART = re.compile(r"^(-?\d{1,9})?(?::(-?\d{1,9})?(?::(\d{1,9})?)?)?$")
Index = tuple[slice | int, ...]


def parse_slice(text: str, shape: tuple[int, ...], axes: tuple[str, ...]) -> Index:
    """Return an index for an array of `shape`.

    Parameters
    ----------
    text
        One part per axis, from the first; missing axes are taken whole.
    axes
        Names of the axes, for messages.

    Raises
    ------
    InputError
        Not a slice, too many axes, an index outside, or nothing selected.
    """
    if not text.strip():
        return (slice(None),) * len(shape)
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    if len(parts) > len(shape):
        raise InputError(
            f"slice={text[:80]!r} has {len(parts)} parts, the map has {len(shape)} axes: {', '.join(axes)}"
        )
    index: list[slice | int] = []
    for part, size, axis in zip(parts, shape, axes, strict=False):
        index.append(_parse_part(part.strip(), size, axis))
    return tuple(index) + (slice(None),) * (len(shape) - len(index))


def _parse_part(part: str, size: int, axis: str) -> slice | int:
    match = _PART.match(part)
    if not match or not part:
        raise InputError(f"{part[:40]!r} is no slice of the {axis} axis; write START:STOP:STEP or one index, as 10:20")
    start, stop, step = (None if group is None else int(group) for group in match.groups())
    if ":" not in part:
        assert start is not None
        if not -size <= start < size:
            raise InputError(f"{axis} {start} is outside the map, which has {size}")
        return start
    if step == 0:
        raise InputError(f"{part!r}: the step of a slice must be at least 1")
    chosen = slice(start, stop, step)
    if not len(range(*chosen.indices(size))):
        raise InputError(f"{part!r} selects nothing of the {axis} axis, which has {size}")
    return chosen
