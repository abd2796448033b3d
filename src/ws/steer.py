"""The dial: `theta + alpha * direction`, on a live model, and back again exactly.

    with ws.steer(base, honesty, alpha=-1.0):
        base.model.generate(...)

By hook no weight is written: each touched layer adds `alpha * form(x)` to its output, in at least fp32, and casts
back. Experts that lie in one tensor multiply by themselves, and nothing can be added half way: for the length of their
forward pass they see steered matrices in place of their own, one pass for every strength in the batch. By `fold=True`
the change is written into the weights, from a saved copy, and the saved bits come back at the end. Blocks nest,
overlap and may be left in any order: every layer keeps one list of what is switched on.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from ws.direction.direction import Direction
from ws.direction.forms import READS_BASE, BiasShift, Form, LowRank, RowScale, Stacked, mapped, tensors
from ws.errors import DirectionMismatch, Unsupported
from ws.models.base import Base, Root, how_to_load
from ws.models.exchange import Exchange
from ws.models.modules import (
    ONE_EXPERT,
    Layer,
    Stack,
    at_places,
    fingerprint,
    is_packed,
    is_turned,
    linears_of,
    sizes,
    stacks_of,
    weight_of,
)
from ws.models.turned import gains, turned

log = logging.getLogger(__name__)

FARTHEST = 1e6
"""Largest strength; a calibration looks no further than 1,024."""
ENOUGH_ARRIVED = 0.95  # below this share of the step, a bf16 fold is not what was asked for

Alpha = float | Sequence[float] | Tensor


@contextmanager
def steer(
    base: Base | nn.Module, direction: Direction, alpha: Alpha, *, fold: bool = False, origin: Base | None = None
) -> Iterator[nn.Module]:
    """Steer a model by `alpha * direction` inside the block.

    `alpha` is one number, or one per row of the batch. `alpha = 0` is the identity, bit for bit: nothing is installed.
    A tensor (rows, modules) has a strength for every module, in the order of `direction.forms`: many parts of one direction
    are then rows of one batch, each module is computed once for all of them, and strengths may carry a gradient.
    `origin` names the base the direction was made on when `base` is a fine-tune of it: scales and rotations are then
    computed from the origin's weights.
    """
    model = base.model if isinstance(base, Base) else base
    _refuse_split(model, fold)
    dials = _dials(alpha, direction)
    if fold and any(isinstance(dial, Tensor) for dial in dials.values()):
        raise ValueError("folding writes one strength into the weights; one alpha per row needs fold=False")
    _refuse_rows_of_experts(dials)
    layers = _checked_layers(base, model, direction, origin)
    made_on = origin or _root(base, direction)
    _refuse_packed(layers, direction, fold, made_on is not None)

    with ExitStack() as undo:
        for name, dial in dials.items():
            layer = layers[name]
            part = _part(layer, direction.forms[name], dial, fold, made_on, name)
            undo.callback(_switch_off, layer, part)  # first: switching on may fail half way
            _switch_on(layer, part)
        if fold and dials:
            _warn_of_lost_steps([_DIALS[layer].delivered for layer in layers.values()])
        yield model


def fold_for_good(base: Base, direction: Direction, alpha: float) -> None:
    """Write `alpha * direction` into the weights to stay: the base is then another one, and no copy of its bits is kept."""
    layers, made_on, shares = _checked_layers(base, base.model, direction, None), _root(base, direction), []
    for name, forms in direction.forms.items():
        dial = _Dial([])
        _fold(layers[name], dial, [_part(layers[name], forms, alpha, True, made_on, name)])
        shares.append(dial.delivered)
    _warn_of_lost_steps(shares)


def refuse_fold(base: Base, direction: Direction) -> None:
    """Refuse a direction that cannot be written into this base's weights, in one sentence."""
    layers = _checked_layers(base, base.model, direction, None)
    _refuse_packed(layers, direction, True, _root(base, direction) is not None)


def _root(base: Base | nn.Module, direction: Direction) -> Root | None:
    """The root of a derived base, where the direction was made on it."""
    root = base.root if isinstance(base, Base) else None
    return root if root is not None and direction.fingerprint == root.fingerprint else None


# ---------------------------------------------------------------- rows that come and go


@dataclass(eq=False)
class _Rows:
    """The numbers of the alphas that steer the rows of a batch, out of so many."""

    numbers: Tensor
    of: int
    _chosen: dict[object, float | Tensor] = field(default_factory=dict)

    def chosen(self, alphas: Tensor, x: Tensor) -> float | Tensor:
        """The alpha of every row, shaped to multiply what a layer reads, or that of all rows; made once for all layers."""
        key = id(alphas), x.dtype, x.device, x.ndim, x.shape[0]
        alpha = self._chosen.get(key)
        if alpha is None:
            alpha = self._chosen[key] = self._choose(alphas, x)
        return alpha

    def _choose(self, alphas: Tensor, x: Tensor) -> float | Tensor:
        if len(alphas) != self.of:
            raise ValueError(
                f"alpha has {len(alphas)} values, and the rows of this batch name {self.of}. Give as many, or one number."
            )
        own = alphas[self.numbers.to(alphas.device)]
        alike = not own.requires_grad and bool((own == own[0]).all())
        return float(own[0]) if alike else along(own, x)


_rows: ContextVar[_Rows | None] = ContextVar("rows", default=None)


@contextmanager
def rows_of(numbers: Sequence[int], of: int) -> Iterator[None]:
    """A block in which row i of every batch is steered by alpha number `numbers[i]`, of so many that `steer` was given.

    For batches whose rows come and go: a row carries its number along. Without it, row i has alpha i.
    """
    before = _rows.set(_Rows(torch.tensor(list(numbers)), of))
    try:
        yield
    finally:
        _rows.reset(before)


# ---------------------------------------------------------------- what is switched on, per layer


@dataclass(eq=False)
class _Part:
    """One direction's share of one layer."""

    forms: tuple[Form, ...]
    alpha: float | Tensor
    origin_weight: Tensor | None
    folded: bool


@dataclass(eq=False)
class _Dial:
    """All that is switched on at one layer, its hook, and the bits to restore."""

    parts: list[_Part]
    layer: Layer | None = None
    """Held where it is experts: two values stand for the same ones, and the first of them is the key."""
    hooked: Sequence[_Part] = ()
    """Those that the hook adds."""
    handle: torch.utils.hooks.RemovableHandle | Exchange | None = None
    weight: Tensor | None = None
    """The untouched weight as (out, in) or (experts, out, in), kept while something is folded in."""
    bias: Tensor | None = None
    delivered: float = 1.0


def _part(
    layer: Layer, forms: tuple[Form, ...], alpha: float | Tensor, fold: bool, origin: Base | Root | None, name: str
) -> _Part:
    """One layer's share, on its device and in at least float32."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    dtype = torch.promote_types(torch.float32 if is_packed(layer) else weight.dtype, torch.float32)
    local = tuple(
        f if _is_at(f, weight.device, dtype) else mapped(f, lambda t: t.to(weight.device, dtype)) for f in forms
    )
    if not fold:
        local = tuple(_quick(f) if isinstance(f, LowRank) else f for f in local)
    own = None
    if origin is not None and any(isinstance(f, READS_BASE) for f in forms):
        own = origin.weight(name).to(weight.device, dtype)
    return _Part(local, alpha, own, fold)


_QUICK: WeakKeyDictionary[LowRank, LowRank] = WeakKeyDictionary()
"""Factors as they are multiplied by fastest; kept, because a dial is set often."""


def _quick(form: LowRank) -> LowRank:
    """The same factors, laid out as the matrices of the model are."""
    if not gains(form.a):
        return form
    if form not in _QUICK:
        with torch.inference_mode(False):  # whoever asks first: the next one may want gradients through them
            _QUICK[form] = LowRank(turned(form.b), turned(form.a))
    return _QUICK[form]


def _is_at(form: Form, device: torch.device, dtype: torch.dtype) -> bool:
    return all(t.dtype == dtype and t.device == device for t in tensors(form).values())


_DIALS: WeakKeyDictionary[Layer, _Dial] = WeakKeyDictionary()


def _switch_on(layer: Layer, part: _Part) -> None:
    dial = _DIALS.setdefault(layer, _Dial([], layer if isinstance(layer, Stack) else None))
    dial.parts.append(part)
    _settle(layer, dial)


def _switch_off(layer: Layer, part: _Part) -> None:
    dial = _DIALS.get(layer)
    if dial is None or part not in dial.parts:
        return
    dial.parts.remove(part)
    _settle(layer, dial)
    if not dial.parts:
        del _DIALS[layer]


def _settle(layer: Layer, dial: _Dial) -> None:
    """Make the layer what its list of parts says: hook present or absent, weight folded or restored."""
    folded = [p for p in dial.parts if p.folded]
    dial.hooked = [p for p in dial.parts if not p.folded]
    if dial.hooked and dial.handle is None:
        dial.handle = (
            Exchange.on(layer.experts, partial(_passes, layer.experts))
            if isinstance(layer, Stack)
            else layer.register_forward_hook(_adding(layer, dial), with_kwargs=True)
        )
    elif not dial.hooked and dial.handle is not None:
        dial.handle.remove()
        dial.handle = None

    if folded or dial.weight is not None:
        _fold(layer, dial, folded)


def _adding(layer: nn.Module, dial: _Dial) -> Callable[..., Tensor]:
    """A forward hook: the layer's own output plus every hooked part, summed in fp32 or better, then cast back.

    Answers are written by hundreds of these in a step, so what is the same in every step is not asked again.
    """
    own = ref(layer)

    def add_parts(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], y: Tensor) -> Tensor:
        if own() is not layer:  # a copy of a steered model: it carries the hook and is nobody's
            raise DirectionMismatch("this layer is a copy made inside a steering block; copy the model outside of it")
        x = args[0] if args else next(iter(kwargs.values()))
        if not torch.is_autocast_enabled(x.device.type):  # asking is cheaper than switching it off
            return _sum_of_parts(layer, dial, x, y)
        with torch.autocast(x.device.type, enabled=False):  # it would round the change to its own precision
            return _sum_of_parts(layer, dial, x, y)

    return add_parts


def _sum_of_parts(layer: nn.Module, dial: _Dial, x: Tensor, y: Tensor) -> Tensor:
    dtype = y.dtype if y.dtype is torch.float32 else torch.promote_types(y.dtype, torch.float32)
    x, total, rows = x if x.dtype is dtype else x.to(dtype), y if y.dtype is dtype else y.to(dtype), _rows.get()
    for part in dial.hooked:
        alpha = _per_row(part.alpha, x, rows)
        if isinstance(alpha, float) and alpha == 0.0:  # nobody in this batch turns it
            continue
        for form in part.forms:
            if isinstance(form, LowRank):
                total = _plus_low_rank(total, x, form, alpha)
            else:
                assert not isinstance(form, Stacked)
                total = total + alpha * form(x, *_base_product(layer, dial, part, form, x, y))
    return total if total.dtype is y.dtype else total.to(y.dtype)


def _plus_low_rank(total: Tensor, x: Tensor, form: LowRank, alpha: float | Tensor) -> Tensor:
    """`total + alpha * b (a x)`: two small products and no pass over the output besides the second one's own."""
    small, flat = torch.mm(x.reshape(-1, x.shape[-1]), form.a.mT), total.reshape(-1, total.shape[-1])
    if not isinstance(alpha, Tensor):
        return torch.addmm(flat, small, form.b.mT, alpha=alpha).view(total.shape)
    if len(alpha) == len(small):  # a token of every row
        small = small * alpha.view(-1, 1)
    else:  # on the (n, r), not on the (n, o)
        small = (small.view(*x.shape[:-1], -1) * alpha).view(small.shape)
    return torch.addmm(flat, small, form.b.mT).view(total.shape)


def _base_product(layer, dial: _Dial, part: _Part, form: Form, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
    """(W, W x) of the untouched base; the product is read off the layer's own output where that is the base's."""
    w = part.origin_weight if part.origin_weight is not None else dial.weight
    own = w is None
    if not isinstance(form, READS_BASE):
        return x, None  # it looks at neither
    w = weight_of(layer) if w is None else w
    if not isinstance(form, RowScale):
        return w, None
    if not own:
        return w, x @ w.mT.to(x.dtype)
    return w, (y if layer.bias is None else y - layer.bias).to(x.dtype)


def _per_row(alpha: float | Tensor, x: Tensor, rows: _Rows | None) -> float | Tensor:
    if isinstance(alpha, float):
        return alpha
    return along(alpha, x) if rows is None else rows.chosen(alpha, x)


def along(alphas: Tensor, x: Tensor) -> Tensor:
    """An alpha per row, shaped to multiply what a layer reads: rows of tokens, or the tokens of all rows one after another."""
    tokens = x.shape[0] // len(alphas) if x.ndim == 2 and len(alphas) else 1  # as experts read them
    if x.shape[0] != tokens * len(alphas):
        raise ValueError(
            f"alpha has {len(alphas)} values, one per row, but this layer sees a batch of {x.shape[0]}. "
            "Give as many alphas as rows, or one number."
        )
    own = alphas.to(x.device, x.dtype)
    return (own if tokens == 1 else own.repeat_interleave(tokens)).view(-1, *[1] * (x.ndim - 1))


# ---------------------------------------------------------------- experts that lie in one tensor


def _passes(experts: nn.Module, x: Tensor) -> Iterator[tuple[Tensor | None, dict[str, Tensor]]]:
    """The tokens that are steered alike (None: all of them), and the matrices that they see instead of the experts' own."""
    stacks = [stack for n in experts._parameters if (stack := Stack(experts, n)) in _DIALS]
    parts = [(stack, part) for stack in stacks for part in _DIALS[stack].hooked]
    for tokens, alphas in _alike([part.alpha for _, part in parts], x):
        yield tokens, _steered([(*p, alpha) for p, alpha in zip(parts, alphas)])


def _alike(alphas: Sequence[float | Tensor], x: Tensor) -> list[tuple[Tensor | None, Sequence[float | Tensor]]]:
    """Tokens of the same strengths, and those; where strengths carry a gradient, every row by itself."""
    if all(isinstance(a, float) for a in alphas):
        return [(None, alphas)]
    x = x[:, :1].to(torch.promote_types(x.dtype, torch.float32))
    rows = _rows.get()
    table = torch.cat([torch.ones_like(x) * _per_row(a, x, rows) for a in alphas], 1)
    keys = table.detach()
    if table.requires_grad:
        of = next(len(a) for a in alphas if isinstance(a, Tensor)) if rows is None else len(rows.numbers)
        own = torch.arange(of, device=x.device).repeat_interleave(len(x) // of)
        keys = torch.cat([keys, own[:, None]], 1)
    different, group = torch.unique(keys, dim=0, return_inverse=True)
    places = [(group == at).nonzero()[:, 0] for at in range(len(different))]
    return [(tokens, table[tokens[0]].unbind()) for tokens in places]


def _steered(steps: Sequence[tuple[Stack, _Part, float | Tensor]]) -> dict[str, Tensor]:
    """`W + alpha * dW` of every tensor that a strength other than 0 changes, summed in fp32 or better and then cast back."""
    totals: dict[Stack, Tensor] = {}
    with torch.autocast(steps[0][0].weight.device.type, enabled=False):
        for stack, part, alpha in steps:
            if isinstance(alpha, Tensor) and not alpha.requires_grad and alpha == 0:
                continue
            for form in part.forms:
                assert isinstance(form, Stacked)
                total = totals.get(stack, weight_of(stack)).to(form.b.dtype)
                totals[stack] = torch.baddbmm(total, form.b * alpha, form.a)
        return {
            stack.parameter: (total.mT if is_turned(stack) else total).to(stack.weight.dtype)
            for stack, total in totals.items()
        }


OF_LIBRARIES = ("torch", "accelerate", "transformers")


def refuse_steered(base: Base) -> None:
    """Refuse a model that something changes at the moment: a block that steers it, or a hook of the caller's own.

    What is measured then is not the base's, and must not be kept as if it were.
    """
    if not base.loaded:
        return
    folded = any(layer.module in _DIALS for layer in base.layers.values())
    hooks = (h for m in base.model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values()))
    own = (h for h in hooks if (getattr(h, "__module__", None) or "").partition(".")[0] not in OF_LIBRARIES)
    if folded or next(own, None) is not None:
        raise Unsupported(
            f"{base.id} is being steered, or has a hook, so what is measured now is not the base's and cannot be kept as a stage. "
            "Call this outside of the steering block, after removing hooks."
        )


# ---------------------------------------------------------------- folding


def _fold(layer: Layer, dial: _Dial, folded: list[_Part]) -> None:
    """Write `saved + sum(alpha * dW)` into the layer, always from the saved bits; without parts, the bits themselves."""
    with torch.no_grad(), torch.autocast(layer.weight.device.type, enabled=False):  # type: ignore[arg-type]
        if dial.weight is None:
            dial.weight = weight_of(layer).detach().clone()
            dial.bias = None if layer.bias is None else _tensor(layer, "bias").detach().clone()
        if not folded:
            _write(layer, dial.weight, dial.bias)
            dial.weight = dial.bias = None
            return
        dtype = torch.promote_types(dial.weight.dtype, torch.float32)
        step = torch.zeros_like(dial.weight, dtype=dtype)
        shift = None
        for part in folded:
            w = (dial.weight if part.origin_weight is None else part.origin_weight).to(dtype)
            for form in part.forms:
                if isinstance(form, BiasShift):
                    shift = part.alpha * form.v + (0 if shift is None else shift)
                else:
                    step += part.alpha * form.dense(w)
        bias = dial.bias
        if shift is not None:
            bias = (shift if bias is None else bias.to(dtype) + shift).to(dial.weight.dtype)
        new = (dial.weight.to(dtype) + step).to(dial.weight.dtype)
        size = float((step * step).sum())
        dial.delivered = float(((new.to(dtype) - dial.weight.to(dtype)) * step).sum()) / size if size > 0 else 1.0
        _write(layer, new, bias)


def _write(layer: Layer, weight: Tensor, bias: Tensor | None) -> None:
    _tensor(layer, "weight").copy_(weight.mT if is_turned(layer) else weight)
    if isinstance(layer, Stack):
        return
    if bias is None:
        layer.register_parameter("bias", None)
    elif getattr(layer, "bias", None) is None:
        layer.register_parameter("bias", nn.Parameter(bias.clone(), requires_grad=False))
    else:
        _tensor(layer, "bias").copy_(bias)


def _tensor(layer: Layer, name: str) -> Tensor:
    tensor = getattr(layer, name)
    assert isinstance(tensor, Tensor)
    return tensor


def _warn_of_lost_steps(shares: Sequence[float]) -> None:
    """Warn where the weights' precision has rounded much of a fold away; `shares` are those that arrived, by layer."""
    mean = sum(shares) / len(shares)
    if mean < ENOUGH_ARRIVED:
        log.warning(
            "rounding to the weights' precision let only %.0f %% of this step arrive; "
            "use a larger alpha, steer by hook, or load the base in float32.",
            100 * mean,
        )


# ---------------------------------------------------------------- checks, before anything is touched


def checked_alpha(alpha: Alpha) -> float | Tensor:
    """One finite number, or a flat tensor of them, one per row."""
    if isinstance(alpha, Tensor) or not isinstance(alpha, (int, float)):
        rows = torch.as_tensor(alpha, dtype=torch.float64)
        if rows.ndim == 0:
            return checked_alpha(float(rows))
        if rows.ndim != 1 or not torch.isfinite(rows).all():
            raise ValueError(f"alpha is one finite number, or a flat list of them, one per row; got {alpha!r}")
        return rows
    if not math.isfinite(alpha):
        raise ValueError(f"alpha must be a finite number, got {alpha}")
    return float(alpha)


def _dials(alpha: Alpha, direction: Direction) -> dict[str, float | Tensor]:
    """The strength of every module that is changed at all: one number, or one per row."""
    if not (isinstance(alpha, Tensor) and alpha.ndim == 2):
        dial = checked_alpha(alpha)
        return {} if isinstance(dial, float) and dial == 0.0 else dict.fromkeys(direction.forms, dial)
    if alpha.shape[1] != len(direction.forms) or not torch.isfinite(alpha).all():
        raise ValueError(
            f"an alpha per row and module is a finite tensor of (rows, {len(direction.forms)}) for this direction; got "
            f"{tuple(alpha.shape)}"
        )
    columns = zip(direction.forms, alpha.unbind(1))
    return {name: column for name, column in columns if column.requires_grad or column.any()}


def _refuse_rows_of_experts(dials: dict[str, float | Tensor]) -> None:
    """Refuse one alpha per row at a layer of a single expert: it reads tokens and cannot tell their rows."""
    if own := [name for name, dial in dials.items() if isinstance(dial, Tensor) and ONE_EXPERT.search(name)]:
        raise Unsupported(
            f"{own[0]} is a layer of one expert, which reads the tokens sent to it and cannot tell their rows; give one alpha "
            "for all rows."
        )


def _refuse_packed(layers: dict[str, Layer], direction: Direction, fold: bool, originated: bool) -> None:
    """Refuse what needs the values of quantised weights: folding, and scales or rotations of them."""
    packed = [name for name, layer in layers.items() if is_packed(layer)]
    if fold and packed:
        raise Unsupported(
            f"{packed[0]} is quantised, and nothing can be folded into packed weights; steer by hook (fold=False), or fold into the "
            "model it was made from."
        )
    if stacks := [n for n in packed if isinstance(layers[n], Stack)]:
        raise Unsupported(
            f"{stacks[0]} are experts of few bits, and no matrix is there to which a change could be added; load the model whole (on a CPU, or "
            "without the package `kernels`), or steer other layers."
        )
    if not originated and (own := [n for n in packed if any(isinstance(f, READS_BASE) for f in direction.forms[n])]):
        raise Unsupported(
            f"{own[0]} is quantised, and its change is a scale or a rotation of the weights themselves; name the model they were made "
            "from with `origin`, or steer by a low-rank direction."
        )


def _refuse_split(model: nn.Module, fold: bool) -> None:
    """Refuse a model that is split so that no hook can add to it, or nothing can be written into its weights."""
    if getattr(model, "_tp_size", None):
        raise Unsupported(
            "every layer of this model is cut over processes (`tp_plan`), and none sees the whole of what a direction changes; spread "
            "it by blocks instead (`device_map`, or FSDP), or fold the direction into the checkpoint before: ws export --to merged."
        )
    if fold and any(hasattr(p, "full_tensor") for p in model.parameters()):
        raise Unsupported(
            "the weights of this model are spread over processes (FSDP), and nothing is written into parts of them; steer by hook "
            "(fold=False)."
        )


def _gathered(value: Tensor) -> Tensor:
    """The whole of a weight that is spread over processes, which all of them ask for together."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def checked_strengths(alphas: Sequence[float]) -> Sequence[float]:
    """Strengths that are numbers and not far beyond all that `ws calibrate` looks at; what is no strength is refused."""
    for alpha in alphas:
        checked_alpha(float(alpha))
        if abs(alpha) > FARTHEST:
            raise ValueError(
                f"{alpha:g} is far beyond every strength that means something: a model has broken long before {FARTHEST:g}, and "
                "`ws calibrate` says how far one may go"
            )
    return alphas


def distinct_strengths(alphas: Sequence[float]) -> Sequence[float]:
    """The same of a grid, in which one that stands twice would be measured twice or say nothing."""
    if twice := [a for i, a in enumerate(alphas) if float(a) in map(float, alphas[:i])]:
        raise ValueError(f"`alphas` holds {twice[0]:g} more than once; name every strength once")
    return checked_strengths(alphas)


def refuse_mismatch(base: Base, direction: Direction, origin: Base | None = None) -> None:
    """Refuse a direction that cannot steer this base, in one sentence."""
    _checked_layers(base, base.model, direction, origin)


def _checked_layers(
    base: Base | nn.Module, model: nn.Module, direction: Direction, origin: Base | None
) -> dict[str, Layer]:
    """The layers a direction touches, or one error that names everything that does not line up."""
    if isinstance(base, Base):
        layers, mark = base.layers, base.fingerprint
    else:
        if any(p.is_meta for p in model.parameters()):
            raise Unsupported(
                "layers of this model wait on the CPU or the disk, and hold no weights to know it by; use more or larger devices, or a "
                "smaller `dtype`."
            )
        layers = {x.name: x for x in (*linears_of(model), *stacks_of(model))}
        own = dict(pair for x in layers.values() for pair in _kept_bits(x.module))

        def values(_: str, p: Tensor, places: Tensor) -> Tensor | None:
            t = own.get(id(p), p)
            return None if t is None else at_places(_gathered(t), places)

        mark = fingerprint(model, values)
    expected = direction.fingerprint
    fits = base.fits(expected) if isinstance(base, Base) else expected in (None, "", mark)
    if expected and not fits and (origin is None or origin.fingerprint != expected):
        if origin is not None:
            raise DirectionMismatch(
                f"the direction was made from base {expected[:8]}…, and `origin` is {origin.fingerprint[:8]}…. "
                "Name the base it was made from."
            )
        raise DirectionMismatch(
            f"the direction was made from base {expected[:8]}… ({direction.provenance['base'].get('id')}), this model is "
            f"{mark[:8]}…. {how_to_load(direction.provenance['base'])} If this model is a fine-tune of it, name it with `origin`."
        )
    if missing := sorted(direction.forms.keys() - layers.keys()):
        raise DirectionMismatch(
            f"{len(missing)} of the {len(direction.forms)} modules of the direction are not in this model, e.g. {missing[:3]}."
        )
    wrong = []
    for name, forms in direction.forms.items():
        shape = sizes(layers[name].module)
        wrong += [f"{name} is {tuple(shape)}, its {f.kind} form is not" for f in forms if not f.fits(*shape)]
    if wrong:
        raise DirectionMismatch(f"{len(wrong)} shapes of the direction do not fit this model: {'; '.join(wrong[:3])}.")
    if not direction.forms:
        raise DirectionMismatch("this direction touches no module, so steering by it would do nothing.")
    return {name: layers[name].module for name in direction.forms}


def _kept_bits(layer: Layer) -> Iterator[tuple[int, Tensor | None]]:
    """The untouched tensors of a folded layer, by the id of the parameter that now holds something else."""
    dial = _DIALS.get(layer)
    if dial is not None and dial.weight is not None:
        yield id(layer.weight), dial.weight.mT if is_turned(layer) else dial.weight
        if layer.bias is not None:
            yield id(layer.bias), dial.bias  # None where folding put a bias that the layer does not have
