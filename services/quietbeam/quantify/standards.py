"""Thin-film standards: which element has which areal density; PyXRF's YAML and MAPS' ``maps_standardinfo.txt``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xraylib

from quietbeam.core.errors import FileFormatError, InputError
from quietbeam.core.yaml_file import read_yaml

THICKEST = 20_000.0
"""ug/cm2 of one element. A film beyond it is no thin standard, or its densities have another unit."""
_KEYS = ("FILENAME", "ELEMENTS_IN_STANDARD", "WEIGHT")
_OTHER_UNITS = re.compile(
    r"(?<![a-zµμ])(ng|mg|g|kg)\s*(/|per)\s*(cm|mm|m)(?=\d|\^|\b)|[uµμ]g\s*(/|per)\s*(mm|m)(?=\d|\^|\b)", re.IGNORECASE
)
_UNIT_ADVICE = "give ug/cm2 (1 ng/mm2 = 0.1 ug/cm2, 1 mg/cm2 = 1000 ug/cm2)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """A thin film of known composition.

    Attributes
    ----------
    densities
        Areal density of each element in ug/cm2, by its symbol.
    """

    name: str
    densities: Mapping[str, float]
    serial: str = ""
    description: str = ""


def read_standards(path: Path) -> list[Standard]:
    """Read the standards of a file: PyXRF's YAML (``.yaml``, ``.yml``), or MAPS' ``maps_standardinfo.txt``.

    Raises
    ------
    FileFormatError
        The file is not there or has another form.
    InputError
        An element is unknown, or a density cannot be one in ug/cm2.
    """
    if not path.is_file():
        raise FileFormatError(f"there is no file of standards {path}")
    found = _from_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else _from_maps(path)
    if not found:
        raise FileFormatError(f"{path} describes no standard")
    return found


def choose_standard(standards: list[Standard], wanted: str) -> Standard:
    """Return the standard of that serial number or name; the only one where `wanted` is empty.

    Raises
    ------
    InputError
        There is none, or there are several; the message lists them.
    """
    listed = ", ".join(f"{one.serial or one.name}" for one in standards)
    if not wanted:
        if len(standards) > 1:
            raise InputError(f"the file describes {len(standards)} standards, say which with --name: {listed}")
        return standards[0]
    found = [one for one in standards if wanted in (one.serial, one.name)]
    if len(found) != 1:
        raise InputError(f"{len(found) or 'no'} standards are called {wanted!r}; there are {listed}")
    return found[0]


def _from_yaml(path: Path) -> list[Standard]:
    """Read a list of ``{name, serial, description, compounds: {formula: ug/cm2}, density}``.

    The form is that of ``pyxrf/core/quant_analysis.py`` of PyXRF 1.0.31, ``_xrf_standard_schema``.
    """
    entries = read_yaml(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FileFormatError(f"{path} must be a list of standards, each with name and compounds")
    return [_standard_of(path, entry) for entry in entries]


def _standard_of(path: Path, entry: Mapping[str, Any]) -> Standard:
    name = str(entry.get("name") or entry.get("serial") or "")
    compounds = entry.get("compounds")
    if not name or not isinstance(compounds, dict) or not compounds:
        raise FileFormatError(f"{path}: a standard needs a name and compounds, as `compounds: {{CeF3: 21.1}}`")
    unknown = set(entry) - {"name", "serial", "description", "compounds", "density"}
    if unknown:
        raise FileFormatError(
            f"{path}: {name} has {', '.join(sorted(map(str, unknown)))}, which is not known; densities are in ug/cm2"
        )
    densities: dict[str, float] = {}
    for formula, value in compounds.items():
        density = _density(path, str(formula), value)
        for element, share in _elements(path, str(formula)).items():
            densities[element] = densities.get(element, 0.0) + share * density
    total = entry.get("density")
    added = sum(densities.values())
    if total is not None and not math.isclose(_density(path, "the total", total), added, abs_tol=1e-6):
        raise FileFormatError(f"{path}: the compounds of {name} add up to {added:g} ug/cm2, its density says {total}")
    return Standard(
        name=name,
        serial=str(entry.get("serial") or ""),
        description=str(entry.get("description") or ""),
        densities=densities,
    )


def _from_maps(path: Path) -> list[Standard]:
    """Read blocks of ``FILENAME:``, ``ELEMENTS_IN_STANDARD:`` and ``WEIGHT:`` lines, as XRF-Maps does."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if other := _OTHER_UNITS.search(text):
        raise FileFormatError(f"{path} speaks of {other[0]}: {_UNIT_ADVICE}")
    blocks: list[dict[str, str]] = []
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key not in _KEYS:
            continue
        if not blocks or key in blocks[-1]:
            blocks.append({})
        blocks[-1][key] = value
    if not blocks:
        raise FileFormatError(
            f"{path} is no description of standards: it needs lines {', '.join(f'{key}:' for key in _KEYS)}, "
            "or be PyXRF's YAML (.yaml)"
        )
    return [_standard_of_block(path, block) for block in blocks]


def _standard_of_block(path: Path, block: Mapping[str, str]) -> Standard:
    missing = [key for key in _KEYS if not block.get(key)]
    if missing:
        raise FileFormatError(f"{path}: a standard has no line {', '.join(missing)}")
    elements = [part.strip() for part in block["ELEMENTS_IN_STANDARD"].split(",") if part.strip()]
    weights = [part.strip() for part in block["WEIGHT"].split(",") if part.strip()]
    if len(elements) != len(weights):
        raise FileFormatError(f"{path}: {len(elements)} elements have {len(weights)} weights")
    densities = {}
    for element, weight in zip(elements, weights, strict=True):
        _elements(path, element)
        densities[element] = _density(path, element, weight)
    return Standard(name=Path(block["FILENAME"]).stem, densities=densities)


def _density(path: Path, of: str, value: Any) -> float:
    try:
        density = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: the density of {of} is {value!r}, no number: {_UNIT_ADVICE}") from error
    if not 0 < density <= THICKEST:
        raise InputError(
            f"{path}: {density:g} ug/cm2 of {of} is no thin film (above 0, at most {THICKEST:g}): {_UNIT_ADVICE}"
        )
    return density


def _elements(path: Path, formula: str) -> dict[str, float]:
    """Return the mass fraction of each element of a formula."""
    try:
        parsed = xraylib.CompoundParser(formula)
    except ValueError as error:
        raise InputError(f"{path}: {formula!r} is neither an element nor a formula, as Fe or CeF3") from error
    return {
        xraylib.AtomicNumberToSymbol(number): share
        for number, share in zip(parsed["Elements"], parsed["massFractions"], strict=True)
    }
