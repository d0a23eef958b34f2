"""Pictures of measured data after the whole path: replay each file, draw raw above what was published."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from quietbeam.app.demo import demo_config, forget_facility, read_from_tiled, services, watch
from quietbeam.core.settings import load_settings
from quietbeam.core.wire.runs import RunStatus

mpl.use("Agg")

FILES = {
    "laguna": ("pixl_laguna_salinas.npz", "Si_Ka,K_Ka,Ca_Ka,Ti_Ka,Mn_Ka,Fe_Ka,Sr_Ka,Zn_Ka"),
    "axo": ("aps_2ide_axo_std.npz", "Ar_Ka,Ca_Ka,Fe_Ka,Cu_Ka,La_La,Zn_Ka"),
    "mars": ("pixl_beaujeu.npz", "Si_Ka,S_Ka,K_Ka,Ca_Ka,Mn_Ka,Fe_Ka,Rb_Ka,Sr_Ka"),
    "fly": ("aps_2ide_fly.h5", "Ar_Ka,Ca_Ka,Fe_Ka,Cu_Ka,La_La,Zn_Ka"),
}


def draw(status: RunStatus, maps: dict[str, Any], path: Path) -> None:
    """Draw raw above denoised for every line, one colour range for both, with what the evidence says."""
    assert status.info is not None and status.evidence is not None
    n = len(status.info.lines)
    figure, axes = plt.subplots(2, n, figsize=(2.0 * n, 4.6), layout="constrained")
    for j, line in enumerate(status.info.lines):
        evidence = status.evidence.line(line)
        assert evidence is not None
        low, high = np.percentile(maps["raw"][j], [1, 99])
        for axis, kind in zip(axes[:, j], ("raw", "denoised"), strict=True):
            axis.imshow(maps[kind][j], cmap="viridis", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0, j].set_title(f"{line}\n{evidence.mean_counts:.3g} counts/pixel", fontsize=8)
        gain = "" if evidence.dwell_gain is None or evidence.estimator == "raw" else f"gain {evidence.dwell_gain:.1f}"
        axes[1, j].set_xlabel(f"{evidence.estimator}\n{gain}", fontsize=8)
    axes[0, 0].set_ylabel("raw", fontsize=9)
    axes[1, 0].set_ylabel("published", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(images: Path, data: Path) -> None:
    """Replay every measured file of the folder `data` and write one picture for each."""
    forget_facility()
    with tempfile.TemporaryDirectory(prefix="qb-pictures-") as folder:
        config = demo_config(Path(folder))
        settings = load_settings(config)
        with services(settings, config, timeout_s=400):
            for name, (file, lines) in FILES.items():
                command = [sys.executable, "-m", "quietbeam", "replay", str(data / file), "-c", str(config)]
                command += ["--lines", lines, "--speed", "0", "--transport", "redis"]
                replay = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                output, _ = replay.communicate(timeout=400)
                print(output)  # noqa: T201
                uid = next(word for word in output.replace(":", " ").split() if word.count("-") == 4)
                status = watch(settings, replay, lambda _: None, uid=uid)
                assert status is not None
                draw(status, read_from_tiled(settings, status.uid), images / f"denoised-{name}.png")
                assert status.evidence is not None
                for line in status.evidence.lines:
                    print(line)  # noqa: T201
                print(*status.evidence.notes, *status.warnings, sep="\n")  # noqa: T201
