"""``quietbeam`` and ``python -m quietbeam``."""

from __future__ import annotations

import sys

from quietbeam._extras import extra


def main() -> None:
    """Run the command line; without its packages, say how to install them (exit code 2)."""
    try:
        with extra("all", "the command `quietbeam`"):
            from quietbeam.cli import main as run
    except ModuleNotFoundError as error:
        sys.stderr.write(f"quietbeam: {error}\n")
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
