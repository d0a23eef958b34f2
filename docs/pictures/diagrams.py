"""The Mermaid diagrams of the pages as SVG, so that the site shows them without a network.

``npm`` downloads Mermaid, Chromium draws. Each SVG is named after a digest of its source. When a diagram changes and is
not drawn again, its file is missing, and the strict build of the site fails.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

from docs.site.hooks import DIAGRAM, drawing_of
from playwright.sync_api import sync_playwright

from .browser import close, open_page

VERSION = "12.3.0"
DOCS = Path(__file__).parents[1]
DRAW = """async (source) => {
  const sequence = {wrap: true, width: 150, actorMargin: 5, mirrorActors: false};
  const flowchart = {htmlLabels: false};
  mermaid.initialize({startOnLoad: false, theme: "neutral", htmlLabels: false, flowchart, sequence});
  return (await mermaid.render("diagram", source)).svg;
}"""


def main(images: Path) -> None:
    """Draw every diagram of the pages, and remove the drawings that no page needs any more."""
    pages = sorted(DOCS.rglob("*.md"))
    sources = [source for page in pages for source in DIAGRAM.findall(page.read_text(encoding="utf-8"))]
    with tempfile.TemporaryDirectory(prefix="qb-diagrams-") as folder, sync_playwright() as playwright:
        pack = ["npm", "pack", "--silent", f"mermaid@{VERSION}"]
        subprocess.run(pack, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(Path(folder) / f"mermaid-{VERSION}.tgz") as archive:
            archive.extract("package/dist/mermaid.min.js", folder, filter="data")
        page = open_page(playwright, (1200, 900))
        page.add_script_tag(path=Path(folder) / "package" / "dist" / "mermaid.min.js")
        drawn = {drawing_of(source): page.evaluate(DRAW, source) for source in sources}
        close(page)
    for old in images.glob("diagram-*.svg"):
        old.unlink()
    for name, svg in drawn.items():
        (images / name).write_text(svg.replace('style="', 'style="background: white; ', 1) + "\n", encoding="utf-8")
