"""The direction between two trained sides: `dW = theta_pos - theta_neg`, exact, in factors.

Never a merge and a subtraction. Both changes are computed from the adapters' own tensors in float64, what they share is
cancelled before anything is rounded, and the result is stored in float32.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ws.adapters import Adapter, changes_between, family
from ws.adapters.family import forms_of
from ws.direction.direction import Direction, dot
from ws.direction.file import Streamed
from ws.errors import DirectionMismatch
from ws.models.checkpoint import Theta
from ws.models.load import Base
from ws.records import versions
from ws.signatures import plain_types

MODES = ("contrastive", "tau+", "tau-")


@plain_types
def diff(
    base: Base,
    pos: Adapter,
    neg: Adapter,
    *,
    mode: str = "contrastive",
    into: Path | None = None,
    card: Mapping[str, object] | None = None,
) -> Direction:
    """The direction from the neg side to the pos side.

    `contrastive` is theta_pos - theta_neg; `tau+` is theta_pos - theta, `tau-` is theta - theta_neg: all point toward pos.
    With `into`, it is written to that file module by module, and read from there where it is used. `card` is what it says
    of itself to people.
    """
    checked_mode(mode)
    _line_up(base, pos, neg)
    if mode == "contrastive" and pos is neg:  # equal ones may come out of training, and their difference is 0
        raise DirectionMismatch("the two sides are the same adapter, between which there is no difference.")
    of = family(pos.spec.family)
    if mode == "contrastive":
        # a start that both share is no part of the difference; leaving it out keeps the rank at 2r
        pos, neg = replace(pos, frozen={}), replace(neg, frozen={})
    left, right = (None if mode == "tau-" else (of, pos)), (None if mode == "tau+" else (of, neg))
    changes = changes_between(base, left, right)
    provenance = {
        "base": base.described(),
        "mode": mode,
        "adapter": pos.spec.family,
        "spec": {k: v for k, v in vars(pos.spec).items() if k != "modules"},
        "training": {k: v for k, v in pos.provenance.items() if k != "side"},
        "versions": {k: v for k, v in versions().items() if k in ("torch", "peft", "transformers", "weight-steering")},
    }
    if into is None:
        return Direction(dict(changes), provenance, card or {})
    with Streamed(into) as file:
        for name, forms in changes:
            file.add(name, forms)
        return file.finish(provenance, card or {})


def diff_adapters(base: Theta, left: Adapter, right: Adapter | None = None) -> Direction:
    """The direction from any adapter of a base to any other, or to the base: families, ranks and modules may differ.

    A module that only one of them touches counts 0 in the other.
    """
    for side, adapter in (("left", left), ("right", right)):
        if adapter is None:
            continue
        refuse_other_base(adapter, base, f"the {side} adapter")
    if right is not None:
        left, right = without_shared_start(left, right)
    sides = [left] if right is None else [left, right]
    other = None if right is None else (family(right.spec.family), right)
    changes = changes_between(base, (family(left.spec.family), left), other)
    provenance = {
        "base": base.described(),
        "mode": "contrastive" if right is not None else "tau+",
        "made_by": "two adapters" if right is not None else "an adapter",
        "parts": [{"adapter": a.spec.family, **dict(a.provenance)} for a in sides],
    }
    return Direction(dict(changes), provenance)


def refuse_other_base(adapter: Adapter, base: Theta, name: str) -> None:
    """Refuse an adapter that says that it was trained on another base."""
    mark = adapter.base.get("fingerprint")
    if mark and mark != base.fingerprint:
        raise DirectionMismatch(f"{name} was trained on base {mark[:8]}…, this model is {base.fingerprint[:8]}….")


def without_shared_start(left: Adapter, right: Adapter) -> tuple[Adapter, Adapter]:
    """Both adapters, less the start where they have the same one: their difference is then exact at the sum of ranks."""
    if not _same_start(left, right):
        return left, right
    return replace(left, frozen={}), replace(right, frozen={})


def _same_start(left: Adapter, right: Adapter) -> bool:
    """True where both started from the same tensors, which then cancel."""
    return left.frozen.keys() == right.frozen.keys() and all(
        torch.equal(t, right.frozen[k]) for k, t in left.frozen.items()
    )


def checked_mode(mode: str) -> str:
    """The mode; one that does not exist is refused."""
    if mode not in MODES:
        raise ValueError(f"mode is one of {', '.join(MODES)}; got {mode!r}")
    return mode


def geometry(base: Theta, pos: Adapter, neg: Adapter) -> Mapping[str, float]:
    """The geometry of the two sides: norms, `cos_tau = cos(tau+, tau-)`, and how much they share."""
    of, pp, nn, pn = family(pos.spec.family), 0.0, 0.0, 0.0
    for name in pos.spec.modules:  # one at a time: whole matrices in float64 are large
        plus, minus = (Direction({name: forms_of(of, base, side, name)}) for side in (pos, neg))
        pp, nn = pp + dot(plus, plus, base.weight), nn + dot(minus, minus, base.weight)
        pn += dot(plus, minus, base.weight)
    p, n = math.sqrt(max(0.0, pp)), math.sqrt(max(0.0, nn))
    size, common = math.sqrt(max(0.0, pp + nn - 2 * pn)), math.sqrt(max(0.0, pp + nn + 2 * pn))
    return {
        "norm_pos": p,
        "norm_neg": n,
        "norm": size,
        "cos_tau": pn / (p * n) if p * n > 0 else math.nan,
        "asymmetry": p / n if n > 0 else math.nan,
        "drift_ratio": common / size if size > 0 else math.nan,
    }


def _line_up(base: Base, pos: Adapter, neg: Adapter) -> None:
    for side, adapter in (("pos", pos), ("neg", neg)):
        mark = adapter.base.get("fingerprint")
        if mark and mark != base.fingerprint:
            raise DirectionMismatch(
                f"the {side} adapter was trained on base {mark[:8]}… ({adapter.base.get('id')}), this model is {base.fingerprint[:8]}…."
            )
        if missing := sorted(set(adapter.spec.modules) - base.layers.keys()):
            raise DirectionMismatch(f"the {side} adapter sits on modules this model lacks, e.g. {missing[:3]}.")
    if pos.spec != neg.spec:
        only = sorted(set(pos.spec.modules) ^ set(neg.spec.modules))[:3]
        raise DirectionMismatch(
            f"the two adapters differ in family, size or modules (pos {pos.spec.family}, neg {neg.spec.family}"
            f"{', only on one side: ' + str(only) if only else ''}). Train both in one run."
        )
    if not _same_start(pos, neg):
        raise DirectionMismatch(
            "the two adapters have different starts, which do not cancel; train both from one start."
        )
