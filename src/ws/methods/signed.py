"""A signed adapter: one low rank adapter whose +1 has learnt the pos answers and whose -1 the neg answers of the same pairs.

    signed:lora    theta + alpha s B A,  trained at alpha 1 on pos and at alpha -1 on neg,  with KL to the base at both

What two sides that are trained apart have in common has to cancel in their difference; here it is never learnt, at half the
rank. The idea, and the weight of the KL, are those of the public cwsteer project (2026); its loss also pushes the wrong answer
away, ours is the plain cross-entropy of our other trainings. The KL is to the base's own answers to the training questions
(`ws.train.signed`). The result is a direction: it steers, calibrates and exports like any other.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ws.adapters import USUAL, Spec, family
from ws.direction.direction import Direction
from ws.direction.forms import LowRank
from ws.errors import Unsupported
from ws.methods.material import Material
from ws.methods.method import Method
from ws.methods.weights import Weights
from ws.models.load import Base
from ws.steer import along
from ws.train import spec_of
from ws.train.signed import PROTOCOL, choice, fit_signed

NAME = f"signed:{USUAL}"
KL = 0.03
READ, WRITE = "lora_A.weight", "lora_B.weight"


def check(*adapter: str) -> None:
    """Refuse a signed adapter of another family."""
    if adapter != (USUAL,):
        raise ValueError(f"a signed adapter is {NAME}; got {':'.join(['signed', *adapter])!r}")


def make(material: Material, adapter: str) -> Method:
    """The direction of a signed adapter, trained once in a study."""
    settings = material.settings_of(USUAL)
    return material.once(
        NAME, {"protocol": PROTOCOL, "train": asdict(settings), "kl": KL}, lambda: signed_lora(material)
    )


def signed_lora(material: Material, *, kl: float = KL) -> Weights:
    """One adapter, trained under both signs."""
    base, settings = material.base, material.settings_of(USUAL)
    of, spec = family(USUAL), spec_of(base, settings)
    if stacks := [m for m in spec.modules if m not in base.linears]:
        raise Unsupported(
            f"a signed adapter adds to what a layer writes, and {stacks[0]} are experts; name other `targets`."
        )
    with of.attached(base, spec, settings.seed) as fresh:
        start = fresh.state()
    tensors = {key: nn.Parameter(t, requires_grad=WRITE in key or not settings.freeze_a) for key, t in start.items()}
    trained, report = fit_signed(
        base,
        material.training_pairs(),
        material.validation_pairs(),
        settings,
        {key: p for key, p in tensors.items() if p.requires_grad},
        lambda signs: _worn(base, spec, tensors, signs),
        grid=settings.lr or of.lr,
        extend=not settings.lr and len(of.lr) > 1,
        kl=kl,
        label=NAME,
    )
    own = start | trained
    forms = {m: (LowRank((spec.scale * own[f"{m}.{WRITE}"]).cpu(), own[f"{m}.{READ}"].cpu()),) for m in spec.modules}
    how = {"protocol": PROTOCOL, "settings": asdict(settings), "kl": kl, **choice(report)}
    made = material.made("train", "val", made_by=NAME, training=how)
    return Weights(NAME, Direction(forms, {k: v for k, v in made.items() if k not in ("layers", "items")}))


@contextmanager
def _worn(base: Base, spec: Spec, tensors: Mapping[str, Tensor], signs: Sequence[float]) -> Iterator[None]:
    """The adapter on the base, at one strength per row, with its gradient."""
    dial = torch.tensor(signs, device=base.device)

    def hook_of(read: Tensor, write: Tensor):
        def hook(layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
            (x,) = args
            x = x.to(read.dtype)
            change = linear(linear(x, read) * (spec.scale * along(dial, x)), write)
            return (y + change).to(y.dtype)

        return hook

    with ExitStack() as hooks:
        for name in spec.modules:
            hook = hook_of(tensors[f"{name}.{READ}"], tensors[f"{name}.{WRITE}"])
            layer = base.linears[name].module
            assert isinstance(layer, nn.Module)
            hooks.callback(layer.register_forward_hook(hook).remove)
        yield
