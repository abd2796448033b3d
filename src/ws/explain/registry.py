"""All analyses by name: one line each."""

from collections.abc import Sequence
from difflib import get_close_matches

from ws.explain.act_basis import ACT_BASIS
from ws.explain.activation_reading import ACTIVATION_READING
from ws.explain.angles import ANGLES
from ws.explain.antipasto import ANTIPASTO
from ws.explain.degradation import DEGRADATION
from ws.explain.dw_decomp import DW_DECOMP
from ws.explain.func_proj import FUNC_PROJ
from ws.explain.layer_module import LAYER_MODULE
from ws.explain.localization import LOCALIZATION
from ws.explain.logit_lens import LOGIT_LENS
from ws.explain.mech_bases import MECH_BASES
from ws.explain.multiseed import MULTISEED
from ws.explain.param_crop import PARAM_CROP
from ws.explain.protocol import Analysis
from ws.explain.shared_basis import SHARED_BASIS
from ws.explain.svd_align import SVD_ALIGN
from ws.explain.tau_geometry import TAU_GEOMETRY
from ws.explain.weak_readout import WEAK_READOUT

SHIPPED = (
    LOCALIZATION,
    LAYER_MODULE,
    PARAM_CROP,
    DW_DECOMP,
    SVD_ALIGN,
    WEAK_READOUT,
    MECH_BASES,
    ANTIPASTO,
    FUNC_PROJ,
    ACT_BASIS,
    SHARED_BASIS,
    ANGLES,
    ACTIVATION_READING,
    LOGIT_LENS,
    TAU_GEOMETRY,
    DEGRADATION,
    MULTISEED,
)
ANALYSES: dict[str, Analysis] = {a.name: a for a in SHIPPED}
USUAL = ("localization", "svd_align", "weak_readout", "mech_bases", "logit_lens")
"""What is asked when nothing else is said: where it sits and what it is made of, in minutes on a small model."""


def selection(words: Sequence[str]) -> list[Analysis]:
    """Analyses by name, in the order of the registry; `all` are all of them."""
    if unknown := [w for w in words if w != "all" and w not in ANALYSES]:
        near = get_close_matches(unknown[0], ANALYSES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are all, {', '.join(ANALYSES)}"
        raise ValueError(f"there is no analysis {unknown[0]!r}; {hint}")
    chosen = set(ANALYSES) if "all" in words else set(words or USUAL)
    return [a for name, a in ANALYSES.items() if name in chosen]
