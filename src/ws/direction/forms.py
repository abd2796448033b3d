"""The shapes a change of one weight matrix can take, each in its smallest exact form.

    y = W x + b,    change of y = alpha * form(x)

| form          | change of W                 | learnt by                                  |
|---------------|-----------------------------|--------------------------------------------|
| LowRank       | b a                         | LoRA, DeLoRA, PiSSA; a part of DoRA        |
| Stacked       | b a of every expert         | LoRA on the experts of one tensor          |
| RowScale      | diag(d) W                   | (IA)^3 on outputs; a part of DoRA and BOFT |
| ColScale      | W diag(e)                   | (IA)^3 on inputs                           |
| BlockRotation | diag(d) W blockdiag(e)      | OFT (without d); a part of BOFT            |
| BiasShift     | none; b gets + v            | bias; (IA)^3 on an output with a bias      |
| Dense         | m                           | full fine-tunes; nothing smaller is exact  |

Each form is linear in one of the tensors it stores, so a difference is again a sum of forms. `W` is always the weight
of the untouched base; that of experts which lie in one tensor is (experts, out, in). Nothing here knows a model or a file.

Shapes: o = out features, i = in features, r = rank, k = blocks, s = block size, n = any batch, x = experts.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

ROWS_AT_ONCE = 1024  # inner products walk a weight in slices of so many rows: memory stays far below the matrix

F = TypeVar("F", bound="Factors")


@dataclass(frozen=True, eq=False)
class Factors:
    """The matrix `b @ a`, or one of every expert, never multiplied out unless asked."""

    b: Tensor
    a: Tensor

    def dense(self, w: Tensor) -> Tensor:
        return self.b @ self.a

    def scaled(self: F, k: float) -> F:
        return replace(self, b=self.b * k)

    def plus(self: F, other: F) -> F:
        if self.a.shape == other.a.shape and torch.equal(self.a, other.a):  # frozen or shared readers: rank stays
            return type(self)(self.b + other.b, self.a)
        # [b1 b2] @ [a1; a2] == b1 @ a1 + b2 @ a2: nothing is multiplied, ranks add.
        return type(self)(torch.cat([self.b, other.b], dim=-1), torch.cat([self.a, other.a], dim=-2))

    @property
    def rank(self) -> int:
        """The number of columns of `b`."""
        return self.b.shape[-1]

    @property
    def sound(self) -> bool:
        """True where the two factors can be multiplied."""
        same = self.b.ndim == self.a.ndim and self.b.shape[:-2] == self.a.shape[:-2]
        return same and self.b.shape[-1] == self.a.shape[-2]

    def fits(self, *shape: int) -> bool:
        return self.sound and (*self.b.shape[:-1], self.a.shape[-1]) == shape


@dataclass(frozen=True, eq=False)
class LowRank(Factors):
    """The matrix `b @ a`."""

    b: Float[Tensor, "o r"]
    a: Float[Tensor, "r i"]
    kind: ClassVar[str] = "lowrank"

    def __call__(self, x: Float[Tensor, "*n i"], w: Tensor, wx: Tensor | None) -> Float[Tensor, "*n o"]:
        return (x @ self.a.mT) @ self.b.mT


@dataclass(frozen=True, eq=False)
class Stacked(Factors):
    """The matrix `b[e] @ a[e]` of every expert e. What it does to a token depends on where the token goes, so it is no function of x."""

    b: Float[Tensor, "x o r"]
    a: Float[Tensor, "x r i"]
    kind: ClassVar[str] = "stacked"

    @property
    def experts(self) -> list[LowRank]:
        """The change of each expert."""
        return [LowRank(b, a) for b, a in zip(self.b, self.a)]


@dataclass(frozen=True, eq=False)
class RowScale:
    """Outputs made louder or softer: `diag(d) W`."""

    d: Float[Tensor, "o"]
    kind: ClassVar[str] = "row"

    def __call__(self, x: Float[Tensor, "*n i"], w: Tensor, wx: Tensor | None) -> Float[Tensor, "*n o"]:
        assert wx is not None, "a RowScale needs the product W x"
        return self.d * wx

    def dense(self, w: Float[Tensor, "o i"]) -> Float[Tensor, "o i"]:
        return self.d[:, None] * w

    def scaled(self, k: float) -> "RowScale":
        return RowScale(self.d * k)

    def plus(self, other: "RowScale") -> "RowScale":
        return RowScale(self.d + other.d)

    def fits(self, *shape: int) -> bool:
        return len(shape) == 2 and self.d.shape == shape[:1]


@dataclass(frozen=True, eq=False)
class ColScale:
    """Inputs made louder or softer: `W diag(e)`."""

    e: Float[Tensor, "i"]
    kind: ClassVar[str] = "col"

    def __call__(self, x: Float[Tensor, "*n i"], w: Tensor, wx: Tensor | None) -> Float[Tensor, "*n o"]:
        return (x * self.e) @ w.mT.to(x.dtype)

    def dense(self, w: Float[Tensor, "o i"]) -> Float[Tensor, "o i"]:
        return w * self.e

    def scaled(self, k: float) -> "ColScale":
        return ColScale(self.e * k)

    def plus(self, other: "ColScale") -> "ColScale":
        return ColScale(self.e + other.e)

    def fits(self, *shape: int) -> bool:
        return len(shape) == 2 and self.e.shape == shape[1:]


@dataclass(frozen=True, eq=False)
class BlockRotation:
    """Blocks of inputs mixed before the matrix: `W blockdiag(e)`, or `diag(d) W blockdiag(e)`.

    OFT turns the *input*, x -> x R, so W' = W R^T and e = R_pos^T - R_neg^T. A difference of rotations is not a
    rotation: lengths change with alpha.
    """

    e: Float[Tensor, "k s s"]
    d: Float[Tensor, "o"] | None = None
    kind: ClassVar[str] = "block"

    def __call__(self, x: Float[Tensor, "*n i"], w: Tensor, wx: Tensor | None) -> Float[Tensor, "*n o"]:
        y = self.turned(x) @ w.mT.to(x.dtype)
        return y if self.d is None else self.d * y

    def turned(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n i"]:
        """`blockdiag(e) x` for every row x."""
        blocks = x.unflatten(-1, (self.e.shape[0], self.e.shape[1]))  # (*n, k, s)
        return torch.einsum("...ks,kts->...kt", blocks, self.e).flatten(-2)

    def dense(self, w: Float[Tensor, "o i"]) -> Float[Tensor, "o i"]:
        blocks = w.unflatten(-1, (self.e.shape[0], self.e.shape[1]))
        m = torch.einsum("oks,kst->okt", blocks, self.e).flatten(-2)
        return m if self.d is None else self.d[:, None] * m

    def scaled(self, k: float) -> "BlockRotation":
        # d carries the scale where there is one, never both
        return replace(self, e=self.e * k) if self.d is None else replace(self, d=self.d * k)

    def plus(self, other: "BlockRotation") -> "BlockRotation | None":
        if self.d is None and other.d is None and self.e.shape == other.e.shape:
            return BlockRotation(self.e + other.e)
        return None

    def fits(self, *shape: int) -> bool:
        square = self.e.ndim == 3 and self.e.shape[1] == self.e.shape[2]
        return (
            len(shape) == 2
            and square
            and self.e.shape[0] * self.e.shape[1] == shape[1]
            and (self.d is None or self.d.shape == shape[:1])
        )


@dataclass(frozen=True, eq=False)
class BiasShift:
    """The same vector added at every position; the matrix is untouched."""

    v: Float[Tensor, "o"]
    kind: ClassVar[str] = "bias"

    def __call__(self, x: Float[Tensor, "*n i"], w: Tensor, wx: Tensor | None) -> Float[Tensor, "*n o"]:
        return self.v.expand(*x.shape[:-1], -1)

    def dense(self, w: Float[Tensor, "o i"]) -> Float[Tensor, "o i"]:
        return torch.zeros_like(w)

    def scaled(self, k: float) -> "BiasShift":
        return BiasShift(self.v * k)

    def plus(self, other: "BiasShift") -> "BiasShift":
        return BiasShift(self.v + other.v)

    def fits(self, *shape: int) -> bool:
        return len(shape) == 2 and self.v.shape == shape[:1]


@dataclass(frozen=True, eq=False)
class Dense:
    """The matrix itself, for changes that nothing smaller holds exactly."""

    m: Float[Tensor, "o i"]
    kind: ClassVar[str] = "dense"

    def __call__(self, x: Float[Tensor, "*n i"], w: Tensor, wx: Tensor | None) -> Float[Tensor, "*n o"]:
        return x @ self.m.mT

    def dense(self, w: Float[Tensor, "o i"]) -> Float[Tensor, "o i"]:
        return self.m

    def scaled(self, k: float) -> "Dense":
        return Dense(self.m * k)

    def plus(self, other: "Dense") -> "Dense":
        return Dense(self.m + other.m)

    def fits(self, *shape: int) -> bool:
        return self.m.shape == shape


Form = LowRank | Stacked | RowScale | ColScale | BlockRotation | BiasShift | Dense
KINDS: dict[str, type[Form]] = {
    f.kind: f for f in (LowRank, Stacked, RowScale, ColScale, BlockRotation, BiasShift, Dense)
}
READS_BASE = (RowScale, ColScale, BlockRotation)  # forms that are a change *of W* and mean nothing without it


def tensors(form: Form) -> dict[str, Tensor]:
    """The tensors a form stores, by field name."""
    return {name: t for name, t in vars(form).items() if t is not None}


def all_finite(t: Tensor) -> bool:
    """True where no value is infinite or NaN: both show in the least or the greatest value, in one pass and without a mask."""
    return t.numel() == 0 or all(bool(torch.isfinite(end)) for end in torch.aminmax(t))


def mapped(form: Form, change) -> Form:
    """The same form with `change` applied to every tensor it stores."""
    return type(form)(**{name: change(t) for name, t in tensors(form).items()})


def gathered(forms: tuple[Form, ...]) -> tuple[Form, ...]:
    """The same sum with forms of one kind added up wherever that is exact."""
    sums: list[Form] = []
    for form in forms:
        for at, other in enumerate(sums):
            if type(other) is type(form) and (total := other.plus(form)) is not None:  # type: ignore[arg-type]
                sums[at] = total
                break
        else:
            sums.append(form)
    return tuple(sums)


def inner(left: Form, right: Form, w: Float[Tensor, "o i"] | None) -> float:
    """The Frobenius product of two forms, summed in float64, without building either matrix.

    Low rank with low rank costs (o + i) r1 r2. Everything that reads the base walks `w` in slices of rows. A bias
    is a coordinate of its own: its product with any matrix is 0.
    """
    if isinstance(left, BiasShift) or isinstance(right, BiasShift):
        both = isinstance(left, BiasShift) and isinstance(right, BiasShift)
        return float(_64(left.v) @ _64(right.v)) if both else 0.0  # type: ignore[union-attr]
    if isinstance(left, Factors) and isinstance(right, Factors):
        assert left.b.shape[:-1] == right.b.shape[:-1], "changes of one module have one shape"
        return float(((_64(left.b).mT @ _64(right.b)) * (_64(left.a) @ _64(right.a).mT)).sum())
    if isinstance(right, LowRank):
        left, right = right, left
    out_features = _rows(left) or _rows(right) or (w.shape[0] if w is not None else 0)
    total = 0.0
    for start in range(0, out_features, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        part = None if w is None else _64(w[rows])
        right_rows = _slice(right, rows, part)
        if isinstance(left, LowRank):
            total += float(((_64(left.b[rows]).mT @ right_rows) * _64(left.a)).sum())
        else:
            total += float((_slice(left, rows, part) * right_rows).sum())
    return total


def _64(t: Tensor) -> Tensor:
    """On the CPU in float64: MPS has no float64, and sums are where digits get lost."""
    return t.detach().to("cpu", torch.float64)


def _rows(form: Form) -> int:
    if isinstance(form, LowRank):
        return form.b.shape[0]
    return form.m.shape[0] if isinstance(form, Dense) else 0


def _slice(form: Form, rows: slice, w: Float[Tensor, "o i"] | None) -> Float[Tensor, "o i"]:
    """Some rows of the matrix of `form`; `w` holds the same rows of the base."""
    if isinstance(form, Dense):
        return _64(form.m[rows])
    assert w is not None, f"a {form.kind} form needs the base weight"
    if isinstance(form, RowScale):
        return RowScale(_64(form.d[rows])).dense(w)
    if isinstance(form, ColScale):
        return ColScale(_64(form.e)).dense(w)
    assert isinstance(form, BlockRotation)
    return BlockRotation(_64(form.e), None if form.d is None else _64(form.d[rows])).dense(w)
