"""Which data keys of a descriptor hold the counts of which detector and line, and the live times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from quietbeam.core.errors import ProfileError

from ..documents.model import Descriptor
from .resolve import ResolvedProfile
from .schema import BeamlineProfile
from .sections import Dataset
from .source import MISSING, Setting

MAX_DETECTORS = 4096


def match_detectors(patterns: Iterable[str], keys: Iterable[str]) -> dict[str, str]:
    """Return the first matching key of each detector."""
    found: dict[str, str] = {}
    for key in keys:
        for pattern in patterns:
            match = re.search(pattern, key)
            if match:
                found.setdefault(match["detector"], key)
    return found


def match_detectors_and_lines(profile: BeamlineProfile, keys: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the key of every (detector, line), in the order of `keys`.

    Raises
    ------
    ProfileError
        No key matches, two keys are the same detector and line, or a detector lacks a line.
    """
    table: dict[tuple[str, str], str] = {}
    for key in keys:
        match = next(filter(None, (re.search(pattern, key) for pattern in profile.counts.keys)), None)
        if match is None:
            continue
        detector, line = match["detector"], profile.line_name(match["line"])
        if (detector, line) in table:
            raise ProfileError(
                f"profile {profile.name!r}: keys {table[detector, line]!r} and {key!r} are both {detector} {line}; "
                "make counts.keys narrower"
            )
        table[detector, line] = key
    if not table:
        raise no_counts(profile, keys)
    detectors = dict.fromkeys(detector for detector, _ in table)
    lines = dict.fromkeys(line for _, line in table)
    missing = [f"{d} {line}" for d in detectors for line in lines if (d, line) not in table]
    if missing:
        raise ProfileError(
            f"profile {profile.name!r}: every detector needs every line, but {', '.join(missing[:20])} "
            "is missing; configure the same regions on all detectors or make counts.keys narrower"
        )
    return table


def no_counts(profile: BeamlineProfile, keys: Iterable[str]) -> ProfileError:
    """Return the error for a descriptor without counts."""
    names = sorted(keys)
    shown = ", ".join(names[:40]) + (" ..." if len(names) > 40 else "")
    dataset = profile.counts.dataset
    wanted = [f"no key matches {' or '.join(profile.counts.keys)}"] if profile.counts.keys else []
    wanted += [f"there is no data key {dataset.data_key!r}"] if dataset is not None else []
    return ProfileError(
        f"profile {profile.name!r} finds no counts: {' and '.join(wanted)}; "
        f"keys there are: {shown or 'none'}; correct counts.keys of the profile"
    )


def detectors_of_array(resolved: ResolvedProfile, array: Dataset, descriptor: Descriptor) -> tuple[str, ...]:
    """Return the names along the detector axis: from the profile, or ``det1`` ... as many as the array's shape has."""
    if resolved.detectors is not None:
        return names_in(resolved, "counts.dataset.detectors", resolved.detectors, descriptor)
    shape = descriptor.data_keys[array.data_key].get("shape") or ()
    from_end = len(array.axes) - array.axes.index("detector")
    n = shape[-from_end] if len(shape) >= from_end else None
    if not isinstance(n, int) or not 0 < n <= MAX_DETECTORS:
        raise ProfileError(
            f"profile {resolved.name!r}: the shape {list(shape)} of {array.data_key!r} does not say how many "
            f"detectors there are (axes {', '.join(array.axes)}); correct axes, or give counts.dataset.detectors"
        )
    return tuple(f"det{i + 1}" for i in range(n))


def lines_in(resolved: ResolvedProfile, entry: str, setting: Setting, descriptor: Descriptor) -> tuple[str, ...]:
    """Return the lines of a setting, spelled as ``Fe_Ka``."""
    return tuple(map(resolved.profile.line_name, names_in(resolved, entry, setting, descriptor)))


def names_in(resolved: ResolvedProfile, entry: str, setting: Setting, descriptor: Descriptor) -> tuple[str, ...]:
    """Return the distinct names of a setting.

    Raises
    ------
    ProfileError
        No list of distinct names; the message says what the configuration has.
    """
    value = setting.with_configuration(descriptor.configuration)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if isinstance(value, list | tuple) and value and len(set(map(str, value))) == len(value):
        return tuple(map(str, value))
    available = ", ".join(sorted(map(str, descriptor.configuration))[:40])
    raise ProfileError(
        f"profile {resolved.name!r}: {entry} wants a list of distinct names in {setting.origin}, "
        f"there is {'nothing' if value is MISSING else str(value)[:80]}; configuration has: {available or 'nothing'}"
    )


def live_time_keys(
    profile: BeamlineProfile, detectors: Sequence[str], data_keys: Mapping[str, object]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys of each detector's live time and of what it is divided by; both empty when one is missing."""
    section = profile.live_time_s
    if section is None:
        return (), ()
    live = _key_of_each(detectors, match_detectors(section.keys, data_keys))
    over = _key_of_each(detectors, match_detectors(section.over, data_keys))
    if section.over and not (live and over):
        return (), ()
    return live, over


def _key_of_each(detectors: Sequence[str], found: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(found[d] for d in detectors) if all(d in found for d in detectors) else ()
