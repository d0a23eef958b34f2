"""Which programs run on this machine: the servers that are embedded, then the stages."""

from __future__ import annotations

import http.client
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import redis
import yaml

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import connect
from quietbeam.embedded import tiled_server, valkey, zmq_proxy

from .child import Program

STAGES = ("ingest", "worker", "publish", "serve")
"""In the order of the data; they are stopped in this order too, so that each can drain into the next."""
_STAGE_PATIENCE_S = {"ingest": 10.0, "worker": 20.0, "publish": 20.0, "serve": 8.0}
_REDIS_RETRY_S = 4.0
"""Valkey ends when its disk is full, starts in a moment, and everything waits for it."""


def programs(settings: Settings, config: str) -> list[Program]:
    """Return what must run for `settings`; `config` is what the children get as ``-c``."""

    def quietbeam(*arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "quietbeam", *arguments, "-c", config)

    found: list[Program] = []
    needs: tuple[str, ...] = ()
    if settings.redis_is_embedded:
        needs = ("redis",)
        found.append(
            Program(
                name="redis",
                argv=valkey.command(settings),
                ready=lambda _: valkey.is_ready(settings),
                before=lambda: valkey.stop_orphan(settings),
                server=True,
                retry_s=_REDIS_RETRY_S,
            )
        )
    if not settings.tiled.uri:
        tiled_server.check_folder(settings.data_dir)
        address = urlsplit(settings.tiled_uri)
        found.append(
            Program(
                name="tiled",
                argv=quietbeam("_tiled"),
                ready=lambda _: _answers(address.hostname or "", address.port or 80, "/healthz"),
                server=True,
            )
        )
    if sides := zmq_proxy.addresses(settings):
        found.append(
            Program(
                name="zmq",
                argv=quietbeam("_zmq-proxy"),
                ready=lambda _: all(listens(side) for side in sides),
                server=True,
            )
        )

    def serves(_pid: int) -> bool:
        return _answers(_reachable(settings.serve.host), settings.serve.port, "/healthz")

    beats = _heartbeat(settings.redis_url)
    found += [
        Program(
            name=stage,
            argv=quietbeam(stage),
            ready=serves if stage == "serve" else beats,
            needs=needs,
            patience_s=_STAGE_PATIENCE_S[stage],
        )
        for stage in STAGES
    ]
    return found


def beating(settings: Settings, stage: str) -> bool:
    """Return True when a stage, wherever it runs, gave a sign of life in the last seconds."""
    if stage == "serve":
        return _answers(_reachable(settings.serve.host), settings.serve.port, "/healthz")
    connection = connect(settings.redis_url)
    try:
        return bool(connection.exists(keys.stage(stage)))
    except redis.RedisError:
        return False
    finally:
        connection.close()


def listeners(settings: Settings) -> Mapping[str, tuple[str, int]]:
    """Return setting -> (host, port) for everything that will listen."""
    found = {"serve.port": (settings.serve.host, settings.serve.port)}
    if not settings.tiled.uri:
        found["embedded.tiled_port"] = ("127.0.0.1", settings.embedded.tiled_port)
    if sides := zmq_proxy.addresses(settings):
        found["embedded.zmq_in"], found["embedded.zmq_out"] = map(_host_port, sides)
    return found


def serves_quietbeam(settings: Settings) -> bool:
    """Return True when a quietbeam with our key answers at the port of `serve`; one with another key is not ours."""
    kept = settings.secrets_dir / "api_key"
    if settings.serve.api_key is None and not kept.is_file():
        return False
    client = http.client.HTTPConnection(_reachable(settings.serve.host), settings.serve.port, timeout=2.0)
    try:
        client.request("GET", "/healthz")  # the key goes to no other server
        answer = client.getresponse()
        answer.read()
        if answer.getheader("X-Quietbeam-Version") is None:
            return False
        headers = {"Authorization": f"Apikey {settings.serve_api_key()}"}
        client.request("GET", "/api/v1/auth/whoami", headers=headers)
        return client.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


def check_ports(settings: Settings, *, patience_s: float = 3.0, only: tuple[str, ...] = ()) -> None:
    """Make sure that every port (or `only` those of some settings) is free; processes that just end get a moment.

    Raises
    ------
    ServiceError
        A port is taken, with the setting that changes it.
    """
    deadline = time.monotonic() + patience_s
    for setting, (host, port) in listeners(settings).items():
        if only and setting not in only:
            continue
        if port == 0:
            raise InputError(f"{setting} is 0", remedy="give a port, so that clients know where to connect")
        while (reason := _port_in_use(host, port)) and time.monotonic() < deadline:
            time.sleep(0.1)
        if reason:
            variable = "QUIETBEAM_" + setting.upper().replace(".", "__")
            raise ServiceError(
                f"cannot listen on {host}:{port} ({reason})",
                remedy=f"stop what runs there, or change {setting} in the config (or {variable} in the environment)",
            )


def _port_in_use(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _host_port(side: str) -> tuple[str, int]:
    host, _, port = side.rstrip("/").rpartition(":")
    return host.rpartition("//")[2].strip("[]"), int(port)


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def listens(side: str) -> bool:
    """Return True when somebody listens at HOST:PORT."""
    host, port = _host_port(side)
    try:
        socket.create_connection((_reachable(host), port), timeout=0.5).close()
    except OSError:
        return False
    return True


def _answers(host: str, port: int, path: str) -> bool:
    client = http.client.HTTPConnection(host, port, timeout=1.0)
    try:
        client.request("GET", path)
        return client.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


def _heartbeat(url: str) -> Callable[[int], bool]:
    def beats(pid: int) -> bool:
        """Return True when some stage's heartbeat comes from this very process."""
        connection = connect(url)
        try:
            return any(
                connection.hget(key, "pid") == str(pid).encode() for key in connection.scan_iter(keys.stage("*"))
            )
        except redis.RedisError:
            return False
        finally:
            connection.close()

    return beats


def write_settings(settings: Settings, path: Path) -> str:
    """Write the settings, less their secrets, for the children."""
    values = settings.model_dump(mode="json", exclude={"tiled": {"api_key"}, "serve": {"api_key"}, "redis": {"url"}})
    values["data_dir"] = str(settings.data_dir.resolve())
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)


def environment(settings: Settings) -> dict[str, str]:
    """Return the children's environment; secrets travel here, never on a command line or in a file."""
    variables = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for section, secret in (("TILED", settings.tiled.api_key), ("SERVE", settings.serve.api_key)):
        if secret is not None:
            variables[f"QUIETBEAM_{section}__API_KEY"] = secret.get_secret_value()
    if settings.redis.url:
        variables["QUIETBEAM_REDIS__URL"] = settings.redis.url
    return variables
