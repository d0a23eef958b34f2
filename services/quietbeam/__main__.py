"""``quietbeam`` and ``python -m quietbeam``."""

from __future__ import annotations

import os
import sys

from quietbeam._extras import extra, is_own


def main() -> None:
    """Run the command line; where a package is missing, say how to install it (exit code 2).

    Commands import what is heavy when they run, so that any of them may find a package missing.
    """
    try:
        with extra("all", "the command `quietbeam`"):
            from quietbeam.cli import main as run

            run()
    except ModuleNotFoundError as error:
        if is_own(error) or os.environ.get("QUIETBEAM_DEBUG"):
            raise
        sys.stderr.write(f"quietbeam: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
