"""quietbeam: denoise X-ray fluorescence maps while the scan runs.

::

    result = quietbeam.denoise(counts, lines=["P_K", "Fe_Ka"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quietbeam import _moved
from quietbeam._extras import extra

if TYPE_CHECKING:
    from quietbeam.core.version import __version__
    from quietbeam.denoiser.offline import DenoiseResult, denoise
    from quietbeam.denoiser.options import DenoiseOptions

__all__ = ["DenoiseOptions", "DenoiseResult", "__version__", "denoise"]

_moved.install()


def __getattr__(name: str) -> Any:
    """Load the denoiser (and torch) only when it is used; the version, because looking it up takes time."""
    if name in ("denoise", "DenoiseOptions", "DenoiseResult"):
        with extra("denoise", f"quietbeam.{name}"):
            from quietbeam.denoiser import offline

        return getattr(offline, name)
    if name == "__version__":
        from quietbeam.core.version import __version__

        return __version__
    raise AttributeError(f"module 'quietbeam' has no attribute {name!r}")
