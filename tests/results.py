"""What two output folders must have in common when the same study was made in both, whatever happened on the way."""

import json
from pathlib import Path

TIMES = ("seconds", "finished")
"""What a manifest says of when and how long; everything else in it must be the same."""
OF_THE_RUN = ("sweep", "logs")
TABLES = ("studies.csv", "changes.csv", "effects.csv")
"""What a sweep says of its studies, and not of how it went."""


def results_of(out: Path) -> dict[str, bytes]:
    """Every result file's bytes by its path; manifests and summaries less their times and their absolute paths.

    Left out are lock files, and what a sweep writes of how it went.
    """
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out)
        if (name.parts[0] in OF_THE_RUN and name.name not in TABLES) or (
            path.name.startswith(".") and path.suffix == ".lock"
        ):
            continue
        content = path.read_bytes()
        if path.suffix == ".json" and path.stem.split("_")[0] in ("manifest", "replicate"):
            told = json.loads(content.decode().replace(str(out.resolve()), "OUT"))
            content = json.dumps({k: v for k, v in told.items() if k not in TIMES}, sort_keys=True).encode()
        found[str(name)] = content
    return found


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """The files that are not the same, or in one folder only."""
    return sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))
