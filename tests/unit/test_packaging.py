"""What is installed is complete, and light to import."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_carries_weights_configs_and_dashboard(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "quietbeam/configs/embedded.yaml",
        "quietbeam/configs/beamlines/simulated.yaml",
        "quietbeam/serve/dashboard/index.html",
        "quietbeam/serve/dashboard/js/main.js",
        "quietbeam/denoiser/session.py",
    ):
        assert wanted in names
    assert any(name.startswith("quietbeam_models/weights/") and name.endswith(".safetensors") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"quietbeam", "quietbeam_models"}
    assert not any("dashboard" in name and name.endswith((".ts", "package.json", "tsconfig.json")) for name in names)
    assert not any(name.startswith("quietbeam/tests") or ".scratch" in name for name in names)


def test_importing_quietbeam_is_fast_and_light() -> None:
    code = (
        "import quietbeam, sys; print(quietbeam.__version__); sys.exit('torch' in sys.modules or 'zarr' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
