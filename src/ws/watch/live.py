"""The angles of a training while it runs: products of factors every few steps, in numbers and to a tracker.

    meter = Meter(base, [watched("out/honesty/lora/tiny-s0-4f0c2a77", base, out)])
    for step, batch in enumerate(batches, start=1):
        ...
        if step % 10 == 0:
            print(meter.measure(model, step))

`ws.watch.trainer` is the same as a callback of transformers' Trainer. Nothing of the training is touched: no weight, no
gradient, no random number.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ws.adapters.stock import adapter_of
from ws.direction.algebra import gram_of_module, products_of_module
from ws.direction.forms import READS_BASE, Dense, Form
from ws.errors import BadFile, Unsupported
from ws.models.checkpoint import Theta
from ws.models.modules import weight_of
from ws.types import Json
from ws.watch.alarm import Against
from ws.watch.changes import Change, Forms, Read, change_of
from ws.watch.nulls import Watched

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Meter:
    """Measures what a model in training has changed so far, against directions that were loaded once."""

    base: Theta
    directions: Sequence[Watched]
    history: list[dict[str, float]] = field(default_factory=list)
    """Every row that was measured."""

    def __post_init__(self):
        columns = [c for w in self.directions for c in (w.direction, *w.permuted, *w.controls)]
        object.__setattr__(self, "_columns", columns)
        object.__setattr__(self, "_norms", _norms(columns, self.base))
        object.__setattr__(self, "_alarmed", set())

    def measure(self, model: nn.Module, step: int) -> dict[str, float]:
        """The row of this step: norm, and for each direction cos, alphas, and z where it has permuted labels."""
        row = self.row(change_now(model, self.base), step)
        self.history.append(row)
        return row

    def row(self, forms: Forms, step: int) -> dict[str, float]:
        """The same of a change that is there already."""
        columns: list[Change] = self._columns  # type: ignore[attr-defined]
        norms: Tensor = self._norms  # type: ignore[attr-defined]
        products, square = torch.zeros(len(columns), dtype=torch.float64), 0.0
        for name in forms:
            own, others = forms[name], [c.forms.get(name, ()) for c in columns]
            w = self.base.weight(name) if _reads_base((own, *others)) else None
            products += products_of_module([own], others, w)[0]
            square += float(gram_of_module([own], w)[0, 0])
        size = max(square, 0.0) ** 0.5
        cos = products / (size * norms) if size > 0 else torch.zeros_like(products)
        row, at = {"step": float(step), "norm": size}, 0
        for d in self.directions:
            name, own_cos, end = d.direction.name, float(cos[at]), at + 1 + len(d.permuted)
            row |= {f"{name} cos": own_cos, f"{name} alphas": float(products[at] / norms[at] ** 2)}
            controls = cos[end : end + len(d.controls)].tolist()
            against = Against(tuple(cos[at + 1 : end].tolist()), control=max(controls, default=None))
            if (z := against.z(own_cos)) is not None:
                row[f"{name} z"] = z
            if against.alarm(own_cos):
                self._say_once(name, step, own_cos, z)
            at = end + len(d.controls)
        return row

    def _say_once(self, name: str, step: int, cos: float, z: float | None) -> None:
        alarmed: set[str] = self._alarmed  # type: ignore[attr-defined]
        if name not in alarmed:
            alarmed.add(name)
            log.warning("step %d drifts toward %s: cos %.3f, z %.1f, above its control", step, name, cos, z or 0.0)


def _norms(columns: Sequence[Change], base: Theta) -> Tensor:
    """The norm of every direction."""
    squares = torch.zeros(len(columns), dtype=torch.float64)
    for at, change in enumerate(columns):
        for name, own in change.forms.items():
            squares[at] += gram_of_module([own], base.weight(name) if _reads_base((own,)) else None)[0, 0]
    if bad := [c.name for c, s in zip(columns, squares) if not s > 0]:
        raise ValueError(f"{bad[0]} is no direction: its norm is 0")
    return squares.sqrt()


def _reads_base(parts: Sequence[tuple[Form, ...]]) -> bool:
    return any(isinstance(f, READS_BASE) for forms in parts for f in forms)


# ---------------------------------------------------------------- what has changed so far


def change_now(model: nn.Module, base: Theta) -> Forms:
    """What a model in training has changed by now: of its peft adapter where it has one, else of its own weights."""
    if hasattr(model, "peft_config"):
        return _of_peft(model, base)
    modules = dict(model.named_modules())
    if missing := sorted(base.linears.keys() - modules.keys()):
        raise Unsupported(f"the model in training has no {missing[0]}, so it cannot be compared with {base.id}.")

    def read(name: str) -> tuple[Form, ...]:
        now = weight_of(modules[name]).detach()
        change = now.to("cpu", torch.float64) - base.weight(name).to("cpu", torch.float64)
        _refuse_not_finite(name, change)
        return (Dense(change.float()),) if change.count_nonzero() else ()

    return Read(tuple(base.linears), read)


def _of_peft(model: nn.Module, base: Theta) -> Forms:
    from peft.utils import get_peft_model_state_dict

    with _quiet():
        raw = get_peft_model_state_dict(model, save_embedding_layers=False)
    peft: Any = model
    config = peft.peft_config[peft.active_adapter]
    adapter = adapter_of(_plain(config.to_dict()), raw, base, "the model in training")
    return Read(adapter.spec.modules, lambda module: change_of(adapter, module, base))


@contextmanager
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():  # peft looks whether the vocabulary grew, and says that it could not
        warnings.simplefilter("ignore")
        yield


def _plain(config: Mapping[str, object]) -> Json:
    """A config as peft would write it."""
    return json.loads(json.dumps(config, default=lambda x: sorted(x) if isinstance(x, (set, frozenset)) else str(x)))


def _refuse_not_finite(name: str, change: Tensor) -> None:
    if not bool(torch.isfinite(change).all()):
        raise BadFile(f"{name} of the model in training holds values that are not finite.")
