"""Recorded runs of five beamlines, each read by its shipped profile to exactly the counts that were measured."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from shapes_kit import pipe_with

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection

RECORDINGS = Path(__file__).parent.parent / "fixtures" / "recordings"


def documents_of(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a recorded run with its paths pointing at the fixtures."""
    text = gzip.decompress((RECORDINGS / f"{name}.jsonl.gz").read_bytes())
    text = text.replace(b"/beamline/", f"{RECORDINGS}/".encode())
    return [tuple(orjson.loads(line)) for line in text.splitlines()]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("srx", marks=pytest.mark.supports("profile", "SRX-like: row files, spectra of 4 elements")),
        pytest.param("hxn", marks=pytest.mark.supports("profile", "HXN-like: `Det1_Fe` ... of 3 elements")),
        pytest.param("aps-2ide", marks=pytest.mark.supports("profile", "2-ID-E-like: ophyd.mca regions of 4 elements")),
        pytest.param("id16a", marks=pytest.mark.supports("profile", "ID16A-like: spectra of 16 elements in Events")),
        pytest.param(
            "ophyd-async", marks=pytest.mark.supports("profile", "ophyd-async: spectra and encoders in streamed HDF5")
        ),
    ],
)
def test_recorded_runs(settings: Settings, redis: Connection, name: str) -> None:
    documents = documents_of(name)
    uid = documents[0][1]["uid"]
    pipe = pipe_with(settings, redis, name, data_roots=(RECORDINGS,))
    pipe.send(documents)
    pipe.drain(60)
    status, truth = pipe.status(uid), np.load(RECORDINGS / f"{name}.npz")
    assert (status.state, status.warnings) == (RunState.COMPLETE, ()), status
    assert status.info is not None
    assert status.info.lines == tuple(truth["lines"]) and status.info.profile == name
    np.testing.assert_array_equal(pipe.counts(uid), truth["counts"])
    assert status.info.step is not None and status.info.has_i0
    i0 = pipe.buffer(uid).read_i0()
    assert i0 is not None and (i0 > 1e6).all()
    pipe.stage.close()
