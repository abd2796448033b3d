"""How far a quantised base lies from the whole model it was made from: in weights, and in what both say.

A direction that was learnt on the one and is exported on the other does not meet the same model; this is the printed
estimate of what differs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ws.errors import ExportRefused
from ws.models.base import Base
from ws.models.chat import Chat, encode, render
from ws.models.quantised import values_of

UNLIKE = 0.5
"""Relative difference of weights from which on a model is another one: nf4 rounds away a tenth, int8 a hundredth."""


@dataclass(frozen=True)
class Difference:
    """What lies between two bases."""

    weights: float
    """Size of the difference of both weights over the size of the whole ones, on the modules of a direction."""
    worst: float
    """The same of the module where it is largest."""
    module: str
    kl: float
    """KL of the quantised base's next token from the whole one's, in nat, on average over what some prompts do not share."""
    tokens: int


def difference(packed: Base, whole: Base, modules: Iterable[str], prompts: Sequence[str]) -> Difference:
    """The difference of two bases; what is not one model twice is refused."""
    if packed.quantised is not None and packed.quantised.whole != whole.fingerprint:
        raise ExportRefused(
            f"{whole.id} is {whole.fingerprint[:8]}…, and {packed.id} was quantised from {packed.quantised.whole[:8]}…; name that."
        )
    shares, off, size = {}, 0.0, 0.0
    for name in modules:
        w = whole.weight(name).float()
        apart = float((values_of(packed.layers[name].module).to(w.device) - w).square().sum())
        own = float(w.square().sum())
        off, size, shares[name] = off + apart, size + own, (apart / own) ** 0.5
    worst = max(shares, key=shares.__getitem__)
    if shares[worst] > UNLIKE:
        raise ExportRefused(
            f"{whole.id} is not what {packed.id} was made from: on {worst} their weights differ by {100 * shares[worst]:.0f} %; name "
            "the model it was made from."
        )
    rows = [encode(whole.tokenizer, render(whole.tokenizer, Chat(p))) for p in prompts]
    # the words that a template puts before every prompt would count as often as there are prompts
    shared = next((at for at, ids in enumerate(zip(*rows)) if len(set(ids)) > 1), 0)
    kl = torch.cat([_kl(packed, whole, ids)[shared:] for ids in rows])
    return Difference((off / size) ** 0.5, shares[worst], worst, float(kl.mean()), len(kl))


@torch.inference_mode()
def _kl(packed: Base, whole: Base, ids: list[int]) -> Tensor:
    """KL(whole || packed) after every token."""
    p, q = (
        b.model(input_ids=torch.tensor([ids], device=b.device), use_cache=False).logits[0].float().log_softmax(-1).cpu()
        for b in (whole, packed)
    )
    return (p.exp() * (p - q)).sum(-1)
