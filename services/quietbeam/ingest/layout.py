"""What a descriptor holds, as a profile reads it: lines, detectors, and where their counts are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from quietbeam.core.errors import ProfileError

from .documents import Descriptor, Start
from .geometry import Geometry, geometry_of
from .profile import MISSING, Dataset, Profile, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the counts of one run are found and where they go.

    Attributes
    ----------
    keys
        Event keys of the counts, in C order of (detector, line); empty when counts come from a file.
    i0_key, live_time_keys
        Event keys of I0 and of each detector's live time; '' and () when there are none.
    datasets
        Announced arrays by data key, each with its role: ``counts``, ``i0`` or ``live_time_s``.
    """

    profile: Profile
    geometry: Geometry
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    keys: tuple[str, ...] = ()
    i0_key: str = ""
    live_time_keys: tuple[str, ...] = ()
    datasets: Mapping[str, tuple[str, Dataset]] = field(default_factory=dict)

    @property
    def has_i0(self) -> bool:
        """True when the run brings I0."""
        return bool(self.i0_key) or any(role == "i0" for role, _ in self.datasets.values())

    @property
    def has_live_time(self) -> bool:
        """True when the run brings live times."""
        return bool(self.live_time_keys) or any(role == "live_time_s" for role, _ in self.datasets.values())


def choose(profiles: Sequence[Profile], start: Start) -> list[tuple[Profile, Geometry]]:
    """Return the profiles that fit a start document, each with the geometry it reads there.

    Raises
    ------
    ProfileError
        None fits; the message says why for each, and what to do.
    """
    found: list[tuple[Profile, Geometry]] = []
    reasons: list[str] = []
    for profile in profiles:
        mismatch = profile.mismatch(start.doc)
        if mismatch:
            reasons.append(f"profile {profile.name!r} is for other runs ({mismatch})")
            continue
        try:
            found.append((profile, geometry_of(profile, start.doc)))
        except ProfileError as error:
            reasons.append(str(error))
    if not found:
        raise ProfileError(f"run {start.run} is no map: {' | '.join(reasons) or 'no profile is configured'}")
    return found


def layout_of(candidates: Sequence[tuple[Profile, Geometry]], start: Start, descriptor: Descriptor) -> Layout:
    """Return the layout by the first profile that finds counts in the descriptor.

    Raises
    ------
    ProfileError
        No profile finds counts; the message names pattern, stream and the keys that are there.
    """
    reasons: list[str] = []
    for profile, geometry in candidates:
        try:
            return _layout(profile, geometry, start, descriptor)
        except ProfileError as error:
            reasons.append(str(error))
    raise ProfileError(f"run {start.run}: {' | '.join(reasons)}")


def _layout(profile: Profile, geometry: Geometry, start: Start, descriptor: Descriptor) -> Layout:
    if profile.stream != descriptor.stream:
        raise ProfileError(
            f"profile {profile.name!r} reads stream {profile.stream!r}, this is {descriptor.stream!r}; "
            "set `stream` of the profile"
        )
    if profile.counts.dataset is not None and profile.counts.dataset.data_key in descriptor.data_keys:
        return _dataset_layout(profile, profile.counts.dataset, geometry, start, descriptor)
    keys = list(descriptor.data_keys)
    detectors, lines, table = _match_keys(profile, keys)
    there = set(keys)
    i0_key = (profile.i0.key or "") if profile.i0 is not None else ""
    live_keys: tuple[str, ...] = ()
    if profile.live_time_s is not None:
        by_detector = _first_matches(profile.live_time_s.keys, keys)
        if set(detectors) <= set(by_detector):
            live_keys = tuple(by_detector[name] for name in detectors)
    return Layout(
        profile=profile,
        geometry=geometry,
        lines=lines,
        detectors=detectors,
        keys=tuple(table[detector, line] for detector in detectors for line in lines),
        i0_key=i0_key if i0_key in there else "",
        live_time_keys=live_keys,
    )


def _first_matches(patterns: Iterable[str], keys: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in keys:
        for pattern in patterns:
            match = re.search(pattern, key)
            if match:
                found.setdefault(match["detector"], key)
    return found


def _match_keys(
    profile: Profile, keys: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[tuple[str, str], str]]:
    table: dict[tuple[str, str], str] = {}
    for key in keys:
        for pattern in profile.counts.keys:
            match = re.search(pattern, key)
            if not match:
                continue
            cell = match["detector"], profile.line_name(match["line"])
            if cell in table:
                raise ProfileError(
                    f"profile {profile.name!r}: keys {table[cell]!r} and {key!r} are both {cell[0]} {cell[1]}; "
                    "make counts.keys narrower"
                )
            table[cell] = key
            break
    if not table:
        shown = ", ".join(sorted(keys)[:40]) + (" ..." if len(keys) > 40 else "")
        raise ProfileError(
            f"profile {profile.name!r} finds no counts: no key matches {' or '.join(profile.counts.keys)}; "
            f"keys there are: {shown or 'none'}; correct counts.keys of the profile"
        )
    detectors = tuple(dict.fromkeys(detector for detector, _ in table))
    lines = tuple(dict.fromkeys(line for _, line in table))
    missing = [f"{d} {line}" for d in detectors for line in lines if (d, line) not in table]
    if missing:
        raise ProfileError(
            f"profile {profile.name!r}: every detector needs every line, but {', '.join(missing[:20])} "
            "is missing; configure the same regions on all detectors or make counts.keys narrower"
        )
    return detectors, lines, table


def _dataset_layout(
    profile: Profile, dataset: Dataset, geometry: Geometry, start: Start, descriptor: Descriptor
) -> Layout:
    assert dataset.detectors is not None and dataset.lines is not None
    detectors = _names(profile, "detectors", dataset.detectors, start, descriptor)
    lines = tuple(profile.line_name(n) for n in _names(profile, "lines", dataset.lines, start, descriptor))
    datasets: dict[str, tuple[str, Dataset]] = {dataset.data_key: ("counts", dataset)}
    for role, section in (("i0", profile.i0), ("live_time_s", profile.live_time_s)):
        extra = section.dataset if section is not None else None
        if extra is not None and extra.data_key in descriptor.data_keys:
            datasets[extra.data_key] = (role, extra)
    return Layout(profile=profile, geometry=geometry, lines=lines, detectors=detectors, datasets=datasets)


def _names(profile: Profile, what: str, source: Source, start: Start, descriptor: Descriptor) -> tuple[str, ...]:
    value = source.value(start.doc, descriptor.configuration)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if value is MISSING or not isinstance(value, list | tuple) or not value or len(set(map(str, value))) != len(value):
        there = ", ".join(sorted(map(str, descriptor.configuration))[:40])
        raise ProfileError(
            f"profile {profile.name!r}: counts.dataset.{what} wants a list of distinct names in {source.describe()}, "
            f"there is {'nothing' if value is MISSING else str(value)[:80]}; configuration has: {there or 'nothing'}"
        )
    return tuple(str(name) for name in value)
