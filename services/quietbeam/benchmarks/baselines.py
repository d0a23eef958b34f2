"""Filters of other packages, tuned with the truth (which no user can do), as baselines of the benchmark."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quietbeam.core.errors import InputError

Image = NDArray[np.float64]
Filter = Callable[[Image, float], Image]


def anscombe(counts: Image) -> Image:
    """Return ``2 sqrt(counts + 3/8)``."""
    return 2 * np.sqrt(np.maximum(counts, 0) + 0.375)


def unbiased_inverse(root: Image) -> Image:
    """Return the exact unbiased inverse of Anscombe's transform in closed form (Makitalo and Foi 2011)."""
    d = np.maximum(root, 2 * np.sqrt(0.375))
    s = np.sqrt(1.5)
    return np.maximum(d**2 / 4 + s / 4 / d - 11 / 8 / d**2 + 5 / 8 * s / d**3 - 1 / 8, 0)


def gaussian(counts: Image, width: float) -> Image:
    """Gaussian on counts."""
    return ndimage.gaussian_filter(counts, width, mode="reflect")


def median(counts: Image, size: float) -> Image:
    """Median of a square on counts."""
    return ndimage.median_filter(counts, int(size))


def total_variation(counts: Image, weight: float) -> Image:
    """Chambolle's total variation on the Anscombe transform."""
    from skimage.restoration import denoise_tv_chambolle

    return unbiased_inverse(denoise_tv_chambolle(anscombe(counts), weight=weight))


def non_local_means(counts: Image, strength: float) -> Image:
    """Non-local means on the Anscombe transform."""
    from skimage.restoration import denoise_nl_means

    root = anscombe(counts)
    return unbiased_inverse(denoise_nl_means(root, patch_size=5, patch_distance=9, h=strength, sigma=1.0))


def bm3d(counts: Image, sigma: float) -> Image:
    """BM3D on the Anscombe transform; its licence allows it as a baseline only."""
    import bm3d as package

    root = anscombe(counts)
    low, high = root.min(), root.max()
    scale = max(float(high - low), 1e-6)
    return unbiased_inverse(package.bm3d((root - low) / scale, sigma_psd=sigma / scale) * scale + low)


FILTERS: dict[str, tuple[Filter, Iterable[float]]] = {
    "gaussian*": (gaussian, (0.5, 0.8, 1.2, 1.8, 2.6, 4.0, 7.0)),
    "median*": (median, (3, 5, 7)),
    "TV*": (total_variation, (0.3, 0.7, 1.2, 2.0, 3.5, 6.0)),
    "NLM*": (non_local_means, (0.4, 0.7, 1.0, 1.4, 2.0)),
    "BM3D": (bm3d, (1.0,)),
}
"""``*``: the best parameter of the list is chosen with the truth, line by line."""


NOISE2NOISE = "N2N, first line"
NOISE2NOISE_EPOCHS = 200


def noise2noise(detectors: NDArray[np.floating]) -> Image:
    """Return auto-denoise's Noise2Noise of one line, detectors (detector, row, col): the detector sum (row, col).

    A U-Net from scratch, each detector against the mean of the others, as its documentation does it.

    Raises
    ------
    InputError
        When auto-denoise is not installed.
    """
    import contextlib
    import io

    import torch

    try:
        from autoden import N2N
        from autoden.models.config import NetworkParamsUNet
    except ImportError as error:
        raise InputError("auto-denoise needs the bench extra: pip install 'quietbeam[bench]'") from error
    torch.manual_seed(0)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        denoiser = N2N(model=NetworkParamsUNet(n_features=16), verbose=False)
        inputs, targets, mask = denoiser.prepare_data(detectors.astype(np.float32))
        denoiser.train(inputs, targets, mask, epochs=NOISE2NOISE_EPOCHS)
        mean = denoiser.infer(inputs)
    return np.asarray(mean, np.float64) * len(detectors)


def best_error(name: str, counts: Image, true: Image) -> float:
    """Return the least mean squared error of a filter over its parameters, one line (row, col).

    Raises
    ------
    InputError
        When the package of a filter is not installed.
    """
    run, parameters = FILTERS[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return min(float(((run(counts, p) - true) ** 2).mean()) for p in parameters)
    except ImportError as error:
        raise InputError(f"{name} needs the bench extra: pip install 'quietbeam[bench]'") from error
