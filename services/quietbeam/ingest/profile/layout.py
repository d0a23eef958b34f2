"""Layout of a run: its lines and detectors, and where their counts are in Events and files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from quietbeam.core.errors import ProfileError
from quietbeam.core.model.evidence import CountKind

from ..documents.model import Descriptor
from .data_keys import (
    detectors_of_array,
    lines_in,
    live_time_keys,
    match_detectors,
    match_detectors_and_lines,
    no_counts,
)
from .encoders import positions_of
from .geometry import Geometry
from .live_time import LiveTimeUnit
from .motors import Motors, motors_of
from .resolve import ResolvedProfile
from .schema import BeamlineProfile
from .sections import Dataset, IndexSection, LiveTimeSection
from .spectra_layout import Spectra, beam_energy_kev, excited_lines, spectra_of


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the counts of one run are found and how they are converted; what Events need of the beamline profile.

    Attributes
    ----------
    profile_name, profile_description
        Of the beamline profile.
    stream_pattern
        Matches the names of the streams with counts.
    detector_positions
        (x, y) of each detector where the profile has it.
    keys
        Event keys of the counts, in C order of (detector, line), or one per detector with `spectra`; empty when one
        array (`datasets`) has them all.
    i0_key, live_time_keys, input_rate_keys, position_keys
        Event keys of I0, of each detector's live time (or output rate, with its input rate), of the (slow, fast)
        position; empty when there are none.
    live_time_unit
        Of the values of `live_time_keys`, or of their quotient with `input_rate_keys`.
    position_scale
        Factors of the (slow, fast) position to the units of the geometry.
    motors
        Names, data keys and units of the (slow, fast) motor.
    datasets
        Arrays with several detectors by data key, each with its role: ``counts``, ``i0``, ``live_time_s``, ``slow`` or
        ``fast``.
    per_index
        Frames per index of a stream datum, by data key, where it is not 1.
    index
        The keys that give the pixel, when every key of the counts has a stream of its own.
    external
        Event keys whose values are datum ids.
    notes
        Warnings about the lines.
    """

    profile_name: str
    profile_description: str = ""
    kind: CountKind = "counts"
    stream_pattern: re.Pattern[str]
    geometry: Geometry
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    detector_positions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    i0_key: str = ""
    live_time_keys: tuple[str, ...] = ()
    input_rate_keys: tuple[str, ...] = ()
    live_time_unit: LiveTimeUnit = field(default_factory=LiveTimeUnit)
    position_keys: tuple[str, str] | tuple[()] = ()
    position_scale: tuple[float, float] = (1.0, 1.0)
    motors: Motors = field(default_factory=Motors)
    datasets: Mapping[str, tuple[str, Dataset]] = field(default_factory=dict)
    per_index: Mapping[str, int] = field(default_factory=dict)
    spectra: Spectra | None = None
    index: IndexSection | None = None
    external: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def reads(self, stream: str) -> bool:
        """Return whether the counts are in a stream of this name."""
        return self.stream_pattern.fullmatch(stream) is not None

    @cached_property
    def roles(self) -> frozenset[str]:
        """Roles of the arrays in `datasets`."""
        return frozenset(role for role, _ in self.datasets.values())

    @property
    def has_i0(self) -> bool:
        """True when the run has I0."""
        return bool(self.i0_key) or "i0" in self.roles

    @property
    def has_live_time(self) -> bool:
        """True when the run has live times."""
        return bool(self.live_time_keys) or "live_time_s" in self.roles

    @cached_property
    def reading_keys(self) -> tuple[str, str]:
        """Event keys of the (slow, fast) positions that check the order; "" for one without or in a file."""
        slow, fast = self.motors.keys or ("", "")
        return "" if slow in self.motors.datasets else slow, "" if fast in self.motors.datasets else fast

    @cached_property
    def reading_roles(self) -> frozenset[str]:
        """Roles of measured positions that check the order, in Events or in files."""
        return frozenset(role for role, key in zip(("slow", "fast"), self.motors.keys, strict=False) if key)

    @cached_property
    def array_key(self) -> str:
        """Data key of the array with all counts, or ''."""
        return next((key for key, (role, _) in self.datasets.items() if role == "counts"), "")

    @cached_property
    def event_keys(self) -> tuple[str, ...]:
        """All keys that are read from Events."""
        i0 = (self.i0_key,) if self.i0_key else ()
        return (*self.keys, *i0, *self.live_time_keys, *self.input_rate_keys, *self.position_keys, *self.datasets)


def layout_of(candidates: Sequence[ResolvedProfile], descriptor: Descriptor) -> Layout:
    """Return the layout by the first profile that finds counts in the descriptor.

    Raises
    ------
    ProfileError
        No profile finds counts; the message names pattern, stream and the keys of the descriptor.
    """
    reasons: list[str] = []
    for resolved in candidates:
        try:
            return _layout(resolved, descriptor)
        except ProfileError as error:
            reasons.append(str(error))
    raise ProfileError(f"run {descriptor.run}: {' | '.join(reasons)}")


def _layout(resolved: ResolvedProfile, descriptor: Descriptor) -> Layout:
    profile, data_keys = resolved.profile, descriptor.data_keys
    if not resolved.reads(descriptor.stream):
        raise ProfileError(
            f"profile {profile.name!r} reads stream {profile.stream!r}, this is {descriptor.stream!r}; "
            "set `stream` of the profile"
        )
    counts = _counts(resolved, descriptor)
    live_keys, input_keys = live_time_keys(profile, counts.detectors, data_keys)
    i0_key = (profile.i0.key or "") if profile.i0 is not None else ""
    positions = profile.geometry.positions
    datasets = _datasets(profile, descriptor)
    motors = Motors()
    if positions is None:
        motors = motors_of(resolved.motors, data_keys)
        motors = positions_of(motors, profile.geometry.encoders, data_keys, resolved.geometry.units)
        datasets |= {key: (("slow", "fast")[motors.keys.index(key)], d) for key, d in motors.datasets.items()}
    return Layout(
        profile_name=profile.name,
        profile_description=profile.description,
        kind=profile.kind,
        stream_pattern=re.compile(profile.stream),
        geometry=resolved.geometry,
        lines=counts.lines,
        detectors=counts.detectors,
        detector_positions={d: at for d, at in profile.detector_positions.items() if d in counts.detectors},
        keys=counts.keys,
        i0_key=i0_key if i0_key in data_keys else "",
        live_time_keys=live_keys,
        input_rate_keys=input_keys,
        live_time_unit=LiveTimeUnit.of(profile.live_time_s or LiveTimeSection(), resolved.geometry.dwell_s),
        position_keys=_position_keys(profile, descriptor),
        position_scale=(positions.slow.scale, positions.fast.scale) if positions is not None else (1.0, 1.0),
        motors=motors,
        datasets=datasets,
        per_index=_per_index(datasets, descriptor, len(counts.detectors)),
        spectra=counts.spectra,
        index=profile.counts.index,
        external=frozenset(key for key, entry in data_keys.items() if _is_external(entry)),
        notes=(*counts.notes, *motors.notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """Lines and detectors of a run, and the keys of their counts."""

    detectors: tuple[str, ...]
    lines: tuple[str, ...]
    keys: tuple[str, ...] = ()
    spectra: Spectra | None = None
    notes: tuple[str, ...] = ()


def _counts(resolved: ResolvedProfile, descriptor: Descriptor) -> _Counts:
    profile = resolved.profile
    section, data_keys = profile.counts, descriptor.data_keys
    array = section.dataset
    if array is not None and array.data_key not in data_keys:
        array = None
    if section.spectra is not None:
        return _counts_of_spectra(resolved, descriptor, array)
    if array is not None:
        assert resolved.lines is not None
        return _Counts(
            detectors=detectors_of_array(resolved, array, descriptor),
            lines=lines_in(resolved, "counts.dataset.lines", resolved.lines, descriptor),
        )
    table = match_detectors_and_lines(profile, list(data_keys))
    detectors = tuple(dict.fromkeys(detector for detector, _ in table))
    lines = tuple(dict.fromkeys(line for _, line in table))
    return _Counts(detectors=detectors, lines=lines, keys=tuple(table[d, line] for d in detectors for line in lines))


def _counts_of_spectra(resolved: ResolvedProfile, descriptor: Descriptor, array: Dataset | None) -> _Counts:
    keys: tuple[str, ...] = ()
    if array is not None:
        detectors = detectors_of_array(resolved, array, descriptor)
    else:
        found = match_detectors(resolved.profile.counts.keys, descriptor.data_keys)
        if not found:
            raise no_counts(resolved.profile, descriptor.data_keys)
        detectors, keys = tuple(found), tuple(found.values())
    assert resolved.lines is not None
    beam_kev = beam_energy_kev(resolved, descriptor)
    wanted = lines_in(resolved, "counts.spectra.lines", resolved.lines, descriptor)
    lines, notes = excited_lines(resolved, wanted, beam_kev)
    spectra = spectra_of(resolved, len(detectors), descriptor, beam_kev)
    return _Counts(detectors=detectors, lines=lines, keys=keys, spectra=spectra, notes=notes)


def _datasets(profile: BeamlineProfile, descriptor: Descriptor) -> dict[str, tuple[str, Dataset]]:
    positions = profile.geometry.positions
    sections: dict[str, Any] = {"counts": profile.counts, "i0": profile.i0, "live_time_s": profile.live_time_s}
    if positions is not None:
        sections |= {"slow": positions.slow, "fast": positions.fast}
    arrays: dict[str, Dataset | None] = {role: s.dataset for role, s in sections.items() if s is not None}
    return {
        array.data_key: (role, array)
        for role, array in arrays.items()
        if array is not None and array.data_key in descriptor.data_keys
    }


def _per_index(datasets: Mapping[str, tuple[str, Dataset]], descriptor: Descriptor, n_det: int) -> dict[str, int]:
    """Return the frames per index of a stream datum: a data key of shape (n, ...) with n > 1 has n frames each."""
    found: dict[str, int] = {}
    for key, (_, dataset) in datasets.items():
        shape: Any = descriptor.data_keys[key].get("shape") or ()
        axes = dataset.axes
        if axes[0] != "frame" or len(shape) != len(axes) or not isinstance(shape[0], int) or shape[0] < 2:
            continue
        if "detector" not in axes or shape[axes.index("detector")] == n_det:
            found[key] = shape[0]
    return found


def _position_keys(profile: BeamlineProfile, descriptor: Descriptor) -> tuple[str, str] | tuple[()]:
    """Return the Event keys of the (slow, fast) position; () without positions, or where they are in files."""
    positions = profile.geometry.positions
    if positions is None:
        return ()
    for axis, position in (("slow", positions.slow), ("fast", positions.fast)):
        key = position.dataset.data_key if position.dataset is not None else position.key
        if key not in descriptor.data_keys:
            shown = ", ".join(sorted(descriptor.data_keys)[:40])
            raise ProfileError(
                f"profile {profile.name!r}: geometry.positions.{axis} wants data key {key!r}; keys there are: {shown}"
            )
    if positions.slow.key is None or positions.fast.key is None:
        return ()
    return positions.slow.key, positions.fast.key


def _is_external(entry: Mapping[str, Any]) -> bool:
    """Return whether the values of a data key in Events are datum ids."""
    return str(entry.get("external", "STREAM:")).upper() != "STREAM:"
