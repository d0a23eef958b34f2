"""Run the tests of every plan and of the RunEngine's side with other versions of bluesky.

::

    python -m tests.bluesky_versions 1.14.6 1.13.1

Each version goes into an environment of its own in a temporary folder, above the packages of this one.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ("tests/service/test_ingest_plans.py", "tests/service/test_ingest_publisher.py", "tests/service/test_client.py")


def run(version: str, folder: Path) -> int:
    """Install a version of bluesky and run the test with it; return the exit code."""
    environment = folder / version
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    (packages / "below.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT / 'services'}\n{ROOT / 'models'}\n")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed", f"bluesky=={version}"]
    subprocess.run(install, check=True)
    subprocess.run([python, "-c", f"import bluesky; assert bluesky.__version__ == '{version}'"], check=True)
    return subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS], cwd=ROOT, check=False
    ).returncode


def main(versions: list[str]) -> int:
    """Run the test for each version; return 1 when one of them failed."""
    with tempfile.TemporaryDirectory(prefix="quietbeam-bluesky-") as folder:
        codes = {version: run(version, Path(folder)) for version in versions}
    for version, code in codes.items():
        print(f"bluesky {version}: {'passed' if code == 0 else f'failed ({code})'}")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
