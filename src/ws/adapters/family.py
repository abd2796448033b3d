"""Adapter families: how each attaches to a base, and the change that its trained tensors make.

A family is one file with one `FAMILY` and one line in `adapters/families.py`, or an entry point of another distribution
(docs/extending.md). Nothing else knows its name. Tensors are named as peft names them, `<module path>.<parameter>`, so a saved side is a folder peft can load.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ws.direction.direction import Direction
from ws.direction.forms import Form, LowRank, Stacked, gathered, mapped
from ws.errors import Unsupported
from ws.models.checkpoint import Theta
from ws.models.load import Base
from ws.models.modules import Linear, Stack, is_conv1d, is_packed
from ws.models.modules import sizes as sizes
from ws.types import PeftConfig

Tensors = dict[str, Tensor]
MOST_RANK = 512


@dataclass(frozen=True)
class Spec:
    """One adapter on one base: the family, its size, and the matrices it sits on."""

    family: str
    modules: tuple[str, ...]
    rank: int | None = None
    lora_alpha: float | None = None
    block_size: int | None = None
    delora_lambda: float | None = None
    freeze_a: bool = False
    """Whether the reader A stays as it starts, so that two sides which share it differ by a low rank of r and not 2r."""

    @property
    def scale(self) -> float:
        """`lora_alpha / rank`, the adapter's own scale; never the steering strength."""
        assert self.rank is not None and self.lora_alpha is not None
        return self.lora_alpha / self.rank


@dataclass(frozen=True, eq=False)
class Adapter:
    """One trained side: its tensors, and the spec and base they belong to."""

    spec: Spec
    tensors: Mapping[str, Tensor]
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of the start that the change is measured from and training leaves alone (PiSSA's A0, B0)."""
    base: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Adapter({self.spec.family}, {len(self.spec.modules)} modules, base {self.base.get('id')})"

    @cached_property
    def by_module(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Module to its tensors, by parameter name; those of the start as `start.<parameter>`."""
        modules: dict[str, Tensors] = {m: {} for m in self.spec.modules}
        for start, tensors in (("", self.tensors), ("start.", self.frozen)):
            for key, t in tensors.items():
                # a parameter's name has one part or two: `lora_magnitude_vector`, `lora_A.weight`
                module = next((m for n in (1, 2) if (m := key.rsplit(".", n)[0]) in modules), None)
                if module is not None:
                    modules[module][start + key.removeprefix(module + ".")] = t
        return modules

    def of(self, module: str) -> Tensors:
        """The tensors of one module in float64."""
        return {k: t.detach().to("cpu", torch.float64) for k, t in self.by_module[module].items()}


@dataclass(frozen=True)
class Family:
    """One adapter family: its settings, how it attaches to a base, and the change it makes."""

    name: str
    lr: tuple[float, ...]
    """Learning rates tried by default; step size means something else in each parametrisation."""
    branch: Callable[[Tensors, Tensor | None, Tensor | None, Spec], tuple[Form, ...]]
    """(tensors of a module, its base weight, its base bias, spec) -> the exact change, in float64.

    Weight and bias are None unless `reads_base`."""
    tiny_lr: float | None = None
    """The one learning rate taken on `tiny`; None tries those of `lr` there too.

    Those of shipped families had the lowest validation loss on pairs of seed 100 (honesty), which is no reported seed; all
    but that of `full` on the first weights of `tiny` (docs/log.md).
    """
    peft_config: Callable[[Spec, Base], PeftConfig] | None = None
    attach: "Callable[[Base, Spec], AbstractContextManager[Attached]] | None" = None
    """A context manager of its own, for families that peft does not have."""
    default_rank: int | None = None
    default_block: int | None = None
    default_lambda: float | None = None
    reader: str | None = None
    """The parameter that reads a layer's input, A, where the family has one."""
    scaled: bool = False
    """Whether `lora_alpha / rank` multiplies its change."""
    default_layers: str = "0.3-0.8"
    reads_base: bool = False
    """Whether `branch` looks at the base's weight and bias; where it does not, nobody reads them."""
    targets: Callable[[Sequence[Linear]], list[Linear]] = list
    """Which of the linear layers it sits on when the user names none."""
    conv1d: bool = True
    on_packed: bool = False
    """Whether it is trained on quantised weights too: its change must need none of their values."""
    on_experts: bool = False
    """Whether it is trained on experts that lie in one tensor, too."""
    whole: bool = False
    """Whether whole matrices are trained, so that a side is as large as they are."""
    start: Callable[[Theta, Spec], Tensors] | None = None
    """Tensors fixed by the base's own weights that both sides start from (PiSSA)."""

    def lacks(self, setting: str) -> bool:
        """True for a setting that other families have and this one does not."""
        own = {
            "rank": self.default_rank is not None,
            "lora_alpha": self.scaled,
            "block_size": self.default_block is not None,
            "delora_lambda": self.default_lambda is not None,
            "freeze_a": self.reader is not None,
        }
        return not own.get(setting, True)

    def start_forms(self, start: Mapping[str, Tensor], spec: Spec) -> dict[str, tuple[Form, ...]]:
        """The change of each module that the common start of both sides adds to the base."""
        by_module = Adapter(spec, start).by_module
        return {m: self.branch(dict(by_module[m]), None, None, spec) for m in spec.modules}

    def spec(
        self,
        chosen: Sequence[Linear],
        *,
        rank: int | None,
        lora_alpha: float | None,
        block_size: int | None = None,
        delora_lambda: float | None = None,
        freeze_a: bool = False,
    ) -> Spec:
        """A spec on these layers, with impossible combinations refused."""
        options = {
            "rank": rank,
            "lora_alpha": lora_alpha,
            "block_size": block_size,
            "delora_lambda": delora_lambda,
            "freeze_a": freeze_a or None,
        }
        for setting, value in options.items():
            if value is not None and self.lacks(setting):
                raise ValueError(f"{self.name} has no {setting}; leave out `{setting}`")
        if rank is not None and not 1 <= rank <= MOST_RANK:
            raise ValueError(f"`rank` must lie between 1 and {MOST_RANK}, got {rank}")
        if not self.conv1d and (old := [x.name for x in chosen if is_conv1d(x.module)]):
            raise Unsupported(
                f"{self.name} does not work on Conv1D layers such as {old[0]}; take another family, such as lora."
            )
        if not self.on_experts and (stacks := [x.name for x in chosen if isinstance(x.module, Stack)]):
            raise Unsupported(
                f"{self.name} does not work on experts that lie in one tensor, such as {stacks[0]}; take lora, or name other `targets`."
            )
        if stacks := [x.name for x in chosen if isinstance(x.module, Stack) and is_packed(x.module)]:
            raise Unsupported(
                f"{stacks[0]} are experts of few bits, on which nothing can be trained; load the model whole (on a CPU, or without the "
                "package `kernels`), or name other `targets`."
            )
        if not self.on_packed and (packed := [x.name for x in chosen if is_packed(x.module)]):
            raise Unsupported(
                f"{self.name} is computed from the base's own weights, and {packed[0]} is quantised; take lora or bias, or train on "
                "the model it was made from."
            )
        rank = rank or self.default_rank
        block = block_size or self.default_block
        for x in chosen:
            shape = sizes(x.module)
            if block and shape[-1] % block:
                raise ValueError(
                    f"block size {block} does not divide the {shape[-1]} inputs of {x.name}; give `block_size`"
                )
            if self.start is not None and rank and rank > min(shape):
                raise ValueError(
                    f"{self.name} at rank {rank} needs matrices of at least that size, but {x.name} is {shape}"
                )
        return Spec(
            self.name,
            tuple(x.name for x in chosen),
            rank=rank,
            lora_alpha=(lora_alpha if lora_alpha is not None else 2.0 * rank) if self.scaled and rank else None,
            block_size=block,
            delora_lambda=delora_lambda or self.default_lambda,
            freeze_a=freeze_a,
        )

    @contextmanager
    def attached(self, base: Base, spec: Spec, seed: int) -> Iterator["Attached"]:
        """The base with a fresh trainable adapter on it; on leaving, the base is as it was."""
        flags = [(m, m.training) for m in base.model.modules()], [(p, p.requires_grad) for p in base.model.parameters()]
        children = [(m, dict(m._modules), dict(m._forward_hooks)) for m in base.model.modules()]
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                opened = self.attach(base, spec) if self.attach else _attach_peft(self, base, spec)
                attached = opened.__enter__()
            try:
                yield attached.without(self.reader) if spec.freeze_a else attached
            finally:
                opened.__exit__(None, None, None)
        finally:
            for m, modules, hooks in children:  # also where attaching failed half way through the layers
                m._modules.clear()
                m._modules.update(modules)
                for key in [h for h in m._forward_hooks if h not in hooks]:
                    del m._forward_hooks[key]
            if hasattr(base.model, "peft_config"):
                del base.model.peft_config
            for m, training in flags[0]:
                m.training = training
            for p, grad in flags[1]:
                p.requires_grad_(grad)


@dataclass(frozen=True, eq=False)
class Attached:
    """A base that wears an adapter: the network to run, and the adapter's tensors by name."""

    network: nn.Module
    trainable: Mapping[str, nn.Parameter]
    constant: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors saved with the adapter that training does not change (DeLoRA's weight norms, a frozen A)."""

    def state(self) -> Tensors:
        """A copy of everything that is saved."""
        return {k: t.detach().clone() for k, t in {**self.trainable, **self.constant}.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put saved values back, in place."""
        with torch.no_grad():
            for k, t in {**self.trainable, **self.constant}.items():
                t.copy_(state[k])

    def without(self, parameter: str | None) -> "Attached":
        """The same with one parameter of every module left as it is."""
        frozen = {k: p for k, p in self.trainable.items() if k.endswith(f".{parameter}")}
        for p in frozen.values():
            p.requires_grad_(False)
        trained = {k: p for k, p in self.trainable.items() if k not in frozen}
        return Attached(self.network, trained, {**self.constant, **{k: p.detach() for k, p in frozen.items()}})


@contextmanager
def _attach_peft(family: Family, base: Base, spec: Spec) -> Iterator[Attached]:
    from peft import get_peft_model
    from peft.utils import get_peft_model_state_dict

    with warnings.catch_warnings():
        # peft 0.21 reads `is_gradient_checkpointing`, which transformers 5.23 deprecates (2026-11)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
        assert family.peft_config is not None
        with _of_no_known_type(base):
            network = get_peft_model(base.model, family.peft_config(spec, base))
    try:
        own = {peft: name for name, peft in peft_names(base, spec.modules).items()}
        trainable = {renamed(_plain(n), own): p for n, p in network.named_parameters() if p.requires_grad}
        saved = {renamed(_plain(n), own): t for n, t in get_peft_model_state_dict(network).items()}
        yield Attached(network, trainable, {n: t for n, t in saved.items() if n not in trainable})
    finally:
        network.unload()


@contextmanager
def _of_no_known_type(base: Base) -> Iterator[None]:
    """A block in which peft does not know the type of a model, and takes targets as they are named.

    By the type, peft 0.21 puts what is meant for a shared expert on the routed ones instead, and refuses the way out of a Mamba
    layer, which is bypassed in training mode with CUDA kernels; here that layer is never in training mode (2026-11).
    """
    config: Any = base.model.config
    before = dict(vars(config))
    config.model_type = "unknown"  # on the instance; the class keeps its own
    try:
        yield
    finally:
        del config.model_type
        vars(config).update({k: v for k, v in before.items() if k == "model_type"})


def peft_names(base: Theta, modules: Sequence[str]) -> dict[str, str]:
    """Our name of each module to peft's: of experts it wraps one tensor after another, each around those before."""
    names = {m: m for m in modules}
    for m in modules:
        if isinstance(stack := base.layers[m].module, Stack):
            holder = m.rpartition(".")[0]
            there = [n for n, _ in stack.experts.named_parameters(recurse=False) if f"{holder}.{n}" in names]
            inside = len(there) - 1 - there.index(stack.parameter)
            names[m] = holder + ".base_layer" * inside
    return names


def renamed(parameter: str, names: Mapping[str, str]) -> str:
    """The name of an adapter's tensor with that of its module exchanged, where `names` has another one for it."""
    # a parameter's name has one part or two: `lora_magnitude_vector`, `lora_A.weight`
    module = next((m for n in (1, 2) if (m := parameter.rsplit(".", n)[0]) in names), "")
    return names.get(module, "") + parameter.removeprefix(module)


def _plain(name: str) -> str:
    """`base_model.model.model.layers.0.q_proj.lora_A.default.weight` -> `model.layers.0.q_proj.lora_A.weight`."""
    return name.removeprefix("base_model.model.").replace(".default", "")


def direction_of(family: Family, base: Theta, adapter: Adapter) -> Direction:
    """The exact change one trained side makes to the base, in float64."""
    return Direction({name: forms_of(family, base, adapter, name) for name in adapter.spec.modules})


def changes_between(
    base: Theta, left: tuple[Family, Adapter] | None, right: tuple[Family, Adapter] | None
) -> Iterator[tuple[str, tuple[Form, ...]]]:
    """`left - right` rounded to float32, one module after the other; a side that is None is the base.

    Only one module is held in float64 at any moment.
    """
    sides = [s for s in (left, right) if s is not None]
    for name in dict.fromkeys(m for _, a in sides for m in a.spec.modules):
        plus, minus = (
            forms_of(s[0], base, s[1], name) if s is not None and name in s[1].spec.modules else ()
            for s in (left, right)
        )
        exact = gathered((*plus, *(f.scaled(-1.0) for f in minus)))
        yield name, tuple(mapped(f, lambda t: t.to(torch.float32)) for f in exact)


def forms_of(family: Family, base: Theta, adapter: Adapter, module: str) -> tuple[Form, ...]:
    """The exact change of one module, in float64."""
    w = bias = None
    if family.reads_base:
        w = base.weight(module).to("cpu", torch.float64)
        own = base.bias(module)
        bias = None if own is None else own.to("cpu", torch.float64)
    forms = family.branch(adapter.of(module), w, bias, adapter.spec)
    if isinstance(base.layers[module].module, Stack):
        # the factors of an expert that is alone look like a matrix's
        forms = tuple(Stacked(f.b[None], f.a[None]) if isinstance(f, LowRank) else f for f in forms)
    return gathered(forms)
