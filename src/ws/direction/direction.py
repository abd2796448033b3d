"""A direction: for every module it touches, the exact change of its weight, as a sum of forms.

    both = honesty + 0.5 * candor
    back = -honesty
    size = honesty.norm(base.weight)

`theta + alpha * direction` is the steered model. Values are frozen and keep factors, not matrices. Nothing here knows
a model: where a form is a change *of W* (scales and rotations), sizes need `weight`, a function from a module's name
to the base's matrix.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ws.direction.card import behavior_of, effect_in_words
from ws.direction.forms import READS_BASE, BiasShift, Factors, Form, Stacked, gathered, inner, mapped, tensors
from ws.errors import DirectionMismatch
from ws.types import Json

WeightOf = Callable[[str], Tensor]
MANY = 50_000_000
"""Numbers of a direction above which its norm takes too long to be computed only to be shown."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A change of some modules, in weight space."""

    forms: Mapping[str, tuple[Form, ...]]
    """Module name to the forms whose sum is the change of that module."""

    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What made it: JSON values, no time, host or path. `base.fingerprint` binds it to its base."""

    card: Mapping[str, Any] = field(default_factory=dict)
    """What is known of it, for people (`ws.direction.card`); what is computed from it begins without."""

    def __post_init__(self):
        forms = {name: tuple(mapped(f, Tensor.detach) for f in fs) for name, fs in sorted(self.forms.items()) if fs}
        object.__setattr__(self, "forms", MappingProxyType(forms))
        object.__setattr__(self, "provenance", MappingProxyType(json.loads(json.dumps(dict(self.provenance)))))
        object.__setattr__(self, "card", MappingProxyType(json.loads(json.dumps(dict(self.card)))))

    def __repr__(self) -> str:
        base, made = self.provenance.get("base") or {}, self.provenance
        name, _, _ = behavior_of(self)
        family = made.get("adapter") or made.get("made_by") or " + ".join(sorted({f.kind for f in self._all}))
        ranks = [f.rank for f in self._all if isinstance(f, Factors)]
        parts = [
            *([name] if name else []),
            f"{family}{f' of rank {max(ranks)}' if ranks else ''} on {base.get('id') or _short(self.fingerprint)}",
            f"{len(self.forms)} modules",
            self._norm_as_text(),
            *map(effect_in_words, self.card.get("effects", ())[:1]),
        ]
        return f"Direction({', '.join(parts)})"

    @property
    def _all(self) -> list[Form]:
        return [f for forms in self.forms.values() for f in forms]

    def _norm_as_text(self) -> str:
        if self.reads_base:
            return "norm(base.weight) says its norm"
        if sum(t.numel() for f in self._all for t in tensors(f).values()) > MANY:
            return "norm() says its norm"
        return f"norm {self.norm():.4g}"

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the base it was made for."""
        return (self.provenance.get("base") or {}).get("fingerprint")

    @property
    def reads_base(self) -> bool:
        """True where a form is a change of W, so that sizes and application need the base's own weights."""
        return any(isinstance(f, READS_BASE) for fs in self.forms.values() for f in fs)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the tensors and their names: the identity of the change, whatever is said of it and however it is stored."""
        return self._hashed("")

    @property
    def content_hashes(self) -> tuple[str, str]:
        """Its hash, and the one that earlier versions took, which covered the provenance too."""
        return self.content_hash, self._hashed(json.dumps(dict(self.provenance), sort_keys=True))

    def _hashed(self, head: str) -> str:
        h = hashlib.sha256(head.encode())
        for name, fs in self.forms.items():
            for form in fs:
                for key, t in tensors(form).items():
                    h.update(f"{name} {form.kind} {key} {t.dtype} {tuple(t.shape)}".encode())
                    h.update(t.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return h.hexdigest()

    def __add__(self, other: "Direction") -> "Direction":
        if not isinstance(other, Direction):
            return NotImplemented
        same_base(self, other)
        names = self.forms.keys() | other.forms.keys()
        total = {n: gathered((*self.forms.get(n, ()), *other.forms.get(n, ()))) for n in names}
        return Direction(total, _combined("sum", self, other))

    def __mul__(self, k: Any) -> "Direction":
        k = float(k)
        if not math.isfinite(k):
            raise ValueError(f"a direction can only be scaled by a finite number, got {k}")
        scaled = {name: tuple(f.scaled(k) for f in fs) for name, fs in self.forms.items()}
        return Direction(scaled, {**self.provenance, "scale": self.provenance.get("scale", 1.0) * k})

    __rmul__ = __mul__

    def __neg__(self) -> "Direction":
        return self * -1.0

    def __sub__(self, other: "Direction") -> "Direction":
        return self + (-other)

    def dense(self, name: str, weight: WeightOf) -> Tensor:
        """The full matrix of one module, multiplied out."""
        w = weight(name)
        return torch.stack([f.dense(w.to(next(iter(tensors(f).values())).dtype)) for f in self.forms[name]]).sum(0)

    def bias(self, name: str) -> Tensor | None:
        """The change of one module's bias, or None."""
        shifts = [f.v for f in self.forms[name] if isinstance(f, BiasShift)]
        return torch.stack(shifts).sum(0) if shifts else None

    def norm(self, weight: WeightOf | None = None) -> float:
        """The Frobenius norm over all modules."""
        return math.sqrt(max(0.0, dot(self, self, weight)))

    def norms(self, weight: WeightOf | None = None) -> dict[str, float]:
        """The norm of each module's change."""
        return {n: math.sqrt(max(0.0, _dot_module(fs, fs, n, weight))) for n, fs in self.forms.items()}

    def expert_norms(self) -> dict[str, list[float]]:
        """The norm of every expert's change, in each tensor that holds the matrices of all experts of a block."""
        return {
            n: [math.sqrt(max(0.0, inner(e, e, None))) for e in form.experts]
            for n, fs in self.forms.items()
            for form in gathered(fs)
            if isinstance(form, Stacked)
        }

    def to(
        self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None, copy: bool = False
    ) -> "Direction":
        """The same direction elsewhere, or in another precision; `copy` for numbers that no file is behind any more."""
        forms = {
            n: tuple(mapped(f, lambda t: t.to(device=device, dtype=dtype, copy=copy)) for f in fs)
            for n, fs in self.forms.items()
        }
        return Direction(forms, self.provenance, self.card)


def same_base(*directions: Direction) -> None:
    """Refuse to combine directions that were made for different bases."""
    for other in directions[1:]:
        if other.fingerprint != directions[0].fingerprint:
            raise DirectionMismatch(
                f"these directions were made for different bases ({_short(directions[0].fingerprint)} and "
                f"{_short(other.fingerprint)}). Only directions of one base can be added."
            )


def dot(left: Direction, right: Direction, weight: WeightOf | None = None) -> float:
    """The inner product of two directions; a module that only one of them touches counts 0."""
    shared = left.forms.keys() & right.forms.keys()
    return sum(_dot_module(left.forms[n], right.forms[n], n, weight) for n in sorted(shared))


def cosine(left: Direction, right: Direction, weight: WeightOf | None = None) -> float:
    """The cosine between two directions; NaN if one of them is zero."""
    size = left.norm(weight) * right.norm(weight)
    return dot(left, right, weight) / size if size > 0 else math.nan


def _dot_module(left: tuple[Form, ...], right: tuple[Form, ...], name: str, weight: WeightOf | None) -> float:
    w = None
    if any(isinstance(f, READS_BASE) for f in (*left, *right)):
        if weight is None:
            raise ValueError(
                f"{name} is changed relative to its own weight, so its size needs the base: pass weight=base.weight"
            )
        w = weight(name)
    return sum(inner(a, b, w) for a in left for b in right)


def _combined(how: str, *parts: Direction) -> Json:
    base = parts[0].provenance.get("base")
    return {"base": base, "made_by": how, "parts": [dict(p.provenance) for p in parts]}


def _short(fingerprint: str | None) -> str:
    return f"{fingerprint[:8]}…" if fingerprint else "unknown"
