"""The arms that most recipes share, as the paper names them (1.3), with strengths of ours (1.4): the paper's are unpublished."""

from collections.abc import Sequence

from ws.paper.recipe import Arm
from ws.types import Json

Strengths = tuple[float, ...]
K = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""weight, tau and bias_only: multiples of a difference of weights."""
C = (0.5, 1.0, 1.5, 2.0, 3.0)
"""act_single: multiples of a difference of activations at one layer."""
ALL = (0.1, 0.25, 0.5, 1.0, 2.0)
"""act_all: the same at every layer."""
QUICK_K, QUICK_C, QUICK_ALL = (0.5, 1.0, 2.0), (0.5, 1.0, 2.0), (0.1, 0.5, 1.0)
QUICK_KL: Json = {
    "n_calib": 40,
    "n_audit": 40,
    "tokens": 16,
    "tolerance": 0.1,
    "max_evals": 8,
    "audit": "point",
    "within": 1.5,
}
"""How KL is sought on `tiny`, where a recipe is to take minutes."""
LORA: Json = {"rank": 32, "lora_alpha": 16.0, "batch_size": 8, "eval_every": 20, "val_share": 0.05, "layers": "all"}
"""The paper's adapters; shared start and one stopping step for both sides are ours."""
STEPS = 4
"""Checkpoints of a fine-tune that make its curve."""


def both(strengths: Strengths) -> Strengths:
    """Strengths of both signs."""
    return tuple(-a for a in reversed(strengths)) + strengths


def steering_arms(*, quick: bool = False, names: Sequence[str] = ()) -> tuple[Arm, ...]:
    """The arms of recipes without a task fine-tune; those that are named, or all."""
    k, c, everywhere = (both(s) for s in ((QUICK_K, QUICK_C, QUICK_ALL) if quick else (K, C, ALL)))
    checkpoints = tuple(f"ft:lora:{n}" for n in range(1, STEPS)) + ("ft:lora",)
    arms = (
        Arm("weight", ("ws:lora",), k),
        Arm("finetune", checkpoints, graded=False),
        Arm("act_single", ("paper:single",), c),
        Arm("act_all", ("paper:all",), everywhere),
        Arm("bias_only", ("ws:bias",), k),
        Arm("tau+", ("ws:lora:tau+",), k),
        Arm("tau-", ("ws:lora:tau-",), k),
        Arm("prompt", ("prompt:pairs",), graded=False),
        Arm("random", ("random:spectrum:0",), k),
    )
    return tuple(a for a in arms if not names or a.name in names)
