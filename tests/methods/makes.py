"""One of every kind of method on a small random model, from planted states: no tokenizer, no training."""

import small
import torch

from ws.behaviors import load_behavior
from ws.direction import Direction
from ws.direction.forms import LowRank
from ws.methods import prompts
from ws.methods.activation import ablation, clusters, gated, sspace, transport, turning, vectors
from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.method import Method
from ws.methods.weights import Weights

FITS = {
    "add": lambda p, n: Add(vectors.mean_diff(p, n) * 2),
    "topk": clusters.topk_clusters,
    "gated": gated.cosine_gated,
    "ablation": ablation.directional_ablation,
    "angular": turning.angular,
    "spherical": turning.spherical,
    "linear": transport.linear_act,
    "chars": transport.chars,
}


def planted(contrast: float = 3.0, *, n: int = 64, d: int = 32, noise: float = 1.0, seed: int = 0):
    """(pos, neg, the unit vector between them): the same questions on both sides, noise of its own on each."""
    g = torch.Generator().manual_seed(seed)
    v = torch.nn.functional.normalize(torch.randn(d, generator=g), dim=0)
    questions = torch.randn(n, d, generator=g)
    pos, neg = (questions + noise * torch.randn(n, d, generator=g) + s * contrast * v / 2 for s in (1, -1))
    return pos, neg, v


def low_rank(base, seed: int = 0, modules=("self_attn.o_proj", "mlp.down_proj")) -> Direction:
    g = torch.Generator().manual_seed(seed)
    forms = {}
    for name, linear in base.linears.items():
        if linear.is_called(modules):
            o, i = base.weight(name).shape
            forms[name] = (LowRank(torch.randn(o, 2, generator=g) * 0.3, torch.randn(2, i, generator=g) * 0.3),)
    return Direction(forms, {"base": base.described(), "adapter": "lora"})


def all_kinds(base) -> dict[str, Method]:
    """One of every kind, by kind."""
    found: dict[str, Method] = {
        "weights": Weights("ws:lora", low_rank(base)),
        "sides": Weights("ft:lora", low_rank(base, 1), below=low_rank(base, 2), largest=1.0),
        "prompt": prompts.of_behavior(load_behavior("honesty"), "simple"),
    }
    made = {"base": base.described()}
    for kind, fit in FITS.items():
        edits = {}
        for at in (1, 2):
            pos, neg, _ = planted(seed=at)
            edits[block_name(base, at)] = fit(pos, neg)
        found[kind] = Activation(f"sl:{kind}", edits, provenance=made)
    edits = {}
    for name in sspace.writers(base, "1-2"):
        pos, neg, _ = planted(seed=7)
        edits[name] = sspace.sspace_w(pos, neg, base.weight(name), base.bias(name))
    found["sspace"] = Activation("sl:sspace_w", edits, provenance=made)
    found["response"] = Activation("paper:all", found["add"].edits, "response", provenance=made)  # type: ignore[attr-defined]
    return found


KINDS = ("weights", "sides", "prompt", *FITS, "sspace", "response")
BASE = small.base("llama")
METHODS = all_kinds(BASE)
