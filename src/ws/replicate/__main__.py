"""`python -m ws.replicate ...` is `ws replicate ...`."""

import sys

from ws.cli import main

if __name__ == "__main__":
    sys.exit(main(["replicate", *sys.argv[1:]]))
