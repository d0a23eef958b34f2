"""Old import paths of modules that moved after 0.1. They work until 0.3, with a warning that names the new path."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_SAME_NAME = {
    "core": {
        "core.model": "types evidence advice",
        "core.process": "stage log failpoint",
        "core.wire": "bus keys runs actions metrics",
    },
    "files": {
        "files.readers": "bliss mda xmap pyxrf maps own points calibration measured",
        "files.writers": "write nexus",
    },
    "denoiser": {
        "benchmarks": "phantoms",
        "denoiser.evaluation": "risk gate combination",
        "denoiser.learning": "finetune pairs",
        "denoiser.checks": "resolution common_mode",
        "denoiser.estimators": "networks nonlocal_means smoother",
        "denoiser.data": "counts gains gain_field exposure glitches holdout finest_scale",
    },
    "ingest": {
        "runengine": "publisher spool",
        "ingest.stage": "service",
        "ingest.offline": "check",
        "ingest.run": "intake admission",
        "ingest.rows": "grid",
        "ingest.frames": "detector_files file_frames",
        "ingest.profile": "geometry layout draft",
        "ingest.documents": "recording",
    },
    "serve": {
        "serve.metrics": "readings observe",
        "serve.live": "streams",
        "serve.state": "catalog maps",
        "serve.render": "formats slices statistics hdf5 colormaps",
    },
}
_RENAMED = {
    "app.live_benchmark": "benchmarks.live",
    "app.viewers": "benchmarks.viewers_load",
    "app.viewers_benchmark": "benchmarks.viewers",
    "client.stop": "runengine.snr_watch",
    "denoiser.areas": "denoiser.data.area_noise",
    "denoiser.benchmark": "benchmarks.quality",
    "denoiser.benchmark_report": "benchmarks.quality_report",
    "denoiser.benchmark_speed": "benchmarks.speed",
    "denoiser.judging": "denoiser.evaluation.fold_errors",
    "denoiser.live_run": "denoiser.live.job",
    "denoiser.notes": "denoiser.evaluation.user_notes",
    "denoiser.null_test": "denoiser.checks.false_structure",
    "denoiser.proven_pixels": "denoiser.checks.hot_pixels",
    "denoiser.requests": "denoiser.live.action_requests",
    "denoiser.single": "denoiser.evaluation.single_detector",
    "denoiser.stacks": "denoiser.live.stack_weights",
    "denoiser.units": "denoiser.data.area_units",
    "denoiser.worker": "denoiser.live.stage",
    "denoiser.yardsticks": "benchmarks.baselines",
    "ingest.datums": "ingest.frames.legacy_datums",
    "ingest.ending": "ingest.run.final_state",
    "ingest.keeping": "ingest.stage.retention",
    "ingest.lines": "ingest.frames.line_counts",
    "ingest.samples": "ingest.rows.sample_buffer",
    "ingest.stack": "ingest.run.maps",
    "ingest.series": "ingest.frames.split_streams",
    "ingest.tiled_run": "ingest.documents.from_tiled",
    "serve.events": "serve.live.hub",
    "ingest.transports.tiled_run": "ingest.transports.tiled.reader",
    "ingest.transports.tiled_stream": "ingest.transports.tiled.websocket",
}
MOVED = {
    f"quietbeam.{old}.{name}": f"quietbeam.{new}.{name}"
    for old, rooms in _SAME_NAME.items()
    for new, names in rooms.items()
    for name in names.split()
} | {f"quietbeam.{old}": f"quietbeam.{new}" for old, new in _RENAMED.items()}
"""Old module -> new module."""


class _OldPaths(MetaPathFinder, Loader):
    """Gives the moved module itself under its old name."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} has moved: import {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back; the import system has just set that of the old name."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let the old paths be imported."""
    sys.meta_path.append(_OldPaths())
