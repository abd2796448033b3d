"""`python -m ws.eval NAME ...` is `ws eval NAME ...`."""

import sys

from ws.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
