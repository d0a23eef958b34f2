"""One map: from what was read to what is written; `quietbeam denoise` and a worker of a batch do the same."""

from __future__ import annotations

from pathlib import Path

from quietbeam.core.errors import InputError


def find_weights(name: str, folder: Path) -> str:
    """Return the weights of that name, or the file of that path.

    Raises
    ------
    InputError
        There are no such weights.
    """
    from quietbeam_models.weights import installed_weights

    available = installed_weights(folder)
    if name and name not in available and not name.endswith(".safetensors"):
        raise InputError(f"no weights {name!r}; there are {', '.join(available)}, or name a .safetensors file")
    return str(available.get(name, name))
