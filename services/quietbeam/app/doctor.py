"""Is this machine ready? Every check says what it found and, when something is wrong, what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from quietbeam.core.errors import QuietbeamError, ServiceError
from quietbeam.core.process.lock import holder
from quietbeam.core.settings import Settings

from .programs import check_ports, listeners, serves_quietbeam

Verdict = Literal["ok", "warning", "failure"]

_LITTLE_DISK = 1 * 2**30
_SOME_DISK = 10 * 2**30
_OLDEST_REDIS = (6, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check; `remedy` is empty when there is nothing to do."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for every check; a check that breaks is a failure, not an end."""
    for check in (_python, _torch, _weights, _profiles, _disk, _data_roots, _sources, _ports, _redis, _tiled):
        name = check.__name__.strip("_").replace("_", " ")
        try:
            yield from check(settings)
        except Exception as error:
            remedy = getattr(error, "remedy", "") or "see above"
            yield Finding(check=name, verdict="failure", found=f"{type(error).__name__}: {error}", remedy=remedy)


def _python(_settings: Settings) -> Iterator[Finding]:
    yield Finding(check="Python", verdict="ok", found=f"{platform.python_version()} ({sys.executable})")


def _torch(settings: Settings) -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding(check="torch", verdict="failure", found=str(error), remedy="make install")
        return
    cuda = torch.cuda.is_available()
    wanted = settings.denoise.device
    gpu = torch.cuda.get_device_name(0) if cuda else ""
    found = f"{torch.__version__}, device {wanted}, " + (f"GPU {gpu}" if cuda else f"CPU ({os.cpu_count()} cores)")
    if wanted.startswith("cuda") and not cuda:
        yield Finding(
            check="torch",
            verdict="failure",
            found=f"{found}; torch sees no GPU",
            remedy="install driver and CUDA build (make install TORCH='torch===VERSION'), or set denoise.device: auto",
        )
    elif shutil.which("nvidia-smi") and not cuda:
        yield Finding(
            check="torch",
            verdict="warning",
            found=f"{found}; the machine has a GPU that torch does not see",
            remedy="make install TORCH='torch===VERSION' installs the CUDA build",
        )
    else:
        yield Finding(check="torch", verdict="ok", found=found)


def _weights(settings: Settings) -> Iterator[Finding]:
    from quietbeam_models.weights import DEFAULT, DamagedWeightsError, installed_weights, load_weights

    name = settings.denoise.weights or DEFAULT
    there = installed_weights(settings.weights_dir)
    if name not in there:
        yield Finding(
            check="weights",
            verdict="failure",
            found=f"denoise.weights is {name!r}; there are {', '.join(there)}",
            remedy=f"name one of them, or put {name}.safetensors and its card into {settings.weights_dir}",
        )
        return
    try:
        weights = load_weights(there[name])
    except DamagedWeightsError as error:
        yield Finding(
            check="weights",
            verdict="failure",
            found=str(error),
            remedy="install quietbeam again; without weights maps are published raw",
        )
    else:
        yield Finding(check="weights", verdict="ok", found=f"{name}, sha256 {weights.sha256[:12]} as in its card")


def _profiles(settings: Settings) -> Iterator[Finding]:
    from quietbeam.ingest.profile.schema import load_profile

    for name in settings.ingest.profiles:
        try:
            profile = load_profile(name)
        except QuietbeamError as error:
            remedy = error.remedy or "mend it, or change ingest.profiles"
            yield Finding(check="profile", verdict="failure", found=error.message, remedy=remedy)
        else:
            yield Finding(check="profile", verdict="ok", found=f"{name}: {profile.description or profile.name}")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.resolve()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(there, os.W_OK):
        yield Finding(
            check="disk", verdict="failure", found=f"{there} cannot be written", remedy="change data_dir or its owner"
        )
        return
    free = shutil.disk_usage(there).free
    found = f"{folder}: {free / 2**30:.1f} GiB free"
    if free < _LITTLE_DISK:
        yield Finding(check="disk", verdict="failure", found=found, remedy="make room, or set data_dir elsewhere")
    elif free < _SOME_DISK:
        yield Finding(check="disk", verdict="warning", found=found, remedy="delete old runs below data_dir/runs soon")
    else:
        yield Finding(check="disk", verdict="ok", found=found)


def _data_roots(settings: Settings) -> Iterator[Finding]:
    for root in settings.ingest.data_roots:
        if os.access(root, os.R_OK | os.X_OK):
            yield Finding(check="data roots", verdict="ok", found=str(root))
        else:
            yield Finding(
                check="data roots",
                verdict="failure",
                found=f"{root} cannot be read",
                remedy="mount it, or correct ingest.data_roots; detector files there are refused until then",
            )


def _sources(settings: Settings) -> Iterator[Finding]:
    from quietbeam.ingest.transports import probe_source

    embedded_proxy = f"zmq://{settings.embedded.zmq_out}"
    for source in settings.ingest.sources:
        if source in ("redis", embedded_proxy):
            continue
        try:
            probe = probe_source(source, settings)
        except QuietbeamError as error:
            remedy = error.remedy or "correct ingest.sources"
            yield Finding(check="source", verdict="failure", found=f"{source}: {error.message}", remedy=remedy)
            continue
        found = f"{source}: {probe.found}"
        yield Finding(check="source", verdict=probe.verdict, found=found, remedy=probe.remedy)


def _ports(settings: Settings) -> Iterator[Finding]:
    where = ", ".join(f"{host}:{port}" for host, port in listeners(settings).values())
    if pid := holder(settings.data_dir / "up.lock"):
        yield Finding(check="ports", verdict="ok", found=f"{where}: used by quietbeam itself (pid {pid})")
        return
    serving = serves_quietbeam(settings)
    try:
        check_ports(settings, patience_s=0, except_for=("serve.port",) if serving else ())
    except QuietbeamError as error:
        yield Finding(check="ports", verdict="failure", found=error.message, remedy=error.remedy)
    else:
        state = "`quietbeam serve` answers, the others are free" if serving else "free"
        yield Finding(check="ports", verdict="ok", found=f"{where}: {state}")


def _redis(settings: Settings) -> Iterator[Finding]:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from quietbeam.embedded import valkey

    if settings.redis_is_embedded and not valkey.is_ready(settings):
        try:
            yield Finding(check="Redis", verdict="ok", found=f"embedded, started by `up`: {valkey.find_binary()}")
        except ServiceError as error:
            yield Finding(check="Redis", verdict="failure", found=error.message, remedy=error.remedy)
        return
    client = redis.Redis.from_url(
        settings.redis_url, socket_timeout=3, socket_connect_timeout=3, retry=Retry(NoBackoff(), 0)
    )
    try:
        info: dict[str, Any] = client.info()
    except redis.RedisError as error:
        yield Finding(
            check="Redis",
            verdict="failure",
            found=f"{masked(settings.redis_url)}: {error}",
            remedy="start it, or correct redis.url / REDIS_URL",
        )
        return
    version = info.get("valkey_version") or info["redis_version"]
    where = f"{masked(settings.redis_url)}, {info.get('server_name', 'redis')} {version}"
    if tuple(map(int, info["redis_version"].split(".")[:2])) < _OLDEST_REDIS:
        yield Finding(check="Redis", verdict="failure", found=where, remedy="quietbeam needs Redis 6.2 or Valkey 7.2")
        return
    yield Finding(check="Redis", verdict="ok", found=where)
    policy = info.get("maxmemory_policy")
    if policy != "noeviction":
        yield Finding(
            check="Redis eviction",
            verdict="failure",
            found=f"maxmemory-policy is {policy}: a full server would throw documents away",
            remedy="redis-cli CONFIG SET maxmemory-policy noeviction (and the same in its config file)",
        )
    if not info.get("aof_enabled"):
        yield Finding(
            check="Redis persistence",
            verdict="warning",
            found="appendonly is off: a restart of the server loses documents that are not yet in zarr",
            remedy="redis-cli CONFIG SET appendonly yes (and the same in its config file)",
        )


def _tiled(settings: Settings) -> Iterator[Finding]:
    from quietbeam.publish.tiled_api import TiledApi, TiledAwayError

    try:
        key = settings.tiled_api_key()
    except QuietbeamError as error:
        yield Finding(check="Tiled", verdict="failure", found=error.message, remedy=error.remedy)
        return
    api = TiledApi(settings.tiled_uri, key, network=settings.network)
    try:
        api.node("")
    except TiledAwayError as error:
        if settings.tiled.uri:
            yield Finding(
                check="Tiled", verdict="failure", found=str(error), remedy="start it, or correct tiled.uri; maps wait"
            )
        elif not key.isalnum():
            yield Finding(
                check="Tiled",
                verdict="failure",
                found="tiled.api_key has characters other than letters and digits",
                remedy="set another QUIETBEAM_TILED__API_KEY",
            )
        else:
            yield Finding(check="Tiled", verdict="ok", found=f"embedded, started by `up` at {settings.tiled_uri}")
    except QuietbeamError as error:
        remedy = error.remedy or "correct tiled.uri"
        yield Finding(check="Tiled", verdict="failure", found=error.message, remedy=remedy)
    else:
        yield Finding(check="Tiled", verdict="ok", found=f"{api.uri} takes the key")
    finally:
        api.close()


def masked(url: str) -> str:
    """Return a URL without its password."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url
