"""Old import paths work until 0.3 and name the new ones."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

from quietbeam._moved import MOVED


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_path_gives_the_moved_module(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=MOVED[old]):
        module = importlib.import_module(old)
    assert module is importlib.import_module(MOVED[old])
    assert module.__spec__ is not None and module.__spec__.name == module.__name__ == MOVED[old]


def test_the_runengine_side_imports_without_the_service() -> None:
    heavy = "('torch', 'zarr', 'tiled', 'fastapi', 'bluesky', 'httpx', 'pydantic', 'h5py')"
    code = f"import sys, quietbeam.runengine; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_the_plan_is_a_function_whatever_was_imported_before() -> None:
    import quietbeam.runengine.snr_watch
    from quietbeam.runengine import stop_at_snr

    assert stop_at_snr is quietbeam.runengine.snr_watch.stop_at_snr and callable(stop_at_snr)
