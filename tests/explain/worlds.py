"""Directions on `tiny` whose effect lies where it was put."""

import torch

from ws.direction import Direction, random_like
from ws.direction.forms import LowRank
from ws.eval import Evaluation
from ws.eval.scoring import logprobs, prompts_of
from ws.explain.measure import Measure
from ws.prefix_cache import padded

METRIC = "logratio_honesty"
MODULES = [
    f"model.layers.{n}.{kind}" for n in (2, 3) for kind in ("self_attn.o_proj", "self_attn.v_proj", "mlp.down_proj")
]


def gradients(base, evaluation, names):
    """Module to the gradient of the sum of y by its weight: the change that moves it most."""
    items = evaluation.questions(base).items
    weights = [base.linears[n].module.weight for n in names]
    for w in weights:
        w.requires_grad_(True)
    try:
        prompts = prompts_of(base, items)
        ids, mask, positions = padded(base, [p.ids for p in prompts])
        with torch.enable_grad():
            logits = base.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1]
            y = [
                p.item.label * (row[list(p.answers.yes)].logsumexp(-1) - row[list(p.answers.no)].logsumexp(-1))
                for row, p in zip(logprobs(logits), prompts)
            ]
            found = torch.autograd.grad(torch.stack(y).sum(), weights)
    finally:
        for w in weights:
            w.requires_grad_(False)
    return dict(zip(names, found))


def unit(seed, o, i):
    g = torch.Generator().manual_seed(seed)
    b, a = torch.randn(o, 1, generator=g), torch.randn(1, i, generator=g)
    return LowRank(b / b.norm(), a / a.norm())


def planted(base, slopes, where, seed, size=0.5):
    """As large in every module, and along the gradient in one of them alone."""
    forms = {}
    for at, name in enumerate(slopes):
        o, i = base.weight(name).shape
        forms[name] = (unit(1000 * seed + at, o, i).scaled(size),)
    u, _, vh = torch.linalg.svd(slopes[where].double(), full_matrices=False)
    forms[where] = (LowRank((size * u[:, :1]).float(), vh[:1].float()),)
    return Direction(forms, {"base": base.described()})


def scrambled(base, direction, seed):
    """The same sizes, and nothing of what it was."""
    return random_like(direction, seed, base.weight)


def measure(base, direction, folder, *, alpha=1.0, limit=4, evaluation="dilemmas", metric=METRIC, **more):
    chosen = Evaluation(evaluation, limit=limit)
    return Measure(base, direction, chosen, alpha, folder, folder / "out", {metric: 1}, **more)
