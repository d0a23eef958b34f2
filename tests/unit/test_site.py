"""The documentation builds as a site without a warning, and holds the references that are made from the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "-q", "-f", config, "-d", site]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    return {entry["location"]: entry["text"] for entry in index["docs"]}


def test_the_search_finds_python_rest_and_commands(pages: dict[str, str]) -> None:
    for place in (
        "reference/python/quietbeam.html#quietbeam.denoiser.offline.denoise",
        "reference/python/quietbeam.runengine.html#quietbeam.runengine.RedisPublisher",
        "reference/python/quietbeam.client.html#quietbeam.client.Client",
        "reference/rest-requests.html#get-apiv1runsuidadvice",
        "reference/rest-requests.html#model-lineevidence",
        "reference/commands.html#quietbeam-doctor",
        "project/CONTRIBUTING.html#the-map-of-the-house",
    ):
        assert place in pages


def test_every_page_of_the_repository_is_in_the_site(pages: dict[str, str]) -> None:
    wanted = {page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for page in ROOT.glob("docs/**/*.md")}
    wanted = {"" if page == "README.html" else page for page in wanted}
    assert wanted - {place.partition("#")[0].removesuffix("index.html") for place in pages} == set()


def test_every_diagram_is_a_drawing_of_the_present_source(site: Path) -> None:
    for page in ROOT.glob("docs/**/*.md"):
        fences = page.read_text(encoding="utf-8").count("```mermaid")
        built = site / page.relative_to(ROOT / "docs").with_suffix(".html")
        if fences:
            drawings = re.findall(r'<img[^>]*src="([^"]*/diagram-\w+\.svg)"', built.read_text(encoding="utf-8"))
            assert len(drawings) == fences, page
            assert all((built.parent / drawing).is_file() for drawing in drawings), page


def test_no_page_needs_a_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|source|iframe)[^>]*\ssrc="(?:https?:)?//[^"]*"', text)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preload)"[^>]*href="(?:https?:)?//[^"]*"', text)
        assert not loaded, f"{page.name}: {loaded[0]}"
        assert 'class="mermaid"' not in text, f"{page.name} draws a diagram with a script from a public server"
