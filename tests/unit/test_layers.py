"""The seams of the architecture hold: no stage imports another, networks know nothing of services."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import networkx

ROOT = Path(__file__).resolve().parents[2]


def test_a_stage_never_imports_another_stage() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", "pyproject.toml", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("quietbeam", "quietbeam_models", cache_dir=None)
    for package in [m for m in graph.modules if graph.find_children(m)]:
        # a package's __init__ gives its names to others; what it imports is not what its files import
        for imported in graph.find_modules_directly_imported_by(package):
            graph.remove_import(importer=package, imported=imported)
    arrows = networkx.DiGraph()
    for module in graph.modules:
        arrows.add_edges_from((module, other) for other in graph.find_modules_directly_imported_by(module))
    circles = [sorted(c) for c in networkx.strongly_connected_components(arrows) if len(c) > 1]
    assert not circles
