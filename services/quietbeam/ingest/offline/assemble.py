"""A recorded run through ingest without any server: into a scratch buffer, and out as a measured map."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from quietbeam.buffer import RunBuffer
from quietbeam.core import codec
from quietbeam.core.errors import DocumentError, InputError
from quietbeam.core.model.types import RunInfo, RunState
from quietbeam.core.settings import IngestSettings, Settings
from quietbeam.files import MapFile, read_map

from ..documents.delivery import Pending
from ..documents.parse import decode
from ..documents.relocate import Recorded
from ..frames.detector_files import DetectorFiles
from ..profile.schema import BeamlineProfile
from ..run.router import RunRouter

_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run that went through ingest: what has become of it."""

    router: RunRouter

    @property
    def buffer(self) -> RunBuffer | None:
        """The buffer of its map; None when it has none, or several maps."""
        assembly = self.router.assembly
        return assembly.buffer if assembly is not None else None

    @property
    def info(self) -> RunInfo | None:
        """What is known of the map."""
        return self.buffer.info if self.buffer is not None else None

    @property
    def state(self) -> RunState:
        """State of the run."""
        return self.router.condition.state

    @property
    def reason(self) -> str:
        """Why it has that state."""
        return self.router.condition.reason

    @property
    def warnings(self) -> list[str]:
        """Sentences for people."""
        return self.router.condition.warnings


def map_of_documents(
    recorded: Sequence[Recorded], profiles: Sequence[BeamlineProfile], folders: Sequence[Path] = ()
) -> MapFile:
    """Return the map of the first run among documents, as ingest would buffer it.

    Parameters
    ----------
    folders
        Where its detector files may be.

    Raises
    ------
    InputError
        No run, or no map in it; the message says why.
    """
    uid = next((str(doc.get("uid", "")) for name, doc in recorded if name == "start"), "")
    if not uid:
        raise InputError("there is no start document: the recording began in the middle of a run")
    with tempfile.TemporaryDirectory(prefix="quietbeam-offline-") as scratch:
        run, refused = ingest_recorded(recorded, uid, profiles, folders, Path(scratch))
        if run.router.holds_several_maps:
            raise InputError(f"run {uid} is a series of maps: send it through ingest, which makes a run of each map")
        if run.buffer is None or not run.buffer.measured().any() or run.state is RunState.UNUSABLE:
            reasons = "; ".join(reason for reason, _ in refused.most_common(2))
            why = run.reason or reasons or "no pixel was measured"
            raise InputError(why if uid in why else f"run {uid}: {why}")
        file = read_map(run.buffer.path)
    return replace(file, metadata={**file.metadata, "source": uid})


def ingest_recorded(
    recorded: Sequence[Recorded], uid: str, profiles: Sequence[BeamlineProfile], folders: Sequence[Path], scratch: Path
) -> tuple[RecordedRun, Counter[str]]:
    """Give the documents of one run to ingest, its buffer below `scratch`; return it and why documents were refused."""
    limits = IngestSettings(data_roots=tuple(folders), file_timeout=timedelta(seconds=1))
    settings = Settings(data_dir=scratch, ingest=limits)
    files = DetectorFiles([scratch, *folders], max_bytes=limits.max_spectrum_bytes)
    run = RunRouter(uid, settings, profiles, files, source="recording")
    run_of: dict[str, str] = {}
    refused: Counter[str] = Counter()
    for name, doc in recorded:
        try:
            document = decode(name, codec.pack(doc))
            parent = getattr(document, "descriptor", getattr(document, "resource", ""))
            document_run = getattr(document, "run", "") or run_of.get(parent, uid)
            run_of[getattr(document, "uid", "")] = document_run
            if document_run == uid:
                run.handle_document(document, Pending(0, b""), time.monotonic())
        except DocumentError as error:
            refused[str(error)] += 1
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline:
        result = run.poll(time.monotonic())
        refused.update(problem.reason for problem in result.refused)
        if run.idle and (run.stop is None or run.condition.state.ended):
            break
        time.sleep(0.01)
    run.flush()
    files.close()
    return RecordedRun(run), refused
