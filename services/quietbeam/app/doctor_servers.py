"""Checks of `quietbeam doctor`: Redis, Tiled, and what the stages that run now wait for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from quietbeam.core.errors import QuietbeamError, ServiceError
from quietbeam.core.process.lock import holder
from quietbeam.core.process.outage import redis_outage
from quietbeam.core.secrets import masked
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import connect

from .finding import Finding
from .programs import STAGES, listens

_OLDEST_REDIS = (6, 2)


def redis_server(settings: Settings) -> Iterator[Finding]:
    """Check that Redis answers, is new enough, takes writes and loses nothing by its configuration."""
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
        strange = isinstance(error, redis.InvalidResponse)
        said = "another program answers there, not a Redis" if strange else str(error)
        remedy = "correct redis.url / REDIS_URL" if strange else "start it, or correct redis.url / REDIS_URL"
        yield Finding(check="Redis", verdict="failure", found=f"{masked(settings.redis_url)}: {said}", remedy=remedy)
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
    try:
        client.set("qb:doctor", 1, px=1)
    except redis.ResponseError as error:
        yield Finding(
            check="Redis writes",
            verdict="failure",
            found=f"{redis_outage(error) or error}. Every stage waits for that, and retries.",
            remedy="see what it says; nothing must be restarted afterwards",
        )
    if not info.get("aof_enabled"):
        yield Finding(
            check="Redis persistence",
            verdict="warning",
            found="appendonly is off: a restart of the server loses documents that are not yet in zarr",
            remedy="redis-cli CONFIG SET appendonly yes (and the same in its config file)",
        )


def stages(settings: Settings) -> Iterator[Finding]:
    """Say what the stages that run now are waiting for."""
    connection = connect(settings.redis_url)
    connection.set_retry(Retry(NoBackoff(), 0))
    try:
        for name in STAGES:
            beat: Any = connection.hgetall(keys.stage(name))
            if beat.get(b"state") == b"degraded":
                remedy = "end that trouble; the stage goes on by itself"
                yield Finding(check=name, verdict="warning", found=beat.get(b"detail", b"").decode(), remedy=remedy)
    except redis.RedisError:
        return  # said above
    finally:
        connection.close()


def tiled_server(settings: Settings) -> Iterator[Finding]:
    """Check that Tiled answers and takes the key."""
    from quietbeam.publish.tiled_api import TiledApi, TiledAwayError

    try:
        key = settings.tiled_api_key()
    except QuietbeamError as error:
        yield Finding(check="Tiled", verdict="failure", found=error.message, remedy=error.remedy)
        return
    is_ours = settings.tiled.uri or holder(settings.data_dir / "up.lock")
    if not is_ours and listens(f"127.0.0.1:{settings.embedded.tiled_port}"):
        yield Finding(  # which is not asked: it is none of our business, and our key is not for it
            check="Tiled",
            verdict="failure",
            found=f"another program listens at {settings.tiled_uri}, where `up` will start the embedded Tiled",
            remedy="stop it, or change embedded.tiled_port; to use it as Tiled, set tiled.uri",
        )
        return
    api = TiledApi(settings.tiled_uri, key, network=settings.network)
    try:
        if strange := api.is_other_server():
            yield Finding(check="Tiled", verdict="failure", found=strange, remedy="correct tiled.uri")
            return
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
