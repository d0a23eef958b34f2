"""Speed of the denoiser on every device of this machine, beside the device's own matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from quietbeam.denoiser.estimators.networks import predict
from quietbeam.denoiser.learning.finetune import BurstPlan, FineTuning
from quietbeam.denoiser.learning.pairs import ThinnedPairs
from quietbeam.denoiser.offline import denoise
from quietbeam.denoiser.options import DenoiseOptions, SessionOptions
from quietbeam.denoiser.session import DenoiseSession
from quietbeam_models.network import Denoiser
from quietbeam_models.weights import DEFAULT

from .phantoms import PHANTOMS, expose
from .quality import machine

SHAPE = (8, 128, 128)


def devices() -> list[str]:
    """Return the devices of this machine."""
    found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def _fastest(run: Callable[[], object], times: int = 5) -> float:
    """Return the least of several durations [s]: what the machine can do when nobody else asks."""
    run()
    out = []
    for _ in range(times):
        started = time.monotonic()
        run()
        out.append(time.monotonic() - started)
    return min(out)


def measure_speed(device: str, threads: int | None = None) -> dict[str, float]:
    """Return seconds by what was done; ``GFLOP/s`` is the rate of fp32 matrix products."""
    lines, rows, cols = SHAPE
    rng = np.random.default_rng(0)
    data, _ = expose(rng, PHANTOMS["cell"](rng, rows, lines), 4.0, 4)
    options = DenoiseOptions(device=device, threads=threads)
    session = DenoiseSession(
        lines=[f"line_{i}" for i in range(lines)],
        detectors=list("wxyz"),
        shape=(rows, cols),
        options=options,
    )
    session.add_rows(0, data, np.ones((rows, cols), bool))
    a = torch.randn(1024, 1024, device=session.device)
    matrix_s = _fastest(lambda: float((a @ a)[0, 0]))
    figures = {"GFLOP/s": 2 * 1024**3 / matrix_s / 1e9}
    session.evaluate()
    figures["one map"] = _fastest(lambda: session.infer())
    figures["one new row"] = _fastest(lambda: session.infer((rows // 2, rows // 2 + 1)))
    figures["evidence"] = _fastest(lambda: session.evaluate(), 2)
    session.fine_tune(3.0)
    started = time.monotonic()
    steps = session.fine_tune(8.0)
    figures["fine-tuning step"] = (time.monotonic() - started) / max(steps, 1)
    started = time.monotonic()
    denoise(data, options=options)
    figures["whole denoise, budget 30 s"] = time.monotonic() - started
    return figures


def warm_start(device: str, steps: int = 200) -> list[tuple[str, int, float]]:
    """Return held-out squared error over raw's by start and steps: from the pretrained weights and from random ones."""
    lines, size = 4, 96
    rng = np.random.default_rng(1)
    data, _ = expose(rng, PHANTOMS["rock"](rng, size, lines), 8.0, 4)
    session = DenoiseSession(
        lines=[f"line_{i}" for i in range(lines)],
        detectors=list("wxyz"),
        shape=(size, size),
        options=SessionOptions(device=device),
    )
    session.add_rows(0, data, np.ones((size, size), bool))
    train, held = session.data.sums("train"), session.data.sums("held")
    raw = float((held.exposure**2 * train.counts / np.maximum(train.exposure, 1e-9) ** 2).sum())

    def share(network: Denoiser) -> float:
        rate, _ = predict(network, train, session.device)
        return float(((held.exposure * rate - held.counts) ** 2 - held.counts).sum()) / raw

    torch.manual_seed(1)
    scratch = Denoiser(session.weights.network.config)
    figures = [("pretrained", 0, share(session.weights.network))]
    pretrained = FineTuning(session.weights.network, session.device, 0)
    random = FineTuning(scratch, session.device, 0, learning_rate=1e-3, parts=None)
    for name, tuning, checks in (
        ("pretrained", pretrained, (steps // 8, steps // 4)),
        ("random weights", random, (steps // 4, steps // 2, steps)),
    ):
        for check in checks:
            tuning.burst(ThinnedPairs(train), None, BurstPlan(steps=check - tuning.steps))
            figures.append((name, check, share(tuning.average)))
    return figures


def run_speed(folder: Path, device: str = "all") -> Path:
    """Measure every device (or one) and write ``speed.md``."""
    rows = []
    names = devices() if device == "all" else [device]
    started_on = names[-1]
    for name in names:
        for threads in sorted({1, torch.get_num_threads()}) if name == "cpu" else [None]:
            figures = measure_speed(name, threads)
            rate = figures["GFLOP/s"]
            label = f"{name}, {threads} thread{'s' if threads != 1 else ''}" if threads else name
            for what, seconds in figures.items():
                if what != "GFLOP/s":
                    rows.append(f"| {label} | {what} | {seconds:.3f} | {seconds * rate:.1f} |")
            rows.append(f"| {label} | matrix products | {rate:.0f} GFLOP/s | |")
    lines, height, width = SHAPE
    command = "quietbeam benchmark speed" + ("" if device == "all" else f" --device {device}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "speed.md"
    path.write_text(
        "\n".join(
            [
                "# Speed of the denoiser",
                "",
                f"Generated by `{command}` on {machine()}; weights {DEFAULT}.",
                "",
                f"{lines} lines x {height} x {width} pixels, 4 detectors. The last column is the time in units of what "
                "the device's own fp32 matrix products do in it [GFLOP]: compare machines by it.",
                "",
                "| device | what | seconds | GFLOP of matrix products |",
                "|---|---|---|---|",
                *rows,
                "",
                "Squared error on held-out photons over that of raw, by steps taken, on a map of 96 x 96 pixels (rock,",
                "4 lines, 8 counts): from the pretrained weights and from random ones.",
                "",
                "| start | steps | error over raw's |",
                "|---|---|---|",
                *(f"| {name} | {steps} | {share:.4f} |" for name, steps, share in warm_start(started_on)),
                "",
            ]
        ),
        encoding="utf-8",
    )
    return path
