"""`python -m ws.run_subspace ...` is `ws explain BEHAVIOR/ADAPTER --what svd_align,weak_readout --evals none ...`: the published fork's door."""

import sys

from ws.adapters import USUAL
from ws.cli import main

BEHAVIOR, ADAPTER = "sycophancy", USUAL
"""The fork's defaults."""


def arguments(given: list[str]) -> list[str]:
    """The words of the door as words of `ws explain`: the run is named by its behavior and adapter, unless by itself."""
    chosen, rest = {"behavior": BEHAVIOR, "adapter": ADAPTER}, list[str]()
    words = iter(given)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in chosen:
            chosen[name] = value if equals else next(words, "")
        else:
            rest.append(word)
    named = any(w.partition("=")[0] in ("--run", "--direction", "--config", "-h", "--help", "--help-all") for w in rest)
    place = [] if named or (rest and not rest[0].startswith("-")) else [f"{chosen['behavior']}/{chosen['adapter']}"]
    return ["explain", *place, "--what", "svd_align,weak_readout", "--evals", "none", *rest]


if __name__ == "__main__":
    sys.exit(main(arguments(sys.argv[1:])))
