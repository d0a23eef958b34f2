"""The notebook of the tutorial runs from its first cell to its figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
from PIL import Image

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "scan-to-figure.ipynb"
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
for cell in notebook.cells:
    cell.source = cell.source.replace("budget_s=20", "steps=2").replace("(48, 48)", "(16, 16)")
NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
print("".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])))
"""


def test_the_notebook_goes_from_a_scan_to_a_figure(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, NOTEBOOK, tmp_path]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.split("\n") if line.strip()] == ["K_Ka", "Fe_Ka", "Zn_Ka"]
    with Image.open(tmp_path / "maps.png") as figure:
        assert figure.size == (2000, 1300)


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
