"""Names of lines as other programs write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import chain, count

from quietbeam.core.errors import InputError
from quietbeam.spectra import parse_line

_NAME = re.compile(r"^(?P<element>[A-Z][a-z]?)(?:[_ -](?P<family>[KLM])(?P<sub>[ab])?\d?)?$", re.IGNORECASE)
_GREEK = str.maketrans("αβγδεζηθικλμνξοπρςστυφχψω", "abgdezetiklunxoprsstufxpo")
_LONGEST = 200
"""Characters; MAPS has room for 256."""


def line_name(label: str | bytes) -> str:
    """Return ``Fe_Ka`` for ``Fe``, ``Fe_K``, ``Pt_L``, ``Au-M``; an empty string for what is no emission line."""
    text = (label.decode(errors="replace") if isinstance(label, bytes) else str(label)).strip().rstrip("\x00")
    match = _NAME.match(text)
    if not match or text.upper() in ("COMPTON", "ELASTIC"):
        return ""
    element = match["element"].capitalize()
    name = f"{element}_{(match['family'] or 'K').upper()}{(match['sub'] or 'a').lower()}"
    try:
        parse_line(name)
    except InputError:
        return ""
    return name


def short_name(line: str) -> str:
    """Return ``Fe_K`` for ``Fe_Ka``, as PyXRF writes it."""
    return line[:-1] if line.endswith(("_Ka", "_La", "_Ma")) else line


def maps_name(line: str) -> str:
    """Return ``Fe`` for ``Fe_Ka`` and ``Pt_L`` for ``Pt_La``, as MAPS writes it."""
    return short_name(line).removesuffix("_K")


def ascii_name(name: str) -> str:
    """Return ``Fe Ka`` for ``Fe Kα``: PyXRF and MAPS hold ASCII only."""
    ascii_only = (c for c in unicodedata.normalize("NFKD", name).translate(_GREEK) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else "_" for c in ascii_only)[:_LONGEST] or "_"


def group_name(name: str) -> str:
    """Return a name that a group of HDF5 can have."""
    return "_" if name == "." else name.replace("/", "_")


def unlike_names(lines: Sequence[str], rename: Callable[[str], str]) -> list[str]:
    """Rename lines; names that become equal get a number, those that stay as they are none."""
    names = [rename(line) for line in lines]
    used = {name for name, line in zip(names, lines, strict=True) if name == line}
    for i, (name, line) in enumerate(zip(names, lines, strict=True)):
        if name != line:
            numbered = (f"{name}_{n}" for n in count(2))
            names[i] = next(candidate for candidate in chain((name,), numbered) if candidate not in used)
            used.add(names[i])
    return names
