"""quietbeam: denoise X-ray fluorescence maps while the scan runs.

::

    result = quietbeam.denoise(counts, lines=["P_K", "Fe_Ka"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quietbeam import _moved
from quietbeam.core.version import __version__

if TYPE_CHECKING:
    from quietbeam.denoiser.offline import DenoiseResult, denoise
    from quietbeam.denoiser.options import DenoiseOptions

__all__ = ["DenoiseOptions", "DenoiseResult", "__version__", "denoise"]

_moved.install()


def __getattr__(name: str) -> Any:
    """Load the denoiser (and torch) only when it is used."""
    if name in ("denoise", "DenoiseOptions", "DenoiseResult"):
        from quietbeam.denoiser import offline

        return getattr(offline, name)
    raise AttributeError(f"module 'quietbeam' has no attribute {name!r}")
