"""One file of a batch, in a worker: read, denoised, written; every error becomes a line of the report."""

from __future__ import annotations

import errno
import shlex
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from distributed import get_worker

from quietbeam.core.errors import MapTooLargeError, QuietbeamError, ServiceError, WeightsError
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.process.failpoint import failpoint
from quietbeam.core.secrets import masked
from quietbeam.core.settings import load_settings
from quietbeam.core.version import __version__
from quietbeam.denoiser.estimators.networks import pretrained
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import check_target
from quietbeam.files.target import is_our_hdf5, is_our_zarr

from .offline import Reading, Writing, denoise_map, how_it_was_made
from .record import key_of, read_record, write_record
from .source import errors_showing, remarks_of

Status = Literal["done", "done before", "left out", "failed", "out of memory", "disk full"]
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_one_at_once = threading.Lock()
"""Two maps in one process would share its memory, and set each other's number of threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A file, and what is to be made of it.

    Attributes
    ----------
    source, target
        What is read, and the file that is written.
    config
        Settings of the worker's machine: path or name.
    weights_sha256
        Of the weights; those of the worker must be the same.
    version
        Of quietbeam where the batch was started.
    """

    source: str
    target: Path
    reading: Reading
    writing: Writing
    options: DenoiseOptions
    config: str | None
    weights_sha256: str
    version: str = __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A line of the report.

    Attributes
    ----------
    status
        ``out of memory`` and ``disk full`` are for the batch; the report calls them failed.
    lines
        Number of emission lines.
    dwell_gain
        Median over the lines that were tested; None where none was.
    verdicts
        Number of lines by verdict.
    seconds
        From the start of the file in its worker to its end.
    remarks
        How the file was read, and what the denoiser remarks.
    """

    source: str
    target: str = ""
    status: Status
    lines: int = 0
    dwell_gain: float | None = None
    verdicts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""
    remarks: tuple[str, ...] = ()


def run_job(job: Job, threads: int | None = None) -> Outcome:
    """Return what has become of a file. Only the death of the process ends it otherwise.

    Parameters
    ----------
    threads
        Of a CPU; by default those of the Dask worker in which this runs, else the free cores.
    """
    began = time.monotonic()
    try:
        with _one_at_once:
            began = time.monotonic()
            failpoint(f"batch_{Path(job.source).name}")
            outcome = _run(job, _worker_threads() if threads is None else threads)
    except Exception as error:
        status, text = _what_failed(error)
        outcome = Outcome(source=job.source, target=str(job.target), status=status, error=masked(text))
    return replace(outcome, seconds=round(time.monotonic() - began, 3))


def _run(job: Job, threads: int | None) -> Outcome:
    empty = Outcome(source=job.source, target=str(job.target), status="left out")
    if job.version != __version__:
        raise ServiceError(f"this worker runs quietbeam {__version__}, the batch was started by {job.version}")
    path = Path(job.source)
    if (path.is_dir() and is_our_zarr(path)) or (path.is_file() and is_our_hdf5(path)):
        return replace(empty, error="is a result of quietbeam: what is denoised must be measured")
    site = load_settings(job.config)
    _check_weights(job)
    check_target(job.target, job.writing.format, path)
    began = time.monotonic()
    with errors_showing(f"quietbeam batch {shlex.quote(job.source)} -o FOLDER", job.source):
        file, name = job.reading.read(job.source, site)
    key = key_of(file, job.options, job.weights_sha256, job.writing, site)
    if record := read_record(job.target, key):
        return Outcome(**{**record["outcome"], "status": "done before", "remarks": tuple(record["outcome"]["remarks"])})
    job.writing.check(site, file)
    options = replace(job.options, threads=threads, device=_device(job.options.device))
    result = denoise_map(file, options)
    settings = how_it_was_made(job.source, job.options)
    notes = job.writing.write(job.target, result, name, settings, file, site)
    done = _done(empty, result.evidence, [*remarks_of(file), *notes])
    write_record(job.target, key, asdict(replace(done, seconds=round(time.monotonic() - began, 3))))
    return done


def _done(empty: Outcome, evidence: RunEvidence, remarks: list[str]) -> Outcome:
    gains = [line.dwell_gain for line in evidence.lines if line.dwell_gain is not None]
    return replace(
        empty,
        status="done",
        lines=len(evidence.lines),
        dwell_gain=round(median(gains), 3) if gains else None,
        verdicts=dict(Counter(line.verdict for line in evidence.lines)),
        remarks=(*remarks, *evidence.notes),
    )


def _check_weights(job: Job) -> None:
    """Raise where the weights of this machine are others."""
    found = pretrained(job.options.weights)
    if found.sha256 != job.weights_sha256:
        raise WeightsError(
            f"the weights {found.name} of this worker have the checksum {found.sha256[:12]}, those of the batch "
            f"{job.weights_sha256[:12]}: install the same on every machine"
        )


def _device(name: str) -> str:
    """Return one GPU of several: that of the number by which this machine names its worker."""
    from torch.cuda import device_count

    if name not in ("auto", "cuda") or device_count() < 2:
        return name
    with suppress(ValueError):
        number = get_worker().name
        return f"cuda:{number % device_count()}" if isinstance(number, int) else name
    return name


def _worker_threads() -> int | None:
    """Return the threads that this Dask worker was given; None outside of one."""
    try:
        return int(get_worker().state.nthreads)
    except ValueError:
        return None


def _what_failed(error: Exception) -> tuple[Status, str]:
    from torch import OutOfMemoryError

    if isinstance(error, MemoryError | MapTooLargeError | OutOfMemoryError):
        return "out of memory", str(error) or "no memory is left"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return "disk full", str(error)
        cause = cause.__cause__
    if isinstance(error, QuietbeamError):
        return "failed", str(error)
    return "failed", f"{type(error).__name__}: {error}"


def as_row(outcome: Outcome) -> dict[str, Any]:
    """Return the columns of the report."""
    verdicts = ", ".join(f"{n} {verdict.replace('_', ' ')}" for verdict, n in sorted(outcome.verdicts.items()))
    return {
        "file": outcome.source,
        "lines": outcome.lines or "",
        "dwell gain": "" if outcome.dwell_gain is None else f"{outcome.dwell_gain:.2f}",
        "verdict": verdicts,
        "seconds": f"{outcome.seconds:.1f}",
        "status": outcome.status,
        "error": outcome.error,
    }
