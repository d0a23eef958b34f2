"""Names of lines as other programs write them."""

from __future__ import annotations

import re

from quietbeam.core.errors import InputError
from quietbeam.spectra import parse_line

_NAME = re.compile(r"^(?P<element>[A-Z][a-z]?)(?:[_ -](?P<family>[KLM])(?P<sub>[ab])?\d?)?$", re.IGNORECASE)


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
