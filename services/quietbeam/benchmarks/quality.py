"""Quality on phantoms with known truth; table and figure of docs/benchmarks are made from what is stored."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from quietbeam.core.errors import InputError
from quietbeam.denoiser.offline import denoise
from quietbeam.denoiser.options import DenoiseOptions

from .baselines import FILTERS, NOISE2NOISE, best_error, noise2noise
from .phantoms import PHANTOMS, expose
from .quality_report import draw_figure, make_table, mean_gain

Case = tuple[str, int, int, float]
Extent = Literal["quick", "standard", "full"]

DOSES = (0.1, 0.5, 2.0, 8.0, 32.0, 100.0)
_LINES, _DETECTORS = (8, 4, 1), (4, 2, 16)
CASES: dict[Extent, list[Case]] = {
    "quick": [
        *(("star", 4, 4, c) for c in (0.5, 2.0, 8.0, 32.0)),
        *(("cell", 8, 4, c) for c in (0.5, 2.0, 8.0, 32.0)),
        *(("rock", 8, 4, c) for c in (2.0, 32.0)),
    ],
    # every phantom at every dose, with every number of lines and of detectors
    "standard": [
        (name, _LINES[(d + p) % 3], _DETECTORS[(d + 2 * p + d // 3) % 3], dose)
        for p, name in enumerate(PHANTOMS)
        for d, dose in enumerate(DOSES)
    ],
    "full": [(name, n, k, dose) for name in PHANTOMS for n in (1, 4, 8) for k in (2, 4, 16) for dose in DOSES],
}


def machine() -> str:
    """Describe the machine in one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [s.split(":", 1)[1].strip() for s in info.read_text().splitlines() if s.startswith("model name")]
        name = models[0] if models else name
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {os.cpu_count()} cores, {device}, torch {torch.__version__}"


def run_quality(
    folder: Path, *, extent: Extent, budget_s: float, seed: int, tell: Callable[[str], None], size: int = 128
) -> Path:
    """Run the cases and write ``quality.json``, ``quality.md`` and, with matplotlib, ``quality.png``.

    Yardsticks of a case that is already in ``quality.json`` are not computed again: data depend on the seed alone.
    ``budget_s`` below 0 computes yardsticks only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "quality.json"
    old = json.loads(stored.read_text()) if stored.exists() else {}
    filters = old.get("yardsticks", {}) if old.get("seed") == seed and old.get("size") == size else {}
    report: dict[str, Any] = {"seed": seed, "size": size, "yardsticks": filters, "machine": machine(), "cases": []}
    option = "" if extent == "standard" else f" --{extent}"
    report["command"] = f"quietbeam benchmark quality{option} --budget {budget_s:g} --seed {seed}"
    for case in CASES[extent]:
        name, lines, detectors, counts = case
        key = f"{name}-{lines}-{detectors}-{counts:g}"
        rng = np.random.default_rng([seed, 424_242, sum(map(ord, key))])
        data, true = expose(rng, PHANTOMS[name](rng, size, lines), counts, detectors)
        raw = data.sum(0).astype(np.float64)
        raw_error = ((raw - true) ** 2).mean((1, 2))
        textured = np.flatnonzero(true.std((1, 2)) > 1e-6 * counts)
        if key not in filters:
            filters[key] = _yardsticks(data, true, raw_error, textured, tell)
        if budget_s >= 0:
            report["cases"].append(_ours(case, data, true, raw_error, textured, filters[key], budget_s, seed, report))
            tell(_sentence(report["cases"][-1]))
        stored.write_text(json.dumps(report, indent=1) + "\n")
    path = folder / "quality.md"
    if report["cases"]:
        report["figure"] = draw_figure(report, folder / "quality.png")
        path.write_text(make_table(report))
    return path


def _ours(
    case: Case,
    data: np.ndarray,
    true: np.ndarray,
    raw_error: np.ndarray,
    textured: np.ndarray,
    filters: dict[str, list[float]],
    budget_s: float,
    seed: int,
    report: dict[str, Any],
) -> dict[str, Any]:
    """Denoise one case with and without fine-tuning and compare with the truth."""
    started = time.monotonic()
    plain = denoise(data, options=DenoiseOptions(fine_tune=False, seed=seed))
    plain_s, started = time.monotonic() - started, time.monotonic()
    tuned = denoise(data, options=DenoiseOptions(budget_s=budget_s, seed=seed))
    tuned_s = time.monotonic() - started
    row: dict[str, Any] = dict(zip(("phantom", "lines", "detectors", "counts"), case, strict=True))
    row |= {"plain_s": round(plain_s, 1), "tuned_s": round(tuned_s, 1), "steps": tuned.evidence.fine_tune_steps}
    for label, result in (("pretrained", plain), ("fine-tuned", tuned)):
        gain = raw_error / np.maximum(((result.denoised - true) ** 2).mean((1, 2)), 1e-12)
        row[label], row[f"{label} worst"] = mean_gain(gain[textured]), float(gain.min())
        row[f"{label} by line"] = [round(float(g), 3) for g in gain[textured]]
        # against the total of the counts: the truth itself is known no better than counting allows
        ratio = result.denoised.sum((1, 2)) / np.maximum(data.sum((0, 2, 3)), 1)
        row[f"{label} total"] = float(np.abs(ratio - 1).max())
    row |= _evidence(tuned.evidence.lines, raw_error, tuned.denoised, true)
    row |= {f"{name} by line": gains for name, gains in filters.items()}
    row |= {name: mean_gain(np.array(gains)) for name, gains in filters.items()}
    report |= {"budget_s": budget_s, "model": tuned.evidence.model, "model_sha256": tuned.evidence.model_sha256}
    return row


def _sentence(row: dict[str, Any]) -> str:
    case = f"{row['phantom']}, {row['lines']} lines, {row['detectors']} detectors, {row['counts']:g} counts"
    bm3d = f", BM3D {row['BM3D']:.1f}" if "BM3D" in row else ""
    return f"{case}: fine-tuned {row['fine-tuned']:.1f}, pretrained {row['pretrained']:.1f}{bm3d}"


def _yardsticks(
    data: np.ndarray, true: np.ndarray, raw_error: np.ndarray, textured: np.ndarray, tell: Callable[[str], None]
) -> dict[str, list[float]]:
    out, raw = {}, data.sum(0).astype(np.float64)
    for name in FILTERS:
        try:
            gains = [raw_error[j] / max(best_error(name, raw[j], true[j]), 1e-12) for j in textured]
        except InputError as error:
            tell(str(error))
            continue
        out[name] = [round(float(g), 4) for g in gains]
    if textured.size and 1 < len(data) <= 4:
        j = textured[0]  # minutes a line, more with more detectors: one stands for the case
        try:
            left = ((noise2noise(data[:, j]) - true[j]) ** 2).mean()
            out[NOISE2NOISE] = [round(float(raw_error[j] / left), 4)]
        except InputError as problem:
            tell(str(problem))
    return out


def _evidence(lines: Any, raw_error: np.ndarray, denoised: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Say how many lines' measured interval holds the true dwell gain, and what was published."""
    inside = total = 0
    published: dict[str, int] = {}
    for j, line in enumerate(lines):
        published[line.estimator] = published.get(line.estimator, 0) + 1
        if line.dwell_gain_low is None:
            continue
        gain = raw_error[j] / max(float(((denoised[j] - true[j]) ** 2).mean()), 1e-12)
        total += 1
        inside += line.dwell_gain_low <= gain and (line.dwell_gain_high is None or gain <= line.dwell_gain_high)
    return {"interval_holds": int(inside), "intervals": total, "published": published}
