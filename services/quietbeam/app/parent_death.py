"""``python -I -S parent_death.py PARENT COMMAND...``: become COMMAND, but die when PARENT dies.

A tiny program between fork and exec: code in a forked child of a threaded parent (``preexec_fn``) can deadlock, this
cannot. Linux only; elsewhere COMMAND outlives PARENT.
"""

import os
import sys

_SET_PARENT_DEATH_SIGNAL = 1
_KILL = 9


def main() -> None:
    """Tie this process to its parent and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, _KILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
