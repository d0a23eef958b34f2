"""The dashboard's modules: their unit tests and layers, run by node; what checks them does not travel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "javascript"
NODE = shutil.which("node")
OLDEST_NODE = 18


def node_version() -> int:
    """Return the major version of node, 0 where there is none."""
    if NODE is None:
        return 0
    answer = subprocess.run([NODE, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    found = re.match(r"v(\d+)\.", answer)
    return int(found[1]) if found else 0


def test_the_modules_pass_their_own_tests() -> None:
    version = node_version()
    if NODE is None or version < OLDEST_NODE:
        found = f"version {version}" if version else "none"
        pytest.skip(f"the tests need node {OLDEST_NODE} or newer (Debian: apt-get install nodejs), found: {found}")
    tests = sorted(path.name for path in FOLDER.glob("*.test.js"))
    assert len(tests) > 10
    command = [NODE, "--test", *tests]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"^\S* ?pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed and int(passed[1]) > 100, done.stdout[-2000:]


def test_the_lock_file_names_no_host_that_packages_come_from() -> None:
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert all("integrity" in entry and "resolved" not in entry for entry in packages.values())
    declared = json.loads((FOLDER / "package.json").read_text())["devDependencies"]
    assert all(re.fullmatch(r"[\d.]+", version) for version in declared.values()), "exact versions"
