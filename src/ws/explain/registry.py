"""All analyses by name: one line each."""

from collections.abc import Sequence

from ws.explain.act_basis import ACT_BASIS
from ws.explain.activation_reading import ACTIVATION_READING
from ws.explain.angles import ANGLES
from ws.explain.antipasto import ANTIPASTO
from ws.explain.func_proj import FUNC_PROJ
from ws.explain.layer_module import LAYER_MODULE
from ws.explain.localization import LOCALIZATION
from ws.explain.logit_lens import LOGIT_LENS
from ws.explain.mech_bases import MECH_BASES
from ws.explain.protocol import Analysis
from ws.explain.shared_basis import SHARED_BASIS
from ws.explain.svd_align import SVD_ALIGN
from ws.explain.weak_readout import WEAK_READOUT

SHIPPED: tuple[Analysis, ...] = (
    LAYER_MODULE,
    LOCALIZATION,
    SVD_ALIGN,
    WEAK_READOUT,
    MECH_BASES,
    ANTIPASTO,
    LOGIT_LENS,
    ACTIVATION_READING,
    FUNC_PROJ,
    ACT_BASIS,
    SHARED_BASIS,
    ANGLES,
)
ANALYSES = {a.name: a for a in SHIPPED}


def selection(words: Sequence[str]) -> list[Analysis]:
    """Analyses by name, in the order of the registry; `all`, or none, are all of them."""
    if unknown := [w for w in words if w != "all" and w not in ANALYSES]:
        raise ValueError(f"there is no analysis {unknown[0]!r}; there are {', '.join(ANALYSES)}, and all")
    chosen = set(ANALYSES) if not words or "all" in words else set(words)
    return [a for name, a in ANALYSES.items() if name in chosen]
