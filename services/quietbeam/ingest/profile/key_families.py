"""Families of data keys of any spelling: a grid of detectors and lines, such as ``vortex_e1_fe``; the incident flux."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quietbeam.core.errors import InputError
from quietbeam.spectra.energies import line_energy

_WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]+")
_LINE = re.compile(r"([A-Za-z]{1,2}?)[_-]?(?:([klm])([ab]?)\d?)?", re.IGNORECASE)
_FAMILY = re.compile(r"[klm][ab]?\d?", re.IGNORECASE)
_HEAVY_KEV = 20.0
"""Elements whose K line lies above it are taken to be seen by their L line."""
_I0 = (
    re.compile(r"(^|[^a-z])(i_?0|i_?zero)([^a-z0-9]|$)", re.IGNORECASE),
    re.compile(r"us_ic|(^|[^a-z])(ion(_?ch\w*)?|ic\d?|sclr\d_ch4)([^a-z0-9]|$)", re.IGNORECASE),
    re.compile(r"(^|[^a-z])(monitor|mon|flux|bpm\d*(_sum)?|diode)([^a-z0-9]|$)", re.IGNORECASE),
)
"""From the names that leave no doubt to those that may be something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Keys that differ in a detector and a line only.

    Attributes
    ----------
    pattern
        Regular expression with the groups ``detector`` and ``line``.
    line_names
        What the group ``line`` matches -> emission line.
    """

    pattern: str
    line_names: Mapping[str, str]


def emission_line(text: str) -> str:
    """Return the emission line that a word names (``fe``, ``FeKa``, ``pt_l``), or '' for other words."""
    found = _LINE.fullmatch(text)
    if found is None:
        return ""
    element, shell, which = found[1].capitalize(), (found[2] or "").upper(), (found[3] or "a").lower()
    candidates = [f"{element}_{shell}{which}"] if shell else [f"{element}_Ka", f"{element}_La"]
    energies = {}
    for line in candidates:
        try:
            energies[line] = line_energy(line)
        except InputError:
            continue
    usual = [line for line, energy in energies.items() if energy <= _HEAVY_KEV]
    return next(iter([*usual, *energies]), "")


def line_family(keys: Iterable[str]) -> Family | None:
    """Return the largest family of keys over detectors and lines; None when no keys name two emission lines.

    Words of a key may be separated in any way. Every detector has every line. One detector is enough.
    """
    best: tuple[int, Family] | None = None
    for words in _same_length(keys).values():
        for place in range(len(words[0])):
            for group in _differing_in(words, place):
                family = _family(group, place)
                if family is not None and (best is None or family[0] > best[0]):
                    best = family
    return best[1] if best else None


def incident_flux(keys: Iterable[str]) -> list[str]:
    """Return the keys that may be the incident flux, the likeliest first."""
    names = list(keys)
    return list(dict.fromkeys(key for pattern in _I0 for key in names if pattern.search(key)))


def _same_length(keys: Iterable[str]) -> dict[tuple[int, tuple[str, ...]], list[list[str]]]:
    """Return the words of all keys, by their number and what separates them; ``fe_ka`` is one word."""
    found: dict[tuple[int, tuple[str, ...]], list[list[str]]] = defaultdict(list)
    for key in keys:
        words = _WORD.findall(key)
        joined: list[str] = []
        for word in words:
            if len(joined) >= 2 and joined[-1] in "_-" and _FAMILY.fullmatch(word) and len(joined[-2]) <= 2:
                joined[-2:] = [joined[-2] + joined[-1] + word]
            else:
                joined.append(word)
        found[len(joined), tuple(word for word in joined if not word[0].isalnum())].append(joined)
    return found


def _differing_in(keys: list[list[str]], line: int) -> Iterable[list[list[str]]]:
    """Return groups of keys that differ at the place of the line, and at one more place at most."""
    named = [words for words in keys if emission_line(words[line])]
    for other in range(len(keys[0])):
        if other == line or not keys[0][other][0].isalnum():
            continue
        groups: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
        for words in named:
            groups[tuple(word for n, word in enumerate(words) if n not in (other, line))].append(words)
        for group in groups.values():
            # the place of the detector goes first, so that `_family` finds it
            yield [[words[other], *words] for words in group]


def _family(group: list[list[str]], line: int) -> tuple[int, Family] | None:
    """Return the number of keys and the family of a group; None when it is no grid."""
    detectors = list(dict.fromkeys(words[0] for words in group))
    lines = list(dict.fromkeys(words[line + 1] for words in group))
    names = {word: emission_line(word) for word in lines}
    if len(lines) < 2 or len(set(names.values())) < len(lines) or len(detectors) * len(lines) != len(group):
        return None
    if all(len(word) == 1 for word in lines) or (len(detectors) > 1 and all(map(emission_line, detectors))):
        return None  # x and y are motors more often than yttrium
    words = group[0][1:]
    other = next(n for n, word in enumerate(words) if word == group[0][0] and n != line)
    parts = [re.escape(word) for word in words]
    parts[other] = f"(?P<detector>{_any_of(detectors)})"
    parts[line] = f"(?P<line>{'|'.join(map(re.escape, lines))})"
    return len(group), Family(pattern=f"^{''.join(parts)}$", line_names=names)


def _any_of(words: Sequence[str]) -> str:
    """Return a pattern of these words; words that differ in their number match any number."""
    stems = {re.sub(r"\d+$", "", word) for word in words}
    numbered = len(stems) == 1 and all(word[-1].isdigit() for word in words)
    return f"{re.escape(stems.pop())}\\d+" if numbered else "|".join(map(re.escape, words))
