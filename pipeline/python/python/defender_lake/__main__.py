"""The command line: `defender-lake`, or `python -m defender_lake`."""

import signal
import sys

from . import _native


def main() -> int:
    """Runs the command line of this process and returns its exit code."""
    # The program handles the signal; Python would print a traceback on top.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.run(["defender-lake", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
