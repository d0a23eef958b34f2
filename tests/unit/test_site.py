"""The documentation builds as a site without a warning, and holds the references that are made from the code."""

from __future__ import annotations

import json
import os
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
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    site = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", site)
    assert done.returncode == 0, done.stdout + done.stderr
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
