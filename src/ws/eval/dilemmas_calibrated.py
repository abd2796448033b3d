"""`python -m ws.eval.dilemmas_calibrated --behavior honesty`: daily dilemmas with the published methods at equal KL.

It is `ws compare --methods published --evals dilemmas --budget 0.5 ...`; what is given wins.
"""

import sys

if __name__ == "__main__":
    from ws.cli import main

    sys.exit(main(["compare", "--methods", "published", "--evals", "dilemmas", "--budget", "0.5", *sys.argv[1:]]))
