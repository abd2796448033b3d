"""`python -m ws.run_sweep ...` is `ws sweep --adapters all ...`: the published fork's door, with its flags."""

import sys

from ws.cli import main


def arguments(given: list[str]) -> list[str]:
    """The words of the door as words of `ws sweep`; it tries every family unless some are named."""
    named = any(a.split("=")[0] in ("--adapter", "--adapters", "--config", "--status", "-h", "--help") for a in given)
    return ["sweep", *([] if named else ["--adapters", "all"]), *given]


if __name__ == "__main__":
    sys.exit(main(arguments(sys.argv[1:])))
