"""Parts of quietbeam whose packages are not installed: an error that names the extra which brings them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str, part: str) -> Iterator[None]:
    """Say which extra is missing when an import inside fails.

    Parameters
    ----------
    name
        Extra of quietbeam that has the packages.
    part
        What needs them, as the message begins.

    Raises
    ------
    ModuleNotFoundError
        A package of others is missing; the message has the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if is_own(error):
            raise
        package = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(
            f"{part} needs the package {package!r}, which is not installed: pip install 'quietbeam[{name}]'",
            name=error.name,
        ) from error


def is_own(error: ModuleNotFoundError) -> bool:
    """True where no package of others is missing: a module of quietbeam is, or nobody knows which."""
    return error.name is None or error.name.partition(".")[0] in ("quietbeam", "quietbeam_models")
