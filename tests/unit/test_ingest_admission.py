"""Runs that do not fit are refused before anything is allocated."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RunInfo
from quietbeam.core.settings import IngestSettings, Settings
from quietbeam.ingest.run.admission import admit

Usage = namedtuple("Usage", "total used free")
INFO = RunInfo(uid="u", lines=("Fe_Ka",), detectors=("a", "b"), shape=(1000, 1000))
SIZE = 1_000_000 * (4 * 2 + 12 + 4 * 2 + 5)


@pytest.mark.parametrize(
    ("free", "outcome"), [(10 * SIZE, "fits"), (SIZE - 1, "warns"), (SIZE // 4, "refused"), (0, "waits")]
)
def test_the_disk_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, outcome: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(free, 0, free))
    settings = Settings(data_dir=tmp_path)
    if outcome == "refused":
        with pytest.raises(InputError, match="make room"):
            admit(INFO, settings)
    elif outcome == "waits":
        with pytest.raises(OSError, match="No space left"):
            admit(INFO, settings)
    else:
        assert len(admit(INFO, settings)) == (outcome == "warns")
    assert not (tmp_path / "runs" / "u").exists()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (IngestSettings(max_pixels=999_999), "ingest.max_pixels"),
        (IngestSettings(max_buffer_bytes=SIZE - 1), "fewer lines"),
    ],
)
def test_limits_are_named(tmp_path: Path, limits: IngestSettings, words: str) -> None:
    with pytest.raises(InputError, match=words):
        admit(INFO, Settings(data_dir=tmp_path, ingest=limits))
