"""Pixels that are alike in all lines: k-means or non-negative factors of the denoised maps, by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from quietbeam.core.errors import InputError, ServiceError

Method = Literal["kmeans", "nmf"]
MOST = 12
"""Clusters that may be asked for, and lines of colour that people tell apart."""
_TRIED = range(2, 9)
_SAMPLE = 2000
"""Pixels on which numbers of clusters are compared."""
_LEAST = 50
_WEAK = 0.25
"""Silhouette below which clusters are no clusters (Kaufman and Rousseeuw 1990: no substantial structure)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """A division of a map.

    Attributes
    ----------
    labels
        (row, col) number of the cluster from 0 on, the largest first; -1 where nothing is known.
    number
        Clusters there are.
    scores
        Mean silhouette for each number that was tried; empty where the number was given.
    """

    labels: npt.NDArray[np.intp]
    number: int
    scores: dict[int, float]
    notes: tuple[str, ...] = ()


def find_clusters(
    denoised: npt.NDArray[np.floating],
    uncertainty: npt.NDArray[np.floating],
    *,
    method: Method = "kmeans",
    number: int | None = None,
) -> Clusters:
    """Divide a map into clusters.

    Each line is taken as the root of its counts over its spread, so that strong and weak lines weigh alike; lines whose
    spread is no more than their error are left out. Without `number` the one with the largest mean silhouette of
    k-means (Rousseeuw 1987) is taken.

    Parameters
    ----------
    denoised, uncertainty
        (line, row, col), NaN where there is none.

    Raises
    ------
    InputError
        Too few pixels, or no line that varies.
    ServiceError
        scikit-learn is not installed.
    """
    valid = np.isfinite(denoised).all(0) & np.isfinite(uncertainty).all(0)
    n = int(valid.sum())
    if n < _LEAST:
        raise InputError(f"{n} denoised pixels are too few for clusters: it takes {_LEAST}")
    if number is not None and not 2 <= number <= MOST:
        raise InputError(f"{number} clusters: ask for 2 to {MOST}")
    data, left_out = _features(denoised[:, valid], uncertainty[:, valid])
    if not data.shape[1]:
        raise InputError("no line varies more than its error does: there is nothing to divide")
    scores = {} if number else _scores(data)
    chosen = number or max(scores, key=lambda k: scores[k])
    assigned = _kmeans(data, chosen) if method == "kmeans" else _factors(data, chosen)
    order = np.argsort(-np.bincount(assigned, minlength=chosen), kind="stable")
    labels = np.full(valid.shape, -1, np.intp)
    labels[valid] = np.argsort(order)[assigned]
    notes = [f"{left_out} lines are left out: they vary no more than their errors"] if left_out else []
    if scores and scores[chosen] < _WEAK:
        notes.append(f"the clusters run into each other: silhouette {scores[chosen]:.2f}, below {_WEAK}")
    return Clusters(labels=labels, number=len(set(assigned)), scores=scores, notes=tuple(notes))


def _features(
    denoised: npt.NDArray[np.floating], uncertainty: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], int]:
    """Return (pixel, line) features that are not negative, and the number of lines that are left out."""
    kept = [
        np.sqrt(np.maximum(values, 0.0)).astype(np.float64)
        for values, error in zip(denoised, uncertainty, strict=True)
        if float(values.std()) > float(np.sqrt(np.mean(error**2)))
    ]
    spreads = [float(one.std()) for one in kept]
    found = [one / spread for one, spread in zip(kept, spreads, strict=True) if spread > 0]
    return (np.stack(found, axis=1) if found else np.zeros((denoised.shape[1], 0))), len(denoised) - len(found)


def _kmeans(data: npt.NDArray[np.float64], number: int) -> npt.NDArray[np.intp]:
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError as error:
        raise ServiceError("clusters need scikit-learn: pip install 'quietbeam[clusters]'") from error
    found = MiniBatchKMeans(number, random_state=0, n_init=5, batch_size=4096).fit_predict(data)
    return np.asarray(found, np.intp)


def _factors(data: npt.NDArray[np.float64], number: int) -> npt.NDArray[np.intp]:
    """Return the factor that is strongest in each pixel, each relative to its own largest share."""
    if number > data.shape[1]:
        raise InputError(f"{number} factors of {data.shape[1]} lines: ask for fewer, or take kmeans")
    try:
        from sklearn.decomposition import NMF
    except ImportError as error:
        raise ServiceError("clusters need scikit-learn: pip install 'quietbeam[clusters]'") from error
    shares = NMF(number, init="nndsvda", random_state=0, max_iter=500, tol=1e-3).fit_transform(data)
    return np.asarray((shares / np.maximum(shares.max(0), 1e-12)).argmax(1), np.intp)


def _scores(data: npt.NDArray[np.float64]) -> dict[int, float]:
    """Return the mean silhouette of k-means for each number of clusters, on a sample of the pixels."""
    rng = np.random.default_rng(0)
    sample = data[rng.choice(len(data), min(len(data), _SAMPLE), replace=False)]
    scores = {}
    for number in _TRIED:
        labels = _kmeans(sample, number)
        if len(set(labels)) > 1:
            from sklearn.metrics import silhouette_score

            scores[number] = float(silhouette_score(sample, labels))
    if not scores:
        raise InputError("all pixels are alike: there is nothing to divide")
    return scores
