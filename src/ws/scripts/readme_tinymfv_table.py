"""`python -m ws.scripts.readme_tinymfv_table --behavior authority` is `ws table --eval foundations --markdown ...`."""

import sys

from ws.cli import main

if __name__ == "__main__":
    sys.exit(main(["table", "--eval", "foundations", "--markdown", *sys.argv[1:]]))
