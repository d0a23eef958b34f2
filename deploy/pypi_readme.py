"""The README as a package index shows it: its links and pictures lead to the repository, not to files beside it.

hatchling calls this when it builds sdist and wheel. The address is the setting ``files`` of
``[tool.hatch.metadata.hooks.custom]`` in pyproject.toml. While it is empty, links become plain text and pictures are
left out, so that nothing on the page is broken.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def with_addresses(text: str, files: str) -> str:
    """Return Markdown whose relative links begin with `files`; without links to files where `files` is empty."""

    def moved(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        if not files:
            return "" if picture else words
        return f"{picture}[{words}]({files.rstrip('/')}/{target}{'?raw=true' if picture else ''})"

    return re.sub(r"\n{3,}", "\n\n", LINK.sub(moved, text))


class ReadmeHook(MetadataHookInterface):
    """Sets ``project.readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README with its links moved."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_addresses(text, str(self.config.get("files", ""))),
        }
