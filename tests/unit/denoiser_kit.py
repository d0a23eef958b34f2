"""Specimens, counts and sessions for the denoiser's tests."""

import numpy as np

from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.denoiser.session import DenoiseSession

OPTIONS = DenoiseOptions(device="cpu", threads=1, final_flips=1)
GAINS = np.array([0.31, 0.27, 0.24, 0.18])


def specimen(size: int = 40) -> np.ndarray:
    """Three lines of a disc, its rim and a flat: (line, row, col), mean about 1."""
    r, c = np.mgrid[0:size, 0:size] - size / 2 + 0.5
    disc = 1 / (1 + np.exp((np.hypot(r, c) - size / 3.2) / 0.7))
    return np.stack([0.1 + 2.2 * disc, 0.4 + 1.5 * disc * (r > 0), np.ones((size, size))])


def draw(rate: np.ndarray, gains=GAINS, seed: int = 0) -> np.ndarray:
    gains = np.asarray(gains) / np.sum(gains)
    return np.random.default_rng(seed).poisson(gains[:, None, None, None] * rate).astype(np.uint32)


def session_of(counts: np.ndarray, kind="counts", measured=None, options=OPTIONS) -> DenoiseSession:
    n_det, n_line, rows, cols = counts.shape
    session = DenoiseSession(
        lines=[f"L{j}_Ka" for j in range(n_line)],
        detectors=[f"det{k}" for k in range(n_det)],
        shape=(rows, cols),
        kind=kind,
        options=options,
    )
    session.add_rows(0, counts, np.ones((rows, cols), bool) if measured is None else measured)
    return session
