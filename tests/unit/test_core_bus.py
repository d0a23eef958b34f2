"""Redis Streams as quietbeam uses them: nothing read twice by accident, nothing trimmed unread."""

from __future__ import annotations

from typing import Any

import pytest

from quietbeam.core.errors import InputError
from quietbeam.core.wire import bus, keys
from quietbeam.core.wire.bus import Connection, GroupReader


def fill(redis: Connection, n: int, first: int = 0) -> None:
    for i in range(first, first + n):
        redis.xadd("s", {"i": i})


def numbers(messages: list[bus.Message]) -> list[int]:
    return [int(m.fields[b"i"]) for m in messages]


def test_a_restarted_consumer_gets_its_own_entries_first(redis: Connection) -> None:
    fill(redis, 5)
    reader = GroupReader(redis, "s", "g", "c")
    messages = reader.read(block_ms=1)
    assert numbers(messages) == [0, 1, 2, 3, 4]
    reader.acknowledge([m.id for m in messages[:2]])
    fill(redis, 1, 5)
    again = GroupReader(redis, "s", "g", "c")
    assert numbers(again.read(count=2, block_ms=1)) == [2, 3]
    assert numbers(again.read(count=2, block_ms=1)) == [4]
    assert numbers(again.read(block_ms=1)) == [5]
    assert again.read(block_ms=1) == []


def test_abandoned_entries_are_claimed(redis: Connection) -> None:
    fill(redis, 3)
    GroupReader(redis, "s", "g", "dead").read(block_ms=1)
    assert numbers(GroupReader(redis, "s", "g", "heir", idle_ms=0).read(block_ms=1)) == [0, 1, 2]


def test_a_lost_group_is_made_again(redis: Connection) -> None:
    reader = GroupReader(redis, "s", "g", "c")
    redis.flushall()
    fill(redis, 2)
    assert reader.read(block_ms=1) == []
    assert numbers(reader.read(block_ms=1)) == [0, 1]


def test_trimming_stops_at_the_slowest_group(redis: Connection) -> None:
    fast, slow = GroupReader(redis, "s", "fast", "c"), GroupReader(redis, "s", "slow", "c")
    fill(redis, 6)
    fast.acknowledge([m.id for m in fast.read(block_ms=1)])
    assert bus.trim_acknowledged(redis, "s") == 0
    messages = slow.read(count=4, block_ms=1)
    slow.acknowledge([m.id for m in messages[:3]])
    assert bus.trim_acknowledged(redis, "s") == 3
    left: Any = redis.xrange("s")
    assert [int(f[b"i"]) for _, f in left] == [3, 4, 5]
    slow.acknowledge([messages[3].id])
    bus.trim_acknowledged(redis, "s")
    assert numbers(slow.read(block_ms=1)) == [4, 5]


def test_a_stream_without_groups_is_not_trimmed(redis: Connection) -> None:
    fill(redis, 3)
    assert bus.trim_acknowledged(redis, "s") == 0
    assert redis.xlen("s") == 3


def test_quarantine_keeps_the_reason_and_cuts_the_bytes(redis: Connection) -> None:
    bus.quarantine(redis, run="r", name="event", reason="negative counts", payload=b"x" * 100_000)
    ((_, fields),) = redis.xrange(keys.QUARANTINE)  # type: ignore[misc]
    assert fields[b"reason"] == b"negative counts" and len(fields[b"doc"]) == 65536
    ((_, event),) = redis.xrange(keys.EVENTS)  # type: ignore[misc]
    assert event[b"type"] == b"warning" and b"negative counts" in event[b"data"]


@pytest.mark.parametrize("url", ["http://somewhere", "redis:6379", "redis://host:port"])
def test_a_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(InputError, match=r"redis\.url") as caught:
        bus.connect(url)
    assert url not in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 3])
def test_replies_of_both_protocols_read_alike(redis_server: str, protocol: int) -> None:
    client = bus.connect(f"{redis_server}?protocol={protocol}")
    fill(client, 2)
    client.xadd("t", {"i": 7})
    found = [(stream, int(m.fields[b"i"])) for stream, m in bus.entries(client.xread({"s": "0", "t": "0"}))]
    assert sorted(found) == [("s", 0), ("s", 1), ("t", 7)]
    assert list(bus.entries(client.xread({"s": "$"}))) == []
    client.close()
