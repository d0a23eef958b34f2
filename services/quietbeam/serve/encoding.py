"""UTF-8 in the process of the service, whatever the locale of the machine."""

from __future__ import annotations

import codecs
import locale


def is_utf8(name: str) -> bool:
    """Return whether an encoding is UTF-8 by any of its names."""
    try:
        return codecs.lookup(name).name == "utf-8"
    except LookupError:
        return False


def write_utf8() -> None:
    """Let files that are opened without a word about their encoding be UTF-8, those of other libraries too.

    Our own files name it. Machines of control rooms may have ISO-8859-1, which has no Greek letters.
    """
    if is_utf8(locale.getencoding()):
        return
    for name in ("C.UTF-8", "en_US.UTF-8", "UTF-8"):
        try:
            locale.setlocale(locale.LC_CTYPE, name)
        except locale.Error:
            continue
        return
