"""All analyses by name: one line each."""

from collections.abc import Sequence

from ws.explain.layer_module import LAYER_MODULE
from ws.explain.localization import LOCALIZATION
from ws.explain.protocol import Analysis

SHIPPED: tuple[Analysis, ...] = (LAYER_MODULE, LOCALIZATION)
ANALYSES = {a.name: a for a in SHIPPED}


def selection(words: Sequence[str]) -> list[Analysis]:
    """Analyses by name, in the order of the registry; `all`, or none, are all of them."""
    if unknown := [w for w in words if w != "all" and w not in ANALYSES]:
        raise ValueError(f"there is no analysis {unknown[0]!r}; there are {', '.join(ANALYSES)}, and all")
    chosen = set(ANALYSES) if not words or "all" in words else set(words)
    return [a for name, a in ANALYSES.items() if name in chosen]
