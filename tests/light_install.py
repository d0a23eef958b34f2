"""Install the wheel into empty environments and measure: python -m tests.light_install [--dist FOLDER] [--write]

For each extra: seconds of pip (with its downloads), packages, megabytes, and the time of the import.
``--dist`` takes the sdist and the wheel of a folder, else both are built.
``--write`` renews the table in docs/benchmarks.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from .empty_environment import ROOT, EmptyEnvironment, build

PAGE = ROOT / "docs" / "benchmarks" / "installed-size.md"
WHAT = {
    "": ("RunEngine: publisher, stop plans", "from quietbeam.runengine import RedisPublisher"),
    "client": ("maps as xarray", "from quietbeam.client import Client"),
    "denoise": ("offline denoising", "from quietbeam import denoise"),
    "all": ("every stage and command", "from quietbeam.cli import app"),
}
HEAD = """# Installed size and import time

Made by `python -m tests.light_install --write` from wheels in empty environments. Seconds of pip contain the downloads.
The import is the median of five new processes, without the start of Python.

| install | for | packages | MB, of that quietbeam | pip (s) | import | takes (s) |
|---|---|---|---|---|---|---|
"""


def megabytes(folder: Path) -> float:
    """Return the size of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()) / 1e6


def import_seconds(environment: EmptyEnvironment, statement: str) -> float:
    """Return the median time of an import in five processes; a first one writes the bytecode."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    times = [float(environment.run("-W", "ignore", "-c", code).stdout) for _ in range(6)]
    return statistics.median(times[1:])


def row(package: Path, extra: str) -> str:
    """Install into an empty environment and return a row of the table."""
    purpose, statement = WHAT[extra]
    with tempfile.TemporaryDirectory(prefix="quietbeam-install-") as folder:
        environment = EmptyEnvironment(Path(folder))
        begin = time.monotonic()
        environment.install("-c", str(ROOT / "constraints.txt"), f"{package}[{extra}]" if extra else str(package))
        seconds = time.monotonic() - begin
        count = len(list(environment.packages.glob("*.dist-info")))
        own = sum(megabytes(environment.packages / name) for name in ("quietbeam", "quietbeam_models"))
        size = megabytes(environment.packages)
        took = import_seconds(environment, statement)
    name = statement.split()[-1]
    install = f"`quietbeam[{extra}]`" if extra else "`quietbeam`"
    return f"| {install} | {purpose} | {count} | {size:.0f}, {own:.0f} | {seconds:.0f} | `{name}` | {took:.2f} |\n"


def main() -> int:
    """Measure and print, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dist", type=Path, help="folder with one sdist and one wheel")
    parser.add_argument("--extras", nargs="*", default=["", "client"], choices=WHAT, help="extras to install")
    parser.add_argument("--write", action="store_true", help="renew the table in docs/benchmarks, with every extra")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quietbeam-dist-") as folder:
        if options.dist:
            (sdist,), (wheel,) = options.dist.glob("*.tar.gz"), options.dist.glob("*.whl")
        else:
            sdist, wheel = build(Path(folder))
        row(sdist.resolve(), "")  # pip builds a wheel of it, as users without a wheel do
        rows = [row(wheel.resolve(), extra) for extra in (WHAT if options.write else options.extras)]
    machine = f"\n{platform.system()}, {platform.machine()}, Python {platform.python_version()}.\n"
    text = HEAD + "".join(rows) + machine
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
