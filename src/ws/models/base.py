"""A loaded model that nothing has changed, and the two names of its weights.

The hash of all bytes of its weights is what results are kept by; the fingerprint, a sample, is what a direction recognises it
by. Both are taken in the checkpoint's own precision, before any cast, so that they do not depend on the precision you work in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ws.models.chat import has_template, thinks_when_asked
from ws.models.hashes import StoredWeights, config_hash, network_hash, tokenizer_hash
from ws.models.modules import Linear, blocks_of, linears_of, stacks_of, weight_of
from ws.models.turned import turn
from ws.types import Json, Tokenizer


@dataclass(frozen=True, eq=False)
class Root:
    """The base that a derived one was made from: what was made on it fits the derived one too."""

    id: str
    fingerprint: str
    onto: tuple[str, ...]
    """What was folded into it, in order, as names and strengths."""
    weight: Callable[[str], Tensor] = field(repr=False)
    """Its own matrix of one linear layer: scales and rotations that were learnt on it are computed from these."""


@dataclass(frozen=True)
class Quantised:
    """The checkpoint that a base was rounded from on its way in."""

    by: str
    """int8 or nf4."""
    whole: str
    """Fingerprint of the weights before."""


@dataclass(frozen=True, eq=False)
class Base:
    """A loaded model that nothing has changed, bound to the two names of its weights."""

    model: nn.Module = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    fingerprint: str
    """A sample of its weights, the same in every precision; it cannot see an edit of a few values."""
    id: str
    """How it is called: `tiny`, a hub id, or the folder's name. Never a path."""
    revision: str | None = None
    source: str = field(default="", repr=False)
    """What `load` was given, so that a later command can load it again."""
    works_on: torch.device | None = field(default=None, repr=False)
    """Where it will work, while it still waits in main memory to be spread over several devices."""
    weights: StoredWeights | str | None = field(default=None, repr=False)
    """The files its weights were read from, or their hash; without either, the network is hashed here and now."""
    root: Root | None = field(default=None, repr=False)
    """What it was derived from, where a direction has been folded into it."""
    quantised: Quantised | None = None
    """How it was rounded on its way in; None for whole weights, and for a checkpoint that is stored packed."""

    def __post_init__(self):
        object.__setattr__(self, "_linears", {x.name: x for x in linears_of(self.model)})
        object.__setattr__(self, "_layers", {**self.linears, **{x.name: x for x in stacks_of(self.model)}})
        if self.works_on is None:
            turn(self.model)
        if self.weights is None:  # now and not when it is asked for: a fold may have changed them by then
            object.__setattr__(self, "weights", network_hash(self.model))

    def __repr__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"Base({self.id}{at}, {self.n_parameters:,} parameters in {dtype} on {self.device}, fingerprint {self.fingerprint[:8]})"

    @property
    def weights_hash(self) -> str:
        """SHA-256 over all bytes of its weights: what results are kept by."""
        return self.weights.hash if isinstance(self.weights, StoredWeights) else str(self.weights)

    @property
    def config_hash(self) -> str:
        """A hash of what its config says of its computation."""
        return config_hash(self.model)

    @property
    def tokenizer_hash(self) -> str:
        """A hash of its vocabulary, special tokens and chat template."""
        return tokenizer_hash(self.tokenizer)

    @property
    def has_template(self) -> bool:
        """Whether its tokenizer brings a chat template."""
        return has_template(self.tokenizer)

    @property
    def thinks(self) -> bool:
        """Whether it thinks before it answers, where it is asked to."""
        return thinks_when_asked(self.tokenizer)

    @property
    def n_parameters(self) -> int:
        """How many numbers its parameters hold."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def loaded(self) -> bool:
        """Whether its network is in memory; one that is not is loaded when something asks for it."""
        return True

    @property
    def device(self) -> torch.device:
        """The device of its first parameter."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its weights."""
        return next(self.model.parameters()).dtype

    @property
    def depth(self) -> int:
        """The number of its decoder blocks."""
        return len(blocks_of(self.model)[1])

    @property
    def linears(self) -> dict[str, Linear]:
        """Its linear layers inside the blocks, by full name."""
        return self._linears  # type: ignore[attr-defined]

    @property
    def layers(self) -> dict[str, Linear]:
        """All that a direction may touch, by full name: linear layers, and the experts that lie in one tensor."""
        return self._layers  # type: ignore[attr-defined]

    @property
    def tiny(self) -> bool:
        """True for the embedded model, which knows only the words of its own world."""
        return (self.root or self).id == "tiny"

    def fits(self, fingerprint: str | None) -> bool:
        """Whether what was made on the base of this fingerprint was made for this one, or for the base it was derived from."""
        return fingerprint in (None, "", self.fingerprint, self.root and self.root.fingerprint)

    def weight(self, name: str) -> Tensor:
        """The matrix (out, in) of one linear layer, or (experts, out, in)."""
        return weight_of(self.layers[name].module).detach()

    def bias(self, name: str) -> Tensor | None:
        """The bias of one linear layer, if it has one."""
        bias = self.layers[name].module.bias
        return bias.detach() if isinstance(bias, Tensor) else None

    def described(self) -> Json:
        """The part of it that a direction or a record keeps."""
        return described(self)


def how_to_load(record: Mapping[str, Any]) -> str:
    """How to come by the base that a record describes, as a sentence."""
    if onto := record.get("onto"):
        return f"Load that base: `onto={','.join(onto)}` on its root."
    return f"Load that base: `quantize={record['quantize']}`." if record.get("quantize") else "Load that base."


def described(theta: object) -> Json:
    """The part of a base, loaded or only opened, that a direction or a record keeps."""
    record = {n: getattr(theta, n) for n in ("id", "revision", "fingerprint", "weights_hash")}
    if (quantised := getattr(theta, "quantised", None)) is not None:
        record |= {"quantize": quantised.by, "whole": quantised.whole}
    root: Root | None = getattr(theta, "root", None)
    return record if root is None else {**record, "root": root.fingerprint, "onto": list(root.onto)}
