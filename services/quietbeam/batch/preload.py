"""What a worker process of this machine does first: it leaves Ctrl-C to the batch, and errors to the report."""

from __future__ import annotations

import signal

import dask
from distributed.config import initialize_logging


def be_quiet() -> None:
    """Leave out the logs of Dask in this process."""
    initialize_logging({**dask.config.global_config, "logging": {"distributed": "critical"}})


def dask_setup(_worker: object) -> None:
    """Prepare the process; Dask calls this in its main thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    be_quiet()
