"""Make the pictures of the documentation anew: ``python -m docs.pictures [NAME ...]``, or ``make pictures``.

It needs the extras ``test`` and ``bench`` and Chromium. Pictures of measured data need ``--data``, the folder of the
files.
Run it on an idle machine: the dashboard's pictures show how far the denoiser is behind the scan.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "images"
PICTURES = {
    "before-after": "offline.before_after",
    "specimens": "offline.specimens",
    "spiral": "offline.spiral",
    "orders": "orders.main",
    "diagrams": "diagrams.main",
    "dashboard": "dashboard.main",
    "film": "film.main",
    "profiles": "profiles.main",
    "measured": "measured.main",
    "replays": "replays.main",
}
"""Name -> module and function here, which takes the folder of the images."""
OF_MEASURED_DATA = ("measured", "replays")


def main() -> None:
    """Make the pictures that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m docs.pictures", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PICTURES)}; none: all")
    parser.add_argument("--data", type=Path, help="folder of the measured files (docs/measured-data.md)")
    parser.add_argument("--images", type=Path, default=IMAGES, help="where to write (default: docs/images)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PICTURES):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    for name in arguments.names or PICTURES:
        extra = (arguments.data,) if name in OF_MEASURED_DATA else ()
        if extra == (None,):
            sys.stdout.write(f"{name}: left as it is, its measured files are not here (say --data FOLDER)\n")
            continue
        start = time.monotonic()
        module, function = PICTURES[name].split(".")
        getattr(importlib.import_module(f"docs.pictures.{module}"), function)(arguments.images, *extra)
        sys.stdout.write(f"{name}: made in {time.monotonic() - start:.0f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
