"""``python -m quietbeam`` is ``quietbeam``."""

from quietbeam.cli import main

if __name__ == "__main__":
    main()
