"""What a descriptor holds, as a profile reads it: lines, detectors, and where their counts are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import InputError, ProfileError
from quietbeam.spectra import line_energy, overlaps, scatter_begins
from quietbeam.spectra.fit import LinearFit

from ..documents.model import Descriptor, Start
from .geometry import Geometry, geometry_of
from .schema import MISSING, Dataset, Profile, Source, SpectraSection


@dataclass(slots=True)
class SpectrumSums:
    """The sum spectra (detector, channel) of what came so far; None before the first."""

    counts: npt.NDArray[np.float64] | None = None
    judged: bool = False

    def add(self, spectra: npt.NDArray[Any]) -> None:
        """Add (frame, detector, channel)."""
        total = spectra.sum(axis=0, dtype=np.float64)
        if self.counts is None or self.counts.shape != total.shape:
            self.counts = np.zeros(total.shape)
        self.counts += total


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """How lines are cut out of spectra.

    Attributes
    ----------
    calibration
        (detector, 2) keV of channel 0, keV per channel.
    below_kev
        Where the scattered beam begins; infinity where its energy is not known.
    windows, fits
        (first, stop) channel by detector and line, and the fit, by number of channels, once they were needed.
    """

    calibration: npt.NDArray[np.float64]
    sums: SpectrumSums
    method: Literal["windows", "fit"] = "windows"
    below_kev: float = np.inf
    windows: dict[int, list[list[tuple[int, int]]]] = field(default_factory=dict)
    fits: dict[int, LinearFit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the counts of one run are found and where they go.

    Attributes
    ----------
    keys
        Event keys of the counts, in C order of (detector, line), or one per detector with `spectra`; empty when one
        array (`datasets`) has them all.
    i0_key, live_time_keys, input_rate_keys, position_keys
        Event keys of I0, of each detector's live time (or output rate, with its input rate), of the (slow, fast)
        position; empty when there are none.
    datasets
        Arrays with several detectors by data key, each with its role: ``counts``, ``i0``, ``live_time_s``, ``slow`` or
        ``fast``.
    per_index
        Frames per index of a stream datum, by data key, where it is not 1.
    external
        Event keys whose values are datum ids.
    notes
        Sentences on what is odd about the lines.
    """

    profile: Profile
    geometry: Geometry
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    keys: tuple[str, ...] = ()
    i0_key: str = ""
    live_time_keys: tuple[str, ...] = ()
    input_rate_keys: tuple[str, ...] = ()
    position_keys: tuple[str, str] | tuple[()] = ()
    datasets: Mapping[str, tuple[str, Dataset]] = field(default_factory=dict)
    per_index: Mapping[str, int] = field(default_factory=dict)
    spectra: Spectra | None = None
    external: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def has_i0(self) -> bool:
        """True when the run brings I0."""
        return bool(self.i0_key) or any(role == "i0" for role, _ in self.datasets.values())

    @property
    def has_live_time(self) -> bool:
        """True when the run brings live times."""
        return bool(self.live_time_keys) or any(role == "live_time_s" for role, _ in self.datasets.values())

    @property
    def array_key(self) -> str:
        """Data key of the array with all counts, or ''."""
        return next((key for key, (role, _) in self.datasets.items() if role == "counts"), "")

    @property
    def event_keys(self) -> tuple[str, ...]:
        """Everything that is looked for in Events."""
        scalars = (*self.live_time_keys, *self.input_rate_keys, *self.position_keys)
        return (*self.keys, *filter(None, (self.i0_key,)), *scalars, *self.datasets)


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
    if not profile.reads(descriptor.stream):
        raise ProfileError(
            f"profile {profile.name!r} reads stream {profile.stream!r}, this is {descriptor.stream!r}; "
            "set `stream` of the profile"
        )
    there, datasets = descriptor.data_keys, _datasets(profile, descriptor)
    array = profile.counts.dataset if profile.counts.dataset and profile.counts.dataset.data_key in there else None
    table: dict[tuple[str, str], str] = {}
    if array is not None:
        detectors = _detectors(profile, array, start, descriptor)
    elif profile.counts.spectra is not None:
        found = _first_matches(profile.counts.keys, there)
        if not found:
            raise _no_counts(profile, list(there))
        detectors, table = tuple(found), {(detector, ""): key for detector, key in found.items()}
    else:
        detectors, lines, table = _match_keys(profile, list(there))
    notes: tuple[str, ...] = ()
    if profile.counts.spectra is not None:
        lines = _lines(profile, "counts.spectra.lines", profile.counts.spectra.lines, start, descriptor)
        lines, notes = _possible(profile, profile.counts.spectra, lines, start, descriptor)
    elif array is not None:
        assert array.lines is not None
        lines = _lines(profile, "counts.dataset.lines", array.lines, start, descriptor)
    i0_key = (profile.i0.key or "") if profile.i0 is not None else ""
    live_keys, input_keys = (
        tuple(found[d] for d in detectors) if set(detectors) <= set(found) else ()
        for found in (_first_matches(patterns, there) for patterns in _live_patterns(profile))
    )
    spectra = profile.counts.spectra
    return Layout(
        profile=profile,
        geometry=geometry,
        lines=lines,
        detectors=detectors,
        keys=tuple(table[d, line] for d in detectors for line in ([""] if spectra else lines)) if table else (),
        i0_key=i0_key if i0_key in there else "",
        live_time_keys=live_keys if input_keys or not _live_patterns(profile)[1] else (),
        input_rate_keys=input_keys if live_keys else (),
        position_keys=_position_keys(profile, descriptor),
        datasets=datasets,
        per_index=_per_index(datasets, descriptor, len(detectors)),
        notes=notes,
        external=frozenset(
            key for key, entry in there.items() if str(entry.get("external", "STREAM:")).upper() != "STREAM:"
        ),
        spectra=_spectra(profile, spectra, len(detectors), start, descriptor) if spectra is not None else None,
    )


def _live_patterns(profile: Profile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    section = profile.live_time_s
    return (section.keys, section.over) if section is not None else ((), ())


def _datasets(profile: Profile, descriptor: Descriptor) -> dict[str, tuple[str, Dataset]]:
    positions = profile.geometry.positions
    roles = (
        ("counts", profile.counts),
        ("i0", profile.i0),
        ("live_time_s", profile.live_time_s),
        ("slow", positions.slow if positions is not None else None),
        ("fast", positions.fast if positions is not None else None),
    )
    return {
        section.dataset.data_key: (role, section.dataset)
        for role, section in roles
        if section is not None and section.dataset is not None and section.dataset.data_key in descriptor.data_keys
    }


def _per_index(datasets: Mapping[str, tuple[str, Dataset]], descriptor: Descriptor, n_det: int) -> dict[str, int]:
    """Return how many frames an index stands for: a data key of shape (n, ...) with n > 1 holds a row per index."""
    found: dict[str, int] = {}
    for key, (_, dataset) in datasets.items():
        shape: Any = descriptor.data_keys[key].get("shape") or ()
        axes = dataset.axes
        if axes[0] != "frame" or len(shape) != len(axes) or not isinstance(shape[0], int) or shape[0] < 2:
            continue
        if "detector" not in axes or shape[axes.index("detector")] == n_det:
            found[key] = shape[0]
    return found


def _position_keys(profile: Profile, descriptor: Descriptor) -> tuple[str, str] | tuple[()]:
    positions = profile.geometry.positions
    if positions is None:
        return ()
    keys: list[str] = []
    for axis, where in (("slow", positions.slow), ("fast", positions.fast)):
        key = where.key or (where.dataset.data_key if where.dataset is not None else "")
        if key not in descriptor.data_keys:
            shown = ", ".join(sorted(descriptor.data_keys)[:40])
            raise ProfileError(
                f"profile {profile.name!r}: geometry.positions.{axis} wants data key {key!r}; keys there are: {shown}"
            )
        keys.append(key)
    return (keys[0], keys[1]) if positions.slow.key is not None and positions.fast.key is not None else ()


def _spectra(
    profile: Profile, section: SpectraSection, detectors: int, start: Start, descriptor: Descriptor
) -> Spectra:
    value = section.calibration.value(start.doc, descriptor.configuration)
    where = section.calibration.describe()
    try:
        pairs = np.atleast_2d(np.asarray(value, dtype=np.float64))
        pairs = np.broadcast_to(pairs, (detectors, 2))
    except (ValueError, TypeError) as error:
        raise ProfileError(
            f"profile {profile.name!r}: counts.spectra.calibration wants [keV of channel 0, keV per channel], one pair "
            f"or one for each of {detectors} detectors, in {where}; there is "
            f"{'nothing' if value is MISSING else str(value)[:80]}"
        ) from error
    if not np.isfinite(pairs).all() or (pairs[:, 1] <= 0).any() or (pairs[:, 1] > 1).any():
        raise ProfileError(
            f"profile {profile.name!r}: counts.spectra.calibration says {pairs[:, 1].max():g} keV per channel; "
            "it must be above 0 and at most 1 (0.01 means 10 eV per channel)"
        )
    beam = _beam_kev(section, start, descriptor)
    return Spectra(
        calibration=np.array(pairs), sums=SpectrumSums(), method=section.method, below_kev=scatter_begins(beam)
    )


def _possible(
    profile: Profile, section: SpectraSection, lines: tuple[str, ...], start: Start, descriptor: Descriptor
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the lines that the beam can excite, and sentences on the others and on overlapping windows."""
    beam = _beam_kev(section, start, descriptor)
    try:
        energies = {line: line_energy(line) for line in lines}
    except InputError as error:
        raise ProfileError(f"profile {profile.name!r}: counts.spectra.lines: {error}") from error
    notes = [
        f"{line} ({energies[line]:.2f} keV) lies above the incident energy of {beam:g} keV and is left out"
        for line in lines
        if energies[line] >= beam
    ]
    kept = tuple(line for line in lines if energies[line] < beam)
    if not kept:
        raise ProfileError(f"profile {profile.name!r}: {'; '.join(notes)}; no line is left")
    if section.method == "fit":
        return kept, tuple(notes)
    return kept, (*notes, *(f"the window of {one} holds peak of {other}" for one, other in overlaps(kept)))


def _beam_kev(section: SpectraSection, start: Start, descriptor: Descriptor) -> float:
    energy: Any = MISSING
    if section.incident_energy_kev is not None:
        energy = section.incident_energy_kev.value(start.doc, descriptor.configuration)
    return float(energy) if isinstance(energy, int | float) and not isinstance(energy, bool) and energy > 0 else np.inf


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
        raise _no_counts(profile, keys)
    detectors = tuple(dict.fromkeys(detector for detector, _ in table))
    lines = tuple(dict.fromkeys(line for _, line in table))
    missing = [f"{d} {line}" for d in detectors for line in lines if (d, line) not in table]
    if missing:
        raise ProfileError(
            f"profile {profile.name!r}: every detector needs every line, but {', '.join(missing[:20])} "
            "is missing; configure the same regions on all detectors or make counts.keys narrower"
        )
    return detectors, lines, table


def _no_counts(profile: Profile, keys: Sequence[str]) -> ProfileError:
    shown = ", ".join(sorted(keys)[:40]) + (" ..." if len(keys) > 40 else "")
    dataset = profile.counts.dataset
    wanted = [f"no key matches {' or '.join(profile.counts.keys)}"] if profile.counts.keys else []
    wanted += [f"there is no data key {dataset.data_key!r}"] if dataset is not None else []
    return ProfileError(
        f"profile {profile.name!r} finds no counts: {' and '.join(wanted)}; "
        f"keys there are: {shown or 'none'}; correct counts.keys of the profile"
    )


def _detectors(profile: Profile, dataset: Dataset, start: Start, descriptor: Descriptor) -> tuple[str, ...]:
    """Return the names along the detector axis: as the profile says, else det1 ... as many as the shape has."""
    if dataset.detectors is not None:
        return _names(profile, "counts.dataset.detectors", dataset.detectors, start, descriptor)
    shape = descriptor.data_keys[dataset.data_key].get("shape") or ()
    from_end = len(dataset.axes) - dataset.axes.index("detector")
    n = shape[-from_end] if len(shape) >= from_end else None
    if not isinstance(n, int) or not 0 < n <= 4096:
        raise ProfileError(
            f"profile {profile.name!r}: the shape {list(shape)} of {dataset.data_key!r} does not say how many "
            f"detectors there are (axes {', '.join(dataset.axes)}); correct axes, or give counts.dataset.detectors"
        )
    return tuple(f"det{i + 1}" for i in range(n))


def _lines(profile: Profile, what: str, source: Source, start: Start, descriptor: Descriptor) -> tuple[str, ...]:
    return tuple(profile.line_name(name) for name in _names(profile, what, source, start, descriptor))


def _names(profile: Profile, what: str, source: Source, start: Start, descriptor: Descriptor) -> tuple[str, ...]:
    value = source.value(start.doc, descriptor.configuration)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if value is MISSING or not isinstance(value, list | tuple) or not value or len(set(map(str, value))) != len(value):
        there = ", ".join(sorted(map(str, descriptor.configuration))[:40])
        raise ProfileError(
            f"profile {profile.name!r}: {what} wants a list of distinct names in {source.describe()}, "
            f"there is {'nothing' if value is MISSING else str(value)[:80]}; configuration has: {there or 'nothing'}"
        )
    return tuple(str(name) for name in value)
