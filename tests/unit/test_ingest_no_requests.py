"""No address in a document is ever asked for: documents name files, and only files are opened."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quietbeam.ingest.offline import ingest_recorded
from quietbeam.ingest.profile import load_profile


@pytest.fixture
def listener() -> Iterator[tuple[int, list[Any]]]:
    """A port of this machine, and who has connected to it."""
    callers: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                callers.append(address)
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], callers
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:{port}/a.h5",
        "https://127.0.0.1:{port}/a.h5",
        "file://127.0.0.1:{port}/a.h5",
        "ftp://127.0.0.1:{port}/a.h5",
        "s3://127.0.0.1:{port}/a.h5",
        "tiled+http://127.0.0.1:{port}/a",
        "//127.0.0.1:{port}/a.h5",
    ],
)
def test_a_stream_resource_elsewhere_is_refused_unasked(
    tmp_path: Path, listener: tuple[int, list[Any]], uri: str
) -> None:
    port, callers = listener
    address = uri.format(port=port)
    docs: list[tuple[str, dict[str, Any]]] = [
        ("start", {"uid": "r", "time": 1.7e9, "plan_name": "grid_scan", "shape": [1, 2], "md": {"url": address}}),
        (
            "descriptor",
            {
                "uid": "d",
                "run_start": "r",
                "name": "primary",
                "time": 1.7e9,
                "configuration": {},
                "data_keys": {"Det1_Fe": {"source": address, "dtype": "number", "shape": [], "external": "STREAM:"}},
            },
        ),
        (
            "stream_resource",
            {
                "uid": "s",
                "run_start": "r",
                "data_key": "Det1_Fe",
                "mimetype": "application/x-hdf5",
                "uri": address,
                "parameters": {"dataset": "/entry/data", "url": address},
            },
        ),
        (
            "stream_datum",
            {
                "uid": "s/0",
                "stream_resource": "s",
                "descriptor": "d",
                "indices": {"start": 0, "stop": 2},
                "seq_nums": {"start": 1, "stop": 3},
            },
        ),
        ("stop", {"uid": "e", "run_start": "r", "time": 1.7e9, "exit_status": "success", "num_events": {"primary": 2}}),
    ]
    ingest_recorded(docs, "r", [load_profile("generic")], [tmp_path], tmp_path)
    assert callers == []
