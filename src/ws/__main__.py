"""`python -m ws` is `ws`."""

import gc
import sys

FEW_COLLECTIONS = 100_000
"""Objects between two searches for garbage. By the default of 700, a fifth of the time that importing torch takes is spent on them."""


def run() -> None:
    """The console script: the command line's exit code is the process's."""
    gc.set_threshold(FEW_COLLECTIONS)
    from ws.cli import main

    sys.exit(main())


if __name__ == "__main__":
    run()
