"""The runs in the memory of ingest: opened by their first document, forgotten when they have ended."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from quietbeam.core.errors import DocumentError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire.runs import RunStatus

from ..documents.delivery import Pending
from ..documents.model import Descriptor, Document, Resource
from ..documents.parse import decode
from ..frames.detector_files import DetectorFiles
from ..profile.schema import load_profile
from ..run.router import RunRouter
from .context import Context, ContextStore
from .status import Shown

log = structlog.get_logger()

FORGET_S = 60.0
MAX_OPEN_RUNS = 256
MAX_UIDS = 100_000


@dataclass(slots=True, kw_only=True)
class OpenRun:
    """What ingest has of one run.

    Attributes
    ----------
    router
        Its documents and maps.
    context
        The documents that another process would need to go on with it.
    shown
        What stands in Redis of the run, or of each of its maps, by uid.
    """

    router: RunRouter
    context: Context
    shown: dict[str, Shown] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """Run uid."""
        return self.router.uid


class RunRegistry:
    """Finds the run of a document; opens and forgets runs.

    Parameters
    ----------
    settings
        Profiles, limits, folders.
    contexts
        Where the documents of runs of earlier processes are.
    """

    def __init__(self, settings: Settings, contexts: ContextStore) -> None:
        self._settings, self._contexts = settings, contexts
        self._profiles = [load_profile(name) for name in settings.ingest.profiles]
        roots = [settings.data_dir, *settings.ingest.data_roots]
        self._files = DetectorFiles(
            roots, max_bytes=settings.ingest.max_spectrum_bytes, path_map=settings.ingest.path_map
        )
        self._runs: dict[str, OpenRun] = {}
        self._run_of: OrderedDict[str, str] = OrderedDict()

    def __iter__(self) -> Iterator[OpenRun]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, uid: str) -> OpenRun | None:
        """Return a run that is open."""
        return self._runs.get(uid)

    def uid_of(self, document: Document, run: str) -> str:
        """Return the run of a document, '' when neither it nor the transport (`run`) nor an earlier document says it.

        Raises
        ------
        DocumentError
            The uid cannot be the name of a folder.
        """
        uid: str = getattr(document, "run", "") or run
        defines = isinstance(document, Descriptor | Resource)
        refers_to = getattr(document, "descriptor", getattr(document, "resource", ""))
        if not uid:
            return self._run_of.get(getattr(document, "uid", "") if defines else refers_to, "")
        if len(uid) > 64 or not uid.replace("-", "").replace("_", "").isalnum() or not uid.isascii():
            raise DocumentError(f"run uid {uid[:80]!r} is not allowed: use letters, digits, '-' and '_' (at most 64)")
        if isinstance(document, Descriptor | Resource):
            self._remember(document.uid, uid)
        return uid

    def _remember(self, defined: str, run: str) -> None:
        self._run_of[defined] = run
        while len(self._run_of) > MAX_UIDS:
            self._run_of.popitem(last=False)

    def index_descriptors(self, uid: str) -> None:
        """Let documents that name only a descriptor or resource of this run be found to be its."""
        for defined in self._contexts.defined_uids(uid):
            self._remember(defined, uid)

    def open(self, uid: str, source: str, status: RunStatus | None) -> OpenRun:
        """Open a run with what an earlier process kept of it.

        Parameters
        ----------
        source
            Transport of its first document.
        status
            What Redis shows of it.
        """
        router = RunRouter(uid, self._settings, self._profiles, self._files, source=source)
        context = self._contexts.load(uid)
        now = time.monotonic()
        for name, payload in context.items():
            kind = name.split(":", 2)[1]
            try:
                document = decode(kind, payload)
                self.uid_of(document, uid)
                router.handle_document(document, Pending(0, b""), now)
            except DocumentError as error:
                log.warning("context_refused", run=uid, name=kind, error=str(error))
        if context and status is not None:
            router.condition.restore(status.state, status.warnings)
        if router.assembly is not None:
            router.assembly.buffer.sweep_partials()
        run = self._runs[uid] = OpenRun(router=router, context=context)
        return run

    def forgettable(self) -> list[OpenRun]:
        """Return the runs that ended some time ago, and those silent for longest when too many are open.

        Each of them comes back from its context when another document of it arrives.
        """
        now = time.monotonic()
        found: list[OpenRun] = []
        for run in sorted(self._runs.values(), key=lambda run: run.router.condition.last_document):
            condition = run.router.condition
            over = len(self._runs) - len(found) >= MAX_OPEN_RUNS
            quiet = condition.state.ended or condition.state is RunState.STALE
            if ((quiet and now - condition.last_document > FORGET_S) or over) and run.router.idle:
                found.append(run)
        return found

    def drop(self, uid: str) -> None:
        """Remove a run from memory."""
        run = self._runs.pop(uid, None)
        if run is not None:
            run.router.end_writing()

    def end_writing(self) -> None:
        """Everything of all runs is on disk."""
        for run in self:
            run.router.end_writing()

    def release(self, uid: str) -> bool:
        """Remove a run, or one map of a run, that is to be deleted; False while something of it is not on disk."""
        if any(run.router.maps is not None and not run.router.maps.drop(uid) for run in self._runs.values()):
            return False
        run = self._runs.get(uid)
        if run is not None and not run.router.idle:
            return False
        self.drop(uid)
        return True

    def close(self) -> None:
        """Close the detector files."""
        self._files.close()
