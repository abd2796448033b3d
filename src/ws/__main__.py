"""`python -m ws` is `ws`."""

import sys


def run() -> None:
    """The console script: the command line's exit code is the process's."""
    from ws.cli import main

    sys.exit(main())


if __name__ == "__main__":
    run()
