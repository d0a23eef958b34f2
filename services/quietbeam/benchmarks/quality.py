"""Quality on phantoms with known truth; table and figure of docs/benchmarks are made from what is stored."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from quietbeam.core.errors import InputError
from quietbeam.denoiser.offline import DenoiseResult, denoise
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """Counts with known truth.

    Attributes
    ----------
    data
        (detector, line, row, col).
    true
        (line, row, col).
    raw_error
        Mean squared error of the detector sum, (line,).
    textured
        Indices of the lines with structure.
    """

    data: np.ndarray
    true: np.ndarray
    raw_error: np.ndarray
    textured: np.ndarray


Timed = tuple[DenoiseResult, float]
"""A result and the seconds that it took."""


def machine() -> str:
    """Describe the machine in one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            s.split(":", 1)[1].strip()
            for s in info.read_text(encoding="utf-8").splitlines()
            if s.startswith("model name")
        ]
        name = models[0] if models else name
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {os.cpu_count()} cores, {device}, torch {torch.__version__}"


def run_quality(
    folder: Path, *, extent: Extent, budget_s: float, seed: int, on_message: Callable[[str], object], size: int = 128
) -> Path:
    """Run the cases and write ``quality.json``, ``quality.md`` and, with matplotlib, ``quality.png``.

    Baselines of a case that is already in ``quality.json`` are not computed again: data depend on the seed alone.
    ``budget_s`` below 0 computes baselines only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "quality.json"
    old = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    filters = old.get("yardsticks", {}) if old.get("seed") == seed and old.get("size") == size else {}
    report: dict[str, Any] = {"seed": seed, "size": size, "yardsticks": filters, "machine": machine(), "cases": []}
    option = "" if extent == "standard" else f" --{extent}"
    report["command"] = f"quietbeam benchmark quality{option} --budget {budget_s:g} --seed {seed}"
    for case in CASES[extent]:
        name, lines, detectors, counts = case
        key = f"{name}-{lines}-{detectors}-{counts:g}"
        rng = np.random.default_rng([seed, 424_242, sum(map(ord, key))])
        data, true = expose(rng, PHANTOMS[name](rng, size, lines), counts, detectors)
        specimen = Specimen(
            data=data,
            true=true,
            raw_error=((data.sum(0).astype(np.float64) - true) ** 2).mean((1, 2)),
            textured=np.flatnonzero(true.std((1, 2)) > 1e-6 * counts),
        )
        if key not in filters:
            filters[key] = _score_baselines(specimen, on_message)
        if budget_s >= 0:
            plain, tuned = _denoise(specimen, budget_s, seed)
            row = dict(zip(("phantom", "lines", "detectors", "counts"), case, strict=True))
            report["cases"].append(row | _score(specimen, plain, tuned) | _baseline_gains(filters[key]))
            evidence = tuned[0].evidence
            report |= {"budget_s": budget_s, "model": evidence.model, "model_sha256": evidence.model_sha256}
            on_message(_sentence(report["cases"][-1]))
        stored.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    path = folder / "quality.md"
    if report["cases"]:
        report["figure"] = draw_figure(report, folder / "quality.png")
        path.write_text(make_table(report), encoding="utf-8")
    return path


def _denoise(specimen: Specimen, budget_s: float, seed: int) -> tuple[Timed, Timed]:
    """Denoise without and with fine-tuning."""
    results = []
    for options in (DenoiseOptions(fine_tune=False, seed=seed), DenoiseOptions(budget_s=budget_s, seed=seed)):
        started = time.monotonic()
        result = denoise(specimen.data, options=options)
        results.append((result, time.monotonic() - started))
    return results[0], results[1]


def _score(specimen: Specimen, plain: Timed, tuned: Timed) -> dict[str, Any]:
    """Compare the maps without and with fine-tuning with the truth."""
    steps = tuned[0].evidence.fine_tune_steps
    row: dict[str, Any] = {"plain_s": round(plain[1], 1), "tuned_s": round(tuned[1], 1), "steps": steps}
    for label, (result, _) in (("pretrained", plain), ("fine-tuned", tuned)):
        gain = specimen.raw_error / np.maximum(((result.denoised - specimen.true) ** 2).mean((1, 2)), 1e-12)
        row[label], row[f"{label} worst"] = mean_gain(gain[specimen.textured]), float(gain.min())
        row[f"{label} by line"] = [round(float(g), 3) for g in gain[specimen.textured]]
        # against the total of the counts: the truth itself is known no better than counting allows
        ratio = result.denoised.sum((1, 2)) / np.maximum(specimen.data.sum((0, 2, 3)), 1)
        row[f"{label} total"] = float(np.abs(ratio - 1).max())
    return row | _evidence(tuned[0].evidence.lines, specimen.raw_error, tuned[0].denoised, specimen.true)


def _baseline_gains(filters: dict[str, list[float]]) -> dict[str, Any]:
    by_line = {f"{name} by line": gains for name, gains in filters.items()}
    return by_line | {name: mean_gain(np.array(gains)) for name, gains in filters.items()}


def _sentence(row: dict[str, Any]) -> str:
    case = f"{row['phantom']}, {row['lines']} lines, {row['detectors']} detectors, {row['counts']:g} counts"
    bm3d = f", BM3D {row['BM3D']:.1f}" if "BM3D" in row else ""
    return f"{case}: fine-tuned {row['fine-tuned']:.1f}, pretrained {row['pretrained']:.1f}{bm3d}"


def _score_baselines(specimen: Specimen, on_message: Callable[[str], object]) -> dict[str, list[float]]:
    """Return the dwell gains of other filters, by name, on the lines with structure."""
    data, true, raw_error, textured = specimen.data, specimen.true, specimen.raw_error, specimen.textured
    out, raw = {}, data.sum(0).astype(np.float64)
    for name in FILTERS:
        try:
            gains = [raw_error[j] / max(best_error(name, raw[j], true[j]), 1e-12) for j in textured]
        except InputError as error:
            on_message(str(error))
            continue
        out[name] = [round(float(g), 4) for g in gains]
    if textured.size and 1 < len(data) <= 4:
        j = textured[0]  # minutes a line, more with more detectors: one stands for the case
        try:
            left = ((noise2noise(data[:, j]) - true[j]) ** 2).mean()
            out[NOISE2NOISE] = [round(float(raw_error[j] / left), 4)]
        except InputError as problem:
            on_message(str(problem))
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
