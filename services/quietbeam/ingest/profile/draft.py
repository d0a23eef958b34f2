"""A first beamline profile for an unknown run, guessed from its documents: YAML with a comment on every guess."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from quietbeam.core.errors import InputError
from quietbeam.core.settings import configs_dir

from .key_families import incident_flux, line_family
from .source import MISSING, lookup

Recorded = tuple[str, dict[str, Any]]
_CHANNELS = 256
"""An axis of at least this length is taken to be the channels of a spectrum."""
QUESTION = "# ? "
"""Begins a comment of a draft that somebody who knows the beamline must answer."""
_SHAPES = (("shape", "slow_fast"), ("scan.shape", "fast_slow"))
_LIVE = re.compile(r"live", re.IGNORECASE)
_ELEMENT = re.compile(r"(?<![A-Za-z])([A-Z][a-z]?(?:_?[KLM][a-z]?\d?)?)(?![A-Za-z0-9])")


def draft_profile(recorded: Sequence[Recorded]) -> str:
    """Return the YAML text of a profile for the first run of a recording.

    Raises
    ------
    InputError
        No start document, or no stream with data.
    """
    start = next((doc for name, doc in recorded if name == "start"), None)
    streams = _streams(recorded, str(start.get("uid", "")) if start else "")
    if start is None or not streams:
        raise InputError("a draft needs a recording with a start document and at least one descriptor")
    stream, keys = max(streams.items(), key=lambda item: _likelihood(item[1]))
    counts, notes = _counts(keys)
    profile: dict[str, Any] = {
        "name": "draft",
        "description": f"Draft for runs like {start.get('plan_name', 'this')}.",
        "match": _match(start),
        "stream": stream,
        "kind": "counts",
        "counts": counts,
    }
    motors = {str(motor) for motor in start.get("motors") or ()}
    i0 = incident_flux(key for key in keys if key not in motors)
    if i0:
        profile["i0"] = (
            {"key": i0[0]} if not _streamed(keys[i0[0]]) else {"dataset": {"data_key": i0[0], "axes": ["frame"]}}
        )
        others = f" or {' or '.join(i0[1:])}" if i0[1:] else ""
        notes.append(f"i0: is {i0[0]}{others} the incident flux? It is guessed from its name")
    else:
        notes.append("i0: which key is the incident flux? No name looks like it; maps are not normalised without it")
    live = _family([key for key in keys if _LIVE.search(key) and not _streamed(keys[key])])
    if live:
        profile["live_time_s"] = {"keys": live[0]}
    else:
        notes.append("live_time_s: which keys are the live times of the detectors? Dead time stays without them")
    profile["geometry"], more = _geometry(start)
    text = yaml.safe_dump(profile, sort_keys=False, allow_unicode=True, width=110)
    asked = [f"{QUESTION}{note}" for note in [*notes, *more]]
    return "\n".join(["# Draft made from a recorded run. Check every line.", *asked, text])


def questions(draft: str) -> list[str]:
    """Return what a draft could not know."""
    return [line.removeprefix(QUESTION) for line in draft.splitlines() if line.startswith(QUESTION)]


def _streams(recorded: Sequence[Recorded], uid: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, doc in recorded:
        if name == "descriptor" and doc.get("run_start") == uid and isinstance(doc.get("data_keys"), dict):
            found[str(doc.get("name", "primary"))].update(doc["data_keys"])
    return {name: keys for name, keys in found.items() if name != "baseline" and keys}


def _likelihood(keys: Mapping[str, Any]) -> tuple[bool, int]:
    """Return a sort key: larger for a stream that is more likely to have counts."""
    names = list(keys)
    has_counts = any(map(_is_spectrum, keys.values())) or line_family(names) is not None or bool(_regions(names)[0])
    return has_counts, len(keys)


def _shape(entry: Mapping[str, Any]) -> list[int]:
    return [n for n in entry.get("shape") or () if isinstance(n, int)]


def _is_spectrum(entry: Mapping[str, Any]) -> bool:
    shape = _shape(entry)
    return bool(shape) and shape[-1] >= _CHANNELS


def _streamed(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("external", "")).upper() == "STREAM:"


def _counts(keys: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    spectra = {
        "lines": ["P_Ka", "Fe_Ka", "Zn_Ka"],
        "calibration": [0.0, 0.01],
    }
    todo = [
        "counts.spectra.lines: which lines does the sample have?",
        "counts.spectra.calibration: what are offset and width of a channel in keV? 10 eV per channel is a guess",
    ]
    arrays = {key: _shape(entry) for key, entry in keys.items() if _is_spectrum(entry)}
    many = {key: shape for key, shape in arrays.items() if len(shape) >= 2 and shape[-2] > 1}
    scalars = [key for key in keys if key not in arrays]
    regions, names = _regions(scalars)
    if many:
        key = max(many, key=lambda k: many[k][-2])
        return {"dataset": {"data_key": key, "axes": ["frame", "detector", "channel"]}, "spectra": spectra}, [
            *todo,
            f"counts.dataset.axes: {key} has shape {many[key]}; is that (frame,) detector, channel?",
        ]
    if arrays:
        family = _family(list(arrays))
        return {
            "keys": family[0] if family else f"^(?P<detector>{re.escape(next(iter(arrays)))})$",
            "spectra": spectra,
        }, todo
    lines = None if regions and not names else line_family(scalars)
    if lines is not None:
        said = ", ".join(f"{word} = {line}" for word, line in lines.line_names.items())
        return {"keys": lines.pattern, "line_names": dict(lines.line_names)}, [
            f"counts.line_names: are these the lines? {said}. Add those of other scans to keys and line_names"
        ]
    if regions:
        found: dict[str, Any] = {"keys": regions}
        if names:
            found["line_names"] = names
        return found, ["counts.line_names: which line is each region?"] if names else []
    generic = yaml.safe_load((configs_dir() / "beamlines" / "generic.yaml").read_text(encoding="utf-8"))["counts"]
    return {"keys": generic["keys"]}, ["counts.keys: which keys are counts? None looks like it; write the pattern"]


def _regions(keys: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the pattern that most keys of a detector and a line (or numbered region) match, and regions to name."""
    with_element: Counter[str] = Counter()
    numbered: dict[str, set[str]] = defaultdict(set)
    size: Counter[str] = Counter()
    for key in keys:
        numbers = list(re.finditer(r"\d+", key))
        element = list(_ELEMENT.finditer(key))
        if numbers and element and element[-1].start() > numbers[0].start():
            n, e = numbers[0], element[-1]
            pattern = (
                f"{_detector(key, n)}{re.escape(key[n.end() : e.start()])}"
                f"(?P<line>[A-Z][a-z]?(?:_?[KLM][a-z]?\\d?)?){re.escape(key[e.end() :])}$"
            )
            with_element[pattern] += 1
        elif len(numbers) >= 2:
            n, r = numbers[0], numbers[-1]
            pattern = (
                f"{_detector(key, n)}{re.escape(key[n.end() : r.start()])}(?P<line>\\d+){re.escape(key[r.end() :])}$"
            )
            numbered[pattern].add(r.group())
            size[pattern] += 1
    for pattern, count in with_element.most_common(1):
        if count >= 2:
            return pattern, {}
    good = [p for p in size if size[p] >= 2 and re.search(r"total|count|sum|roi|sca", p)]
    for pattern in sorted(good, key=lambda p: (-bool(re.search("total|count|sum", p)), -size[p]))[:1]:
        return pattern, {number: f"roi{number}" for number in sorted(numbered[pattern])}
    return "", {}


def _detector(key: str, number: re.Match[str]) -> str:
    """Return the pattern of a key up to its detector's number: ``^xs_(?P<detector>channel\\d+)``."""
    before = key[: number.start()]
    word = re.search(r"[A-Za-z]*$", before)
    assert word is not None
    return f"^{re.escape(before[: word.start()])}(?P<detector>{word.group()}\\d+)"


def _family(keys: Sequence[str]) -> list[str]:
    """Return the pattern of the largest family of keys that differ in one number."""
    patterns: Counter[str] = Counter()
    for key in keys:
        for n in re.finditer(r"\d+", key):
            patterns[f"{_detector(key, n)}{re.escape(key[n.end() :])}$"] += 1
    return [pattern for pattern, _ in patterns.most_common(1)]


def _match(start: Mapping[str, Any]) -> dict[str, Any]:
    for path in ("beamline_id", "instrument", "scan.type", "plan_name"):
        value = lookup(start, path)
        if isinstance(value, str):
            return {path: value}
    return {}


def _geometry(start: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    notes: list[str] = []
    # Plans of beamlines give scan.shape, Bluesky's own plans give `shape`.
    shapes = [(path, order) for path, order in reversed(_SHAPES) if lookup(start, path) is not MISSING]
    if shapes:
        path, order = shapes[0]
        found |= {"shape": {"start": path}, "order": order}
        notes.append(f"geometry.order: is {path} {list(lookup(start, path))} in the order {order}?")
    else:
        found |= {"shape": [1, 1], "order": "slow_fast"}
        notes.append("geometry.shape: how many rows and columns? The start document has none; write [rows, columns]")
    for name, paths in (
        ("snake", ("snaking", "scan.snake", "snake")),
        ("extents", ("extents", "scan_range")),
        ("dwell_s", ("dwell_s", "dwell", "scan.dwell", "exposure_time")),
    ):
        given = [path for path in paths if lookup(start, path) is not MISSING]
        if given:
            found[name] = {"start": given[0]}
    if isinstance(lookup(start, "scan.scan_input.5"), int | float) and "extents" not in found:
        fast, slow = ([{"start": f"scan.scan_input.{i}"} for i in pair] for pair in ((0, 1), (3, 4)))
        found["extents"] = [fast, slow]
    return found | {"units": "um"}, [*notes, "geometry.units: are the motors in um?"]
