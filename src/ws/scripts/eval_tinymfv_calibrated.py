"""`python -m ws.scripts.eval_tinymfv_calibrated --behavior authority` is `ws compare --methods published --evals foundations ...`."""

import sys

from ws.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", "--methods", "published", "--evals", "foundations", *sys.argv[1:]]))
