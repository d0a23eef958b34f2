"""Only one ingest writes below a data_dir."""

from __future__ import annotations

import fcntl
import os

from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import Settings


def lock_data_dir(settings: Settings) -> int:
    """Lock data_dir for this process; return the file descriptor, which holds the lock until it is closed.

    Raises
    ------
    ServiceError
        Another ingest writes there.
    """
    path = settings.data_dir / "ingest.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ServiceError(
            f"another ingest writes to {settings.data_dir}; stop it, or give this one its own data_dir"
        ) from error
    return descriptor
