"""The workers of a batch: processes of this machine, those of a Dask scheduler, or jobs of a batch system."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
import psutil

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.settings import BatchSettings
from quietbeam.core.version import __version__

from .preload import be_quiet

GPU = {"GPU": 1}
"""What a worker with a GPU offers, and what a file that wants one takes: `dask worker --resources GPU=1`."""
_GIB_PER_WORKER = 4
_ANSWERS_S, _WORKERS_S = 10, 120
_CLUSTERS = {
    "slurm": ("SLURMCluster", "sbatch"),
    "lsf": ("LSFCluster", "bsub"),
    "htcondor": ("HTCondorCluster", "condor_submit"),
}
_CONFIG = {
    # A map is most of the memory of a worker, and no task result: moving results to disk or waiting frees nothing.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
}


@contextmanager
def workers(settings: BatchSettings, *, files: int, device: str, say: Callable[[str], object]) -> Iterator[Any]:
    """Yield a client of Dask whose workers run this version of quietbeam.

    Parameters
    ----------
    files
        Number of files: no more processes of this machine are started.
    device
        As of `quietbeam denoise`; processes of this machine share its GPUs.
    say
        Told what is waited for.

    Raises
    ------
    InputError
        The options of the jobs are wrong.
    ServiceError
        The scheduler does not answer, has no workers, or has workers of another version.
    """
    dask.config.set(_CONFIG)
    from distributed import Client

    be_quiet()  # what goes wrong is said in words of our own

    with ExitStack() as stack:
        if settings.scheduler:
            client = _connected(settings.scheduler)
        elif settings.cluster:
            cluster = stack.enter_context(_jobs(settings))
            client = Client(cluster)
        else:
            cluster = stack.enter_context(_processes(settings.workers, files, device))
            client = Client(cluster)
        stack.callback(client.close)
        _await_first(client, settings, say)
        check_versions(client)
        yield client


def _connected(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout=_ANSWERS_S)
    except (OSError, ValueError, TypeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ServiceError(
            f"no Dask scheduler answers at {address} ({why})",
            remedy="start one with `dask scheduler`, or leave --scheduler out to use this machine",
        ) from error


@contextmanager
def _processes(wanted: int | None, files: int, device: str) -> Iterator[Any]:
    """Yield a cluster of processes of this machine, each of one file at a time, safe from other users of it (TLS)."""
    from distributed import LocalCluster

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = _gpus(device)
    fitting = max(1, min(cores, psutil.virtual_memory().available // (_GIB_PER_WORKER * 2**30)))
    count = max(1, min(wanted or gpus or fitting, files))
    with LocalCluster(
        n_workers=count,
        threads_per_worker=max(1, cores // count),
        processes=True,
        dashboard_address=None,
        preload=["quietbeam.batch.preload"],
        security=True,
        resources=GPU if gpus else None,
    ) as cluster:
        yield cluster


def _gpus(device: str) -> int:
    """Return the number of GPUs that would be used."""
    import torch

    return torch.cuda.device_count() if device == "auto" or device.startswith("cuda") else 0


@contextmanager
def _jobs(settings: BatchSettings) -> Iterator[Any]:
    """Yield a cluster whose workers are jobs of a batch system."""
    try:
        import dask_jobqueue
    except ImportError as error:
        raise InputError(
            "the setting batch.cluster stands on dask-jobqueue, which is not installed",
            remedy="pip install 'quietbeam[batch]'",
        ) from error
    kind, program = _CLUSTERS[settings.cluster or ""]
    if shutil.which(program) is None:
        raise ServiceError(f"there is no {program} on this machine: start the batch where jobs can be submitted")
    try:
        cluster = getattr(dask_jobqueue, kind)(**settings.options)
    except (TypeError, ValueError) as error:
        raise InputError(f"the setting batch.options is wrong for {kind} of dask-jobqueue: {error}") from error
    with cluster:
        cluster.scale(jobs=settings.workers or 1)
        yield cluster


def _await_first(client: Any, settings: BatchSettings, say: Callable[[str], object]) -> None:
    """Return when there is a worker; jobs of a batch system may wait in their queue for any time."""
    if settings.cluster:
        say(f"waiting for {settings.cluster} to start the first job")
    try:
        client.wait_for_workers(1, timeout=None if settings.cluster else _WORKERS_S)
    except TimeoutError as error:
        where = f"the Dask scheduler at {settings.scheduler}" if settings.scheduler else "this machine"
        raise ServiceError(
            f"{where} has had no worker for {_WORKERS_S} s", remedy="start some with `dask worker ADDRESS`"
        ) from error


def check_versions(client: Any) -> None:
    """Raise where a worker runs another version of quietbeam or Python, or has none.

    Raises
    ------
    ServiceError
        Names the workers with their versions.
    """
    found = client.get_versions(packages=["quietbeam"])
    python = found["client"]["packages"]["python"].split(".")[:2]
    wrong = []
    for address, info in sorted(found["workers"].items()):
        packages = info["packages"]
        if packages.get("quietbeam") != __version__:
            wrong.append(
                f"{address} has {'quietbeam ' + packages['quietbeam'] if packages.get('quietbeam') else 'none'}"
            )
        elif packages["python"].split(".")[:2] != python:
            wrong.append(f"{address} has Python {'.'.join(packages['python'].split('.')[:2])}")
    if wrong:
        raise ServiceError(
            f"workers must have quietbeam {__version__} and Python {'.'.join(python)}: {'; '.join(wrong)}",
            remedy="install the same environment on every machine",
        )


def offers(client: Any, device: str) -> Mapping[str, int] | None:
    """Return the resources that every file takes: a GPU where one is asked for, or where every worker has one.

    Raises
    ------
    ServiceError
        A GPU is asked for, and no worker offers one.
    """
    have = ["GPU" in info.get("resources", {}) for info in client.scheduler_info(n_workers=-1)["workers"].values()]
    if device.startswith("cuda") and not any(have):
        raise ServiceError(
            f"no worker offers a GPU for --device {device}", remedy="start them with `dask worker --resources GPU=1`"
        )
    return GPU if any(have) and (device.startswith("cuda") or all(have)) else None


def slots(client: Any, resources: Mapping[str, int] | None) -> int:
    """Return how many files can be worked on at once: one a worker."""
    found = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(1 for info in found if not resources or "GPU" in info.get("resources", {}))
