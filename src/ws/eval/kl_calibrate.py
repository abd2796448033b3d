"""`python -m ws.eval.kl_calibrate --behavior honesty`: the strengths of the published methods at half a nat, and their costs.

It is `ws compare --methods published --evals perplexity --budget 0.5 ...`; what is given wins. One method alone: `ws calibrate`.
"""

import sys

if __name__ == "__main__":
    from ws.cli import main

    sys.exit(main(["compare", "--methods", "published", "--evals", "perplexity", "--budget", "0.5", *sys.argv[1:]]))
