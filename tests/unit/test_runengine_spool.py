"""The spool after a power cut, and the spool of one server under its many URLs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from quietbeam.runengine.spool import Record, Spool
from quietbeam.runengine.spool_target import canonical, tag_of

URL = "redis://localhost:6379"
MANY = 10**8


def fill(folder: Path, n: int, url: str = URL, length: int = 40) -> Path:
    spool = Spool(folder, url, max_bytes=MANY)
    for i in range(n):
        spool.append(Record("event", "r", b"%04d" % i + bytes(length)))
    spool.sync()
    path = next(folder.glob("*.spool"))
    spool.close()
    return path


def drain(folder: Path, url: str = URL) -> list[int]:
    spool = Spool(folder, url, max_bytes=MANY)
    found: list[int] = []
    while records := spool.peek(7, MANY):
        found += [int(record.doc[:4]) for record in records]
        spool.advance()
    assert spool.empty and not list(folder.glob("*.spool"))
    spool.close()
    return found


@pytest.mark.parametrize("zeros", [1, 7, 8, 4096, 200_000])
def test_zeros_at_the_end_are_dropped(tmp_path: Path, zeros: int) -> None:
    with fill(tmp_path, 3).open("ab") as file:
        file.write(bytes(zeros))
    assert drain(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("length", [40, 256 - 14, 512 - 14])  # also a length whose low byte is zero
def test_zeros_in_the_middle_cost_only_what_they_cover(tmp_path: Path, length: int) -> None:
    path = fill(tmp_path, 6, length=length)
    data = path.read_bytes()
    size = len(data) // 6
    path.write_bytes(data[: 2 * size] + bytes(size) + data[3 * size :])
    assert drain(tmp_path) == [0, 1, 3, 4, 5]


def test_a_record_whose_bytes_changed_costs_itself(tmp_path: Path) -> None:
    path = fill(tmp_path, 5)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert drain(tmp_path) == [0, 1, 3, 4]


def test_no_damage_ends_the_reader(tmp_path: Path) -> None:
    rng = random.Random(1)
    for trial in range(60):
        folder = tmp_path / str(trial)
        path = fill(folder, 8)
        data = bytearray(path.read_bytes())
        first = rng.randrange(len(data))
        match trial % 3:
            case 0:
                data[first : first + rng.randrange(1, 200)] = rng.randbytes(rng.randrange(1, 200))
            case 1:
                del data[first:]
            case _:
                data[first : first + 50] = bytes(50)
        path.write_bytes(data)
        found = drain(folder)
        assert found == sorted(set(found)) and set(found) <= set(range(8))


def test_what_was_skipped_is_counted(tmp_path: Path) -> None:
    with fill(tmp_path, 1).open("ab") as file:
        file.write(bytes(100))
    spool = Spool(tmp_path, URL, max_bytes=MANY)
    assert len(spool.peek(10, MANY)) == 1
    assert spool.damaged_bytes == 100
    spool.close()


SAME = [
    "redis://localhost",
    "redis://127.0.0.1:6379/0",
    "redis://:old@localhost:6379",
    "redis://user:new%40@LOCALHOST:6379/0?protocol=3",
    "rediss://[::1]:6379",
    "redis://localhost:6379?db=0",
]


@pytest.mark.parametrize("url", SAME)
def test_another_url_of_the_same_server_takes_over(tmp_path: Path, url: str) -> None:
    fill(tmp_path, 3, url)
    assert drain(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("url", ["redis://localhost:6380", "redis://localhost/1", "redis://other", "unix:///tmp/s"])
def test_another_server_does_not(tmp_path: Path, url: str) -> None:
    fill(tmp_path, 3, url)
    spool = Spool(tmp_path, URL, max_bytes=MANY)
    assert spool.empty and spool.has_foreign
    spool.close()


def test_a_socket_is_the_same_by_any_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert canonical(f"unix://{tmp_path}/link/s?db=0") == canonical(f"unix://user:pw@{tmp_path}/s")
    assert canonical(f"unix://{tmp_path}/s?db=2") != canonical(f"unix://{tmp_path}/s")


def test_segments_of_version_0_1_are_taken_over(tmp_path: Path) -> None:
    path = fill(tmp_path, 3)
    path.rename(path.with_name(f"{path.stem.rpartition('-')[0]}-{tag_of(URL)}.spool"))
    assert drain(tmp_path) == [0, 1, 2]


def test_a_server_that_was_met_under_another_url_gets_what_was_left_there(tmp_path: Path) -> None:
    for url, server in (("redis://xrf.beamline", "one"), ("redis://other", "two")):
        spool = Spool(tmp_path, url, max_bytes=MANY)
        spool.meet(server)
        spool.append(Record("event", "r", server.encode()))
        spool.close()
    spool = Spool(tmp_path, URL, max_bytes=MANY)
    spool.meet("one")
    assert [record.doc for record in spool.peek(10, MANY)] == [b"one"]
    assert spool.has_foreign
    spool.close()
