"""What `quietbeam denoise` and `quietbeam replay` take: a file, a recording, a run in Tiled."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from quietbeam.core.errors import InputError, ServiceError

if TYPE_CHECKING:
    from quietbeam.core.settings import Settings
    from quietbeam.files import MapFile, ReadChoice

_ORDERS = {
    "verified": "verified by positions",
    "from_positions": "taken from positions",
    "assumed": "assumed: no positions confirm it",
}
_UID = re.compile(r"[0-9a-zA-Z_-]{6,64}")


def read_source(
    source: str,
    settings: Settings,
    *,
    lines: list[str],
    calibration: Path | None = None,
    tiled: str = "",
    fit: bool = False,
    profiles: Sequence[str] = (),
    choice: ReadChoice | None = None,
) -> tuple[MapFile, str]:
    """Return a map and the name of what it came from.

    Parameters
    ----------
    source
        A path, ``http://...`` of a node in Tiled, or a uid that is looked up in Tiled.
    tiled
        Tiled, or a catalog in it, for uids; by default the one of the settings.
    fit
        Fit the spectra of a file.
    profiles
        How runs are read; by default as the settings say.
    choice
        What to read of a file that leaves a choice.

    Raises
    ------
    InputError
        It cannot be used; the message says why.
    """
    from quietbeam.files import read_map
    from quietbeam.ingest.documents.recording import is_recording, read_recording, relocate
    from quietbeam.ingest.offline.assemble import map_of_documents
    from quietbeam.ingest.profile.schema import load_profile

    path = Path(source)
    read_by = [load_profile(name) for name in profiles or settings.ingest.profiles]
    if "://" not in source and (path.exists() or not _UID.fullmatch(source)):
        if not (path.is_file() and is_recording(path)):
            return read_map(path, lines, calibration, fit=fit, choice=choice), path.name
        _no_options_of_files(source, fit, calibration, choice)
        folder = path.parent.resolve()
        recorded = relocate(read_recording(path).documents, [folder])
        file = map_of_documents(recorded, read_by, [folder])
        return file.select(lines) if lines else file, path.name
    from quietbeam.ingest.documents.from_tiled import documents_of, opened, published_map

    _no_options_of_files(source, fit, calibration, choice)
    uri, key, paths = tiled_address(source, settings, tiled)
    with ExitStack() as stack:
        try:
            node = stack.enter_context(opened(uri, key, *paths))
        except (InputError, ServiceError) as error:
            if "://" in source or tiled:
                raise
            raise type(error)(f"there is no file {source}, and it was not found in Tiled as a run: {error}") from error
        file = published_map(node) or map_of_documents(documents_of(node), read_by)
    return file.select(lines) if lines else file, str(file.metadata["source"])


@contextmanager
def errors_showing(command: str, source: str) -> Iterator[None]:
    """Show `command`, as ``quietbeam replay map.h5``, in errors whose text shows how a file would be denoised."""
    from quietbeam.files import command_line

    try:
        yield
    except InputError as error:
        text = str(error)
        shown = text.replace(command_line(Path(source)), command).replace(command_line(source), command)
        if shown == text:
            raise
        raise type(error)(shown) from error


def remarks_of(file: MapFile) -> list[str]:
    """Return sentences on how a map was read: what was chosen, which I0, how the order of the pixels is known."""
    found = [file.remark] if file.remark else []
    if "I0" not in file.remark:
        found.append("I0 of the input is used" if file.i0 is not None else "no I0 is used: the input has none")
    if file.order:
        found.append(f"the order of the pixels is {_ORDERS[file.order]}")
    return found


def _no_options_of_files(source: str, fit: bool, calibration: Path | None, choice: ReadChoice | None) -> None:
    """Raise where an option for files was given with a run, which its profile describes."""
    from quietbeam.files import command_line

    given = [*(["--fit"] if fit else []), *(["--calibration"] if calibration is not None else [])]
    if given:
        raise InputError(
            f"{source} is a run, whose profile says how lines are cut out: {given[0]} is for files of spectra",
            remedy=f"leave it out, as in: {command_line(source)}",
        )
    chosen = [option.split()[0] for option in choice.options()] if choice is not None else []
    if chosen:
        raise InputError(
            f"{source} is a run, which is read as its profile says: {', '.join(chosen)} is for files",
            remedy=f"write a profile, as in: {command_line(source, '--profile mine.yaml')}",
        )


def tiled_address(source: str, settings: Settings, tiled: str) -> tuple[str, str | None, list[tuple[str, ...]]]:
    """Return address and key of Tiled, and where in it the run may be: at the top, or in our own container."""
    if "://" not in source and not tiled:
        return settings.tiled_uri, settings.tiled_api_key(), [(source,), (settings.tiled.root, source)]
    given = settings.tiled.api_key
    key = given.get_secret_value() if given else os.environ.get("TILED_API_KEY")
    tiled_root = settings.tiled_uri.removesuffix("/").removesuffix("/api/v1")
    if key is None and not settings.tiled.uri and f"{tiled or source}/".startswith(f"{tiled_root}/"):
        key = settings.tiled_api_key()
    return (source, key, []) if "://" in source else (tiled, key, [(source,), (settings.tiled.root, source)])
