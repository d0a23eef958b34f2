"""Every file is opened with its encoding named: the locale of a machine must not change what is written."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*(ROOT / "services").rglob("*.py"), *(ROOT / "models").rglob("*.py")]
LATIN_1 = "en_US.ISO-8859-1"


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def mode_of(name: str, call: ast.Call) -> str:
    """Return the mode of a call that opens a file, 'b' for one that opens none."""
    position = 0 if isinstance(call.func, ast.Attribute) else 1
    given = [k.value for k in call.keywords if k.arg == "mode"] + call.args[position : position + 1]
    if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "zarr":
        return "b"
    if isinstance(call.func, ast.Attribute) and not call.args and not call.keywords:
        return "r" if name == "open" and isinstance(call.func.value, ast.Name | ast.Attribute) else "b"
    modes = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return modes[0] if modes and set(modes[0]) <= set("rwaxbt+") else "b"


def test_every_text_file_names_its_encoding() -> None:
    found = []
    for path in SOURCES:
        for name, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            is_text = name in ("read_text", "write_text") and len(call.args) <= (name == "write_text")
            is_text |= name == "open" and "b" not in mode_of(name, call)
            is_text |= any(getattr(given.get(one), "value", False) for one in ("text", "universal_newlines"))
            if is_text and "encoding" not in given:
                found.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert not found


@pytest.fixture
def latin_1(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose locale is ISO-8859-1."""
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / LATIN_1)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode > 1:
        pytest.skip("no localedef on this machine, or none of its sources")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8", "PYTHONIOENC"))}
    return {**kept, "LC_ALL": LATIN_1, "LOCPATH": str(tmp_path)}


def test_names_of_folders_are_the_same_under_every_locale(tmp_path: Path, latin_1: dict[str, str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_bytes(f"# Größe in µm, α\ndata_dir: {tmp_path}/größe α\n".encode())
    command = [sys.executable, "-m", "quietbeam", "api-key", "create", "ann", "--scope", "metrics", "-c", str(config)]
    done = subprocess.run(command, env=latin_1, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert os.fsencode("größe α") in {os.fsencode(one.name) for one in tmp_path.iterdir()}
    shown = subprocess.run([*command[:3], "config", "show", "-c", str(config)], env=latin_1, capture_output=True)
    assert "größe α" in shown.stdout.decode()


def test_a_service_in_another_program_writes_utf8(tmp_path: Path, latin_1: dict[str, str]) -> None:
    code = (
        "import locale, sys, pathlib; locale.setlocale(locale.LC_ALL, '');"
        "assert 'utf' not in locale.getencoding().lower();"
        "import quietbeam.serve;"
        "pathlib.Path(sys.argv[1]).write_text('Fe K\\u03b1')"
    )
    path = tmp_path / "page.html"
    subprocess.run([sys.executable, "-c", code, str(path)], env=latin_1, check=True)
    assert path.read_bytes() == "Fe Kα".encode()
