"""Pictures that need no server: the figure of the notebook, the simulated specimens, a spiral scan."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import yaml
from nbclient import NotebookClient
from PIL import Image

import quietbeam
from quietbeam.beamline.experiment import Experiment, ExperimentOptions
from quietbeam.beamline.physics import DEFAULT_LINES
from quietbeam.files.map_file import MapFile
from quietbeam.ingest.offline import map_of_documents
from quietbeam.ingest.profile import load_profile

mpl.use("Agg")

NOTEBOOK = Path(__file__).parents[1] / "tutorials" / "scan-to-figure.ipynb"
SPIRAL_POINTS, SPIRAL_GRID, SPIRAL_BUDGET_S = 2500, 48, 20
SPIRAL_LINES = ("K_Ka", "Fe_Ka", "Zn_Ka")


def before_after(images: Path) -> None:
    """Run the notebook of the tutorial and keep its figure."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory(prefix="qb-notebook-") as folder:
        where = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
        with Image.open(Path(folder) / "maps.png") as figure:
            half = figure.convert("RGB").resize((figure.width // 2, figure.height // 2), Image.Resampling.LANCZOS)
            half.save(images / "before-after.png", optimize=True)


def specimens(images: Path) -> None:
    """Draw truth and counts of the frozen cell, and the truth of the Siemens star."""
    lines = tuple(DEFAULT_LINES)
    cell, star = (
        Experiment(ExperimentOptions(specimen=s, lines=lines, shape=(64, 64), counts=8)) for s in ("cell", "star")
    )
    counts = np.random.default_rng(0).poisson(cell.expected_counts)
    rows = {"cell: truth": cell.expected_counts, "cell: counts": counts, "star: truth": star.expected_counts}
    figure, axes = plt.subplots(3, len(lines), figsize=(9.6, 3.92), layout="constrained")
    for number, (row, (title, maps)) in enumerate(zip(axes, rows.items(), strict=True)):
        for axis, line, one in zip(row, lines, maps, strict=True):
            show(axis, one, "" if number else line)
        row[0].set_ylabel(title, fontsize=8)
    figure.savefig(images / "simulated-specimens.png", dpi=100)
    plt.close(figure)


def spiral(images: Path) -> None:
    """Draw a spiral scan on the grid of its positions, raw above denoised; cells without a point stay grey."""
    found = spiral_map()
    measured = found.measured
    assert measured is not None
    result = quietbeam.denoise(
        found.counts,
        lines=SPIRAL_LINES,
        live_time_s=found.live_time_s,
        measured=measured,
        device="cpu",
        budget_s=SPIRAL_BUDGET_S,
    )
    figure, axes = plt.subplots(2, len(SPIRAL_LINES), figsize=(9, 6.2), layout="constrained")
    for column, line in zip(axes.T, result.evidence.lines, strict=True):
        j = result.lines.index(line.line)
        top = float(np.nanpercentile(result.raw[j][measured], 99.5))
        show(column[0], np.where(measured, result.raw[j], np.nan), f"{line.line}, raw", top)
        show(column[1], np.where(measured, result.denoised[j], np.nan), f"{line.line}, published", top)
        gain = f", dwell gain {line.dwell_gain:.1f}" if line.verdict == "improved" and line.dwell_gain else ""
        column[1].set_xlabel(f"{line.verdict}{gain}", fontsize=9)
    figure.savefig(images / "spiral.png", dpi=100)
    plt.close(figure)


def show(axis: Any, values: Any, title: str, top: float | None = None) -> None:
    """Draw one map without ticks; pixels that were not measured are grey."""
    axis.imshow(
        values, cmap=mpl.colormaps["viridis"].with_extremes(bad="#889"), vmin=0, vmax=top, interpolation="nearest"
    )
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=9)


def spiral_map() -> MapFile:
    """Return what ingest makes of a spiral over the simulated cell: one Event a point, with its position."""
    fine = 4 * SPIRAL_GRID
    cell = Experiment(ExperimentOptions(specimen="cell", lines=SPIRAL_LINES, shape=(fine, fine), counts=3, seed=3))
    n = np.arange(SPIRAL_POINTS)
    radius, angle = SPIRAL_GRID / 2 * np.sqrt((n + 0.5) / SPIRAL_POINTS), n * np.pi * (3 - np.sqrt(5))
    y, x = (SPIRAL_GRID / 2 + radius * wave(angle) for wave in (np.sin, np.cos))
    names = [(d, line) for d in cell.detectors for line in SPIRAL_LINES]
    keys = ["x", "y", *(f"{detector}_{line}" for detector, line in names)]
    entry = {"dtype": "number", "shape": [], "source": "simulated"}
    start = {
        "uid": "spiral",
        "time": 0.0,
        "extents": [[0.5, SPIRAL_GRID - 0.5]] * 2,
        "num_points": SPIRAL_POINTS,
        "hints": {"dimensions": [[["y", "x"], "primary"]]},
    }
    docs: list[tuple[str, dict[str, Any]]] = [
        ("start", start),
        (
            "descriptor",
            {
                "uid": "d",
                "run_start": "spiral",
                "name": "primary",
                "time": 0.0,
                "data_keys": dict.fromkeys(keys, entry),
            },
        ),
    ]
    for i in range(SPIRAL_POINTS):
        at = [min(int(4 * v[i]), fine - 1) for v in (y, x)]
        counts = cell.measure(at[0], at[1]).counts
        values = {f"{d}_{line}": int(c) for (d, line), c in zip(names, counts.ravel(), strict=True)}
        event = {"uid": f"e{i}", "descriptor": "d", "seq_num": i + 1, "time": 0.0, "timestamps": {}}
        docs.append(("event", {**event, "data": {"x": float(x[i]), "y": float(y[i]), **values}}))
    docs.append(("stop", {"uid": "s", "run_start": "spiral", "time": 1.0, "exit_status": "success", "num_events": {}}))
    profile = {
        "name": "spiral",
        "counts": {"keys": r"^(?P<detector>det\d)_(?P<line>\w+)$"},
        "geometry": {
            "extents": {"start": "extents"},
            "dwell_s": 0.005,
            "positions": {"slow": "y", "fast": "x", "step": 1.0},
        },
    }
    with tempfile.TemporaryDirectory(prefix="qb-spiral-") as folder:
        path = Path(folder) / "spiral.yaml"
        path.write_text(yaml.safe_dump(profile), encoding="utf-8")
        return map_of_documents(docs, [load_profile(path)])
