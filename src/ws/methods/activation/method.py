"""Steering activations: edits of what some modules put out, by hook, at one strength per row.

An edit is a frozen value of a few tensors and a function `(h, alpha) -> h`; it must be the identity at alpha 0. Each
edit sits at one module, mostly a decoder block, whose output is the residual stream. Every block of `at` has hooks of
its own and shares nothing with another, so that blocks may be left in any order. State goes to the device once;
whatever depends on the strength alone is computed on entering and not per token.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from ws.errors import DirectionMismatch
from ws.extensions import extensions
from ws.methods.method import Method, dial_of, refuse_other_base
from ws.models.load import Base
from ws.models.modules import blocks_of
from ws.prefix_cache import answer_starts, is_reading_prompts
from ws.steer import Alpha
from ws.types import Json

Change = Callable[[Tensor], Tensor]
POSITIONS = ("all", "response")


@dataclass(frozen=True, eq=False)
class Edit(ABC):
    """A change of one module's output. A subclass is tensors and `__call__`."""

    kind: ClassVar[str]
    bound: ClassVar[float | None] = None

    @abstractmethod
    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        """`h` (rows, tokens, width) in float32 or better, changed; alpha is a number or (rows, 1, 1)."""

    def prepared(self, alpha: float | Tensor) -> Change:
        """The change at these strengths; rows at 0 keep their bits."""
        if not isinstance(alpha, Tensor):
            return lambda h: self(h, alpha)
        still = alpha == 0
        return lambda h: torch.where(still, h, self(h, alpha))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors it stores, by field."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to(self, device: torch.device, dtype: torch.dtype) -> "Edit":
        """The same edit on a device, in the precision it computes in."""
        return type(self)(**{name: t.to(device, dtype) for name, t in self.tensors().items()})


@dataclass(frozen=True, eq=False)
class Add(Edit):
    """`h + alpha v`."""

    v: Tensor
    kind = "add"

    def __call__(self, h: Tensor, alpha: float | Tensor) -> Tensor:
        return h + alpha * self.v

    def prepared(self, alpha: float | Tensor) -> Change:
        step = alpha * self.v  # (width,) or (rows, 1, width)
        return lambda h: h + step


@dataclass(frozen=True, eq=False)
class Activation(Method):
    """Edits by the name of the module whose output they change."""

    edits: Mapping[str, Edit]
    positions: str = "all"
    """`all` tokens, or those of the `response`: the last token of the prompt and every token of the model's own after it."""
    kind = "activation"

    def __post_init__(self):
        if self.positions not in POSITIONS:
            raise ValueError(f"positions is one of {', '.join(POSITIONS)}; got {self.positions!r}")
        if not self.edits:
            raise DirectionMismatch(f"{self.name} touches no module, so steering by it would do nothing.")
        object.__setattr__(self, "edits", MappingProxyType(dict(self.edits)))
        object.__setattr__(self, "_placed", {})

    @property
    def bound(self) -> float | None:
        return min((e.bound for e in self.edits.values() if e.bound is not None), default=None)

    @property
    def per_token(self) -> bool:
        return self.positions == "all"

    @contextmanager
    def at(self, base: Base, alphas: Alpha) -> Iterator[nn.Module]:
        dial = dial_of(alphas, self.bound)
        refuse_other_base(self, base)
        modules = self._modules(base)
        with ExitStack() as hooks:
            if dial is not None:
                dtype = torch.promote_types(base.dtype, torch.float32)
                devices = {n: next((p.device for p in m.parameters()), base.device) for n, m in modules.items()}
                response = None
                if self.positions == "response":
                    response = Response(answer_starts())
                    hooks.callback(base.model.register_forward_pre_hook(response.see, with_kwargs=True).remove)
                for name, edit in self._on(devices, dtype).items():
                    alpha = dial if isinstance(dial, float) else dial.to(devices[name], dtype).view(-1, 1, 1)
                    hook = changing(edit.prepared(alpha), alpha, response, isinstance(edit, Add))
                    hooks.callback(modules[name].register_forward_hook(hook).remove)
            yield base.model

    def _modules(self, base: Base) -> dict[str, nn.Module]:
        modules = {name: module for name, module in base.model.named_modules() if name in self.edits}
        if missing := sorted(self.edits.keys() - modules.keys()):
            raise DirectionMismatch(f"{len(missing)} modules of {self.name} are not in this model, e.g. {missing[:3]}.")
        return modules

    def _on(self, devices: Mapping[str, torch.device], dtype: torch.dtype) -> dict[str, Edit]:
        """The edits on their modules' devices, moved there once and not with every block."""
        placed: dict[tuple, dict[str, Edit]] = self._placed  # type: ignore[attr-defined]
        key = (tuple(sorted((name, str(d)) for name, d in devices.items())), dtype)
        if key not in placed:
            placed[key] = {name: edit.to(devices[name], dtype) for name, edit in self.edits.items()}
        return placed[key]

    def __mul__(self, k: float) -> "Activation":
        if not all(isinstance(e, Add) for e in self.edits.values()):
            raise TypeError(f"{self.name} is not additive: a scaled state is another method. Scale alpha instead.")
        scaled = {n: Add(e.v * k) for n, e in self.edits.items() if isinstance(e, Add)}
        return Activation(self.name, scaled, self.positions, provenance={**self.provenance, "scale": k})

    __rmul__ = __mul__

    def packed(self) -> tuple[Json, dict[str, Tensor]]:
        kinds = {name: edit.kind for name, edit in self.edits.items()}
        flat = {f"{name}/{key}": t for name, edit in self.edits.items() for key, t in edit.tensors().items()}
        return {"edits": kinds, "positions": self.positions}, flat

    @classmethod
    def unpacked(cls, name: str, settings: Json, tensors: dict[str, Tensor], provenance: Json) -> "Activation":
        kinds = {e.kind: e for e in Edit.__subclasses__()}
        if not kinds.keys() >= set(settings["edits"].values()):  # an edit of another distribution, not imported yet
            for extension in extensions("ws.methods").values():
                extension.load(object)
            kinds = {e.kind: e for e in Edit.__subclasses__()}
        edits = {}
        for module, kind in settings["edits"].items():
            own = {k.removeprefix(f"{module}/"): t for k, t in tensors.items() if k.startswith(f"{module}/")}
            edits[module] = kinds[kind](**own)
        positions = "response" if settings["positions"] == "last" else settings["positions"]  # its name until 2026-11
        return cls(name, edits, positions, provenance=provenance)


class Response:
    """The tokens of a forward pass that are the model's own, by their positions.

    With `starts`, row i is the model's own from position `starts[i]` on, wherever a pass begins and ends: one pass over
    a whole answer steers what writing it token by token would. Without, a pass is a step of writing: its last token.
    """

    def __init__(self, starts: tuple[int, ...] | None):
        self.starts = starts
        self.own: Tensor | None = None

    def see(self, model: nn.Module, args: tuple, kwargs: Json) -> None:
        """Look at the positions of a pass before it is made."""
        if self.starts is None:
            return
        positions = kwargs.get("position_ids")
        if positions is None or len(positions) != len(self.starts):
            raise ValueError(
                f"answers start at {len(self.starts)} places, one per row, but this pass has "
                f"{'no positions' if positions is None else f'{len(positions)} rows'}."
            )
        self.own = positions >= torch.tensor(self.starts, device=positions.device)[:, None]

    def of(self, h: Tensor, change: Change) -> Tensor:
        """`h` with the model's own tokens changed."""
        if self.starts is None:
            if is_reading_prompts():
                return h
            return change(h) if h.shape[1] == 1 else torch.cat([h[:, :-1], change(h[:, -1:])], dim=1)
        assert self.own is not None, "the model was entered below its top, where nobody saw the positions"
        return torch.where(self.own.to(h.device)[..., None], change(h), h)


def changing(change: Change, alpha: float | Tensor, response: Response | None, additive: bool) -> Callable[..., object]:
    """A forward hook that changes a module's output, in float32 or better, and casts back."""
    rows = alpha.shape[0] if isinstance(alpha, Tensor) else None

    def of_hidden(h: Tensor) -> Tensor:
        if rows is not None and h.shape[0] != rows:
            raise ValueError(
                f"alpha has {rows} values, one per row, but this module sees a batch of {h.shape[0]}. "
                "Give as many alphas as rows, or one number."
            )
        if additive:  # the sum is in float32 by promotion
            return change(h).to(h.dtype)
        with torch.autocast(h.device.type, enabled=False):  # autocast would round the change to its own precision
            return change(h.to(torch.promote_types(h.dtype, torch.float32))).to(h.dtype)

    def changed(h: Tensor) -> Tensor:
        return of_hidden(h) if response is None else response.of(h, of_hidden)

    def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        if isinstance(output, tuple):  # some decoders put out (hidden, ...)
            return (changed(output[0]), *output[1:])
        return changed(output)

    return hook


def block_name(base: Base, at: int) -> str:
    """The full name of a decoder block."""
    return f"{blocks_of(base.model)[0]}.{at}"
