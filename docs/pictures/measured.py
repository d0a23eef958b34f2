"""Pictures of measured data as they come: spectra of every detector, raw maps of lines, how detectors differ."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from quietbeam.files import read_map
from quietbeam.files.map_file import MapFile
from quietbeam.files.read import read_spectra
from quietbeam.spectra import line_energy
from quietbeam.spectra.windows import find_lines

mpl.use("Agg")

ROCK, STEPS, FLY = "pixl_laguna_salinas.npz", "aps_2ide_axo_std.npz", "aps_2ide_fly.h5"
ROCK_LINES = ("Al_Ka", "Si_Ka", "S_Ka", "Cl_Ka", "K_Ka", "Ca_Ka", "Ti_Ka", "Mn_Ka", "Fe_Ka", "Sr_Ka")
FILM_LINES = ("Si_Ka", "Ar_Ka", "Ca_Ka", "La_La", "Fe_Ka", "Cu_Ka")


def spectra(data: Path, path: Path) -> None:
    """Draw the summed spectrum of every detector, with the lines that quietbeam finds."""
    figure, axes = plt.subplots(3, 1, figsize=(8.1, 7.2), layout="constrained")
    for axis, name in zip(axes, (ROCK, STEPS, FLY), strict=True):
        found = read_spectra(data / name)
        assert found is not None
        sums = np.sum([block.counts.sum(axis=0, dtype=np.float64) for block in found.blocks()], axis=0)
        for detector, (spectrum, (offset, width)) in enumerate(zip(sums, found.calibration, strict=True), 1):
            axis.semilogy(offset + width * np.arange(spectrum.size), spectrum, lw=0.7, label=f"det{detector}")
        for number, line in enumerate(find_lines(sums, found.calibration)):
            axis.axvline(line_energy(line), color="0.8", lw=0.6, zorder=0)
            axis.text(
                line_energy(line),
                0.98 - 0.08 * (number % 2),
                line,
                fontsize=6,
                ha="center",
                va="top",
                transform=axis.get_xaxis_transform(),
            )
        axis.set(xlim=(1, 16 if name == ROCK else 11), ylabel="counts")
        axis.set_title(name, loc="left", fontsize=9)
        axis.legend(fontsize=7, loc="center right")
    axes[-1].set_xlabel("energy (keV), calibrated for each detector")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def maps(panels: dict[str, np.ndarray], columns: int, path: Path, limits: tuple[float, float] | None = None) -> None:
    """Draw maps (row, col), each with its own colour bar; `limits` are common ones."""
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.3 * columns, 2.2 * rows), layout="constrained", squeeze=False)
    for axis, (title, values) in zip(axes.flat, panels.items(), strict=True):
        low, high = limits or (None, None)
        cmap = "coolwarm" if limits else "viridis"
        image = axis.imshow(values, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
        axis.set(title=title, xticks=[], yticks=[])
        figure.colorbar(image, ax=axis, shrink=0.8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def sums_of(found: MapFile) -> dict[str, np.ndarray]:
    """Return the counts (row, col) of every line, summed over the detectors."""
    assert found.lines is not None
    return dict(zip(found.lines, found.counts.sum(axis=0), strict=True))


def main(images: Path, data: Path) -> None:
    """Draw the files of the folder `data`."""
    spectra(data, images / "measured-spectra.png")
    rock, steps, fly = (
        read_map(data / name, lines) for name, lines in ((ROCK, ROCK_LINES), (STEPS, FILM_LINES), (FLY, FILM_LINES))
    )
    maps(sums_of(rock), 5, images / "measured-laguna.png")
    maps(sums_of(steps), 6, images / "measured-axo.png")
    maps(sums_of(fly), 6, images / "measured-fly.png")
    wanted = {line: ROCK_LINES.index(line) for line in ("Si_Ka", "Ca_Ka", "Fe_Ka")}
    first, second = rock.counts.astype(float)
    ratio = {f"A/B of {line}": first[j] / second[j] / (first[j].sum() / second[j].sum()) for line, j in wanted.items()}
    maps(ratio, 3, images / "measured-laguna-ratio.png", (0.6, 1.4))
    iron = fly.counts[:, FILM_LINES.index("Fe_Ka")]
    maps({f"det{n} Fe_Ka": values for n, values in enumerate(iron, 1)}, 4, images / "measured-fly-detectors.png")
