"""A base with a direction folded into it: `theta + alpha * tau`, which everything then takes for a base of its own.

    gcd = ws.derive("tiny", "out/.../direction.safetensors")      # a fine-tune, as the direction it is
    with ws.steer(gcd, honesty, alpha=-1.0):                      # theta + tau - honesty
        ...

A direction that was made on the root fits what was derived from it. Id, fingerprint and hash of the weights are its own, and
follow from the root's and from what was folded in, so no result of the one is ever found for the other.
"""

import hashlib
import json
from copy import deepcopy
from dataclasses import replace

from ws.direction import Direction
from ws.models.base import Base, Root
from ws.models.checkpoint import checkpoint_of
from ws.steer import checked_strengths, fold_for_good, refuse_fold, refuse_steered

PROTOCOL = "derived/1"


def derive(
    base: Base, direction: Direction, alpha: float = 1.0, *, name: str | None = None, in_place: bool = False
) -> Base:
    """The base `theta + alpha * direction`; `alpha = 0` is the base itself.

    `in_place` writes into the network of `base`, which must not be used as a base afterwards, instead of into a copy.
    """
    checked_strengths([alpha])
    refuse_steered(base)
    refuse_fold(base, direction)
    if alpha == 0:
        return base
    step = f"{name or direction.content_hash[:8]}" + ("" if alpha == 1 else f"@{alpha:g}")
    marks = [
        _mark(kind, own, direction, alpha)
        for kind, own in (("fingerprint", base.fingerprint), ("weights", base.weights_hash))
    ]
    derived = replace(
        base,
        model=base.model if in_place else deepcopy(base.model),
        fingerprint=marks[0],
        weights=marks[1],
        id=f"{base.id}+{step}",
        root=_root_of(base, step, in_place),
    )
    fold_for_good(replace(derived, fingerprint=base.fingerprint, root=base.root), direction, alpha)
    return derived


def _mark(kind: str, own: str, direction: Direction, alpha: float) -> str:
    """A hash that is the derived base's own, whatever the precision it is loaded in."""
    return hashlib.sha256(json.dumps([PROTOCOL, kind, own, direction.content_hash, alpha]).encode()).hexdigest()


def _root_of(base: Base, step: str, in_place: bool) -> Root:
    """The root of what is derived from a base; one that is written over is read from its files where it is asked for."""
    if base.root is not None:
        return replace(base.root, onto=(*base.root.onto, step))
    weight = checkpoint_of(base).weight if in_place else base.weight
    return Root(base.id, base.fingerprint, (step,), weight)
