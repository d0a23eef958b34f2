"""Docstrings are written for `help()`, with roles and literal blocks of reStructuredText; the site wants Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr):`~?([^`]+)`")
LITERAL = re.compile(r"``([^`\n]+)``")
BLOCK = re.compile(r"^(.*):: *$", re.MULTILINE)


class Markdown(griffe.Extension):
    """Turn roles into code and literal blocks into indented ones."""

    def on_instance(self, *, obj: griffe.Object, **_kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            text = LITERAL.sub(r"`\1`", ROLE.sub(r"`\1`", obj.docstring.value))
            obj.docstring.value = BLOCK.sub(lambda m: f"{m[1]}:" if m[1].strip() else "", text)
