"""Finished runs whose files were damaged, each in another way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from publish_kit import Run

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "torn-mark": lambda path: (path / "measured/c/1/0").write_bytes(b"abc"),
    "garbage": lambda path: (path / "zarr.json").write_text("{garbage"),
    "a-folder": lambda path: ((path / "zarr.json").unlink(), (path / "zarr.json").mkdir()),
    "a-number": lambda path: edit(path / "zarr.json", lambda d: d["attributes"].update(info=5)),
    "unknown-state": lambda path: edit(path / "zarr.json", lambda d: d["attributes"]["state"].update(state="zzz")),
    "lost-mark": lambda path: (path / "measured/c/1/0").unlink(),
    "garbage-copy": lambda path: (path / "info.json").write_text("{garbage"),
    "torn-map": lambda path: (path / "maps/0/denoised/c/0/0/0").write_bytes(b"x" * 200),
    "empty-map": lambda path: (path / "maps/0/denoised/zarr.json").write_text(""),
}


def damaged_runs(settings: Settings, redis: Connection) -> list[Run]:
    """Finished runs, one for each damage, and a sound one at the end."""
    found = []
    for name in [*DAMAGE, "sound"]:
        run = Run(settings, redis, name)
        run.finish(wake=False)
        run.buffer.update_state({"state": RunState.COMPLETE.value})
        found.append(run)
    for name, damage in DAMAGE.items():
        damage(settings.runs_dir / name)
    return found
