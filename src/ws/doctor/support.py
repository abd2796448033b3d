"""What ws can do with a model, by its config alone: a sentence for each kind of work, yes or no with its reason.

`docs/models.md` is this table for one model of every tested architecture.
"""

from collections.abc import Callable, Iterable, Mapping
from inspect import signature

from ws.adapters import FAMILIES
from ws.doctor.check import NOTE, OK, Finding
from ws.errors import ExportRefused, WsError
from ws.export.gguf import tensor_names
from ws.export.peft import refuse_moved
from ws.models.base import Base
from ws.models.modules import Stack, stacks_of
from ws.models.quantised import LINEAR, OF_EXPERTS
from ws.prefix_cache import why_not_shared
from ws.train import TrainSettings, spec_of
from ws.types import Network


def support(base: Base, *, rank: int | None = None, packed: str | None = None) -> Mapping[str, str]:
    """Kind of work to what can be done, and why the rest cannot; `rank` is that of the adapters, where a family has one.

    `packed` is the way in which its weights lie in memory, where they are not whole.
    """
    usual = [x for x in base.linears.values() if x.usual]
    leaves = sorted({x.leaf.rsplit(".", 1)[-1] for x in usual})
    names = [x.name for x in usual]
    return {
        "load": _load(base) + (f"; its weights stay packed ({packed})" if packed else ""),
        "data": "yes, in text alone" if _of_several_parts(base) else "yes",
        "sits on": ", ".join(leaves) + _experts(base, packed),
        "train": _trained(base, rank, packed),
        "steer": _steered(base, packed),
        "export": _exports(base, names, packed),
        "prompts shared": _shared(base),
    }


def findings(base: Base, packed: str | None = None) -> list[Finding]:
    """The same as lines of a report."""
    row = support(base, packed=packed)
    return [Finding(name, NOTE if text.startswith("no") else OK, text) for name, text in row.items()]


def _experts(base: Base, packed: str | None) -> str:
    """What is true of the routed experts, where there are some."""
    if not (stacks := stacks_of(base.model)):
        return ""
    if packed in OF_EXPERTS:
        return "; nothing on the routed experts, which stay packed"
    names = sorted({x.leaf.rsplit(".", 1)[-1] for x in stacks})
    able = [name for name, family in FAMILIES.items() if family.on_experts]
    return f"; on request (`experts`) {' and '.join(names)} of the routed experts, by {', '.join(able)}"


def _load(base: Base) -> str:
    return f"yes, by {type(base.model).__name__}"


def _of_several_parts(base: Base) -> bool:
    """True for a model whose text is one part of it, beside what sees or hears."""
    network: Network = base.model
    return network.config.get_text_config() is not network.config


def _steered(base: Base, packed: str | None) -> str:
    rows = "one strength per row"
    stacks = [x.module for x in stacks_of(base.model) if isinstance(x.module, Stack)]
    if any(len(signature(stack.experts.forward).parameters) == 1 for stack in stacks):
        rows += " (over routed experts one for all)"
    return f"by hook, {rows}" + (", and folded" if packed is None else "; nothing is folded into packed weights")


def _trained(base: Base, rank: int | None, packed: str | None) -> str:
    """The families that find their layers here, and why others do not."""
    able, unable = [], {}
    for name, family in FAMILIES.items():
        if packed in LINEAR and not family.on_packed:
            unable[name] = "it is computed from the base's own weights, and these are packed"
            continue
        try:
            spec_of(base, TrainSettings(adapter=name, rank=rank if family.default_rank else None))
            able.append(name)
        except (WsError, ValueError) as e:
            unable[name] = str(e).rstrip(".")
    reasons = "; ".join(f"no {name}: {why}" for name, why in unable.items())
    return ", ".join(able) + (f"; {reasons}" if reasons else "")


def _exports(base: Base, names: Iterable[str], packed: str | None) -> str:
    tries: dict[str, Callable[[], object]] = {
        "peft and mergekit": lambda: refuse_moved(names, base),
        "gguf-lora": lambda: tensor_names(base.model.config, list(names)),
    }
    able, reasons = ["merged"], []
    for name, check in tries.items():
        try:
            check()
            able.append(name)
        except ExportRefused as e:
            reasons.append(f"no {name}: {str(e).partition(';')[0].partition(', and this model')[0]}")
    if packed is not None:
        able, reasons = [n for n in able if n.startswith("peft")], []
        return "; ".join(
            [*(n.partition(" ")[0] for n in able), "the others of the whole model, where `--origin` names it"]
        )
    return "; ".join([", ".join(able), *reasons])


def _shared(base: Base) -> str:
    why = why_not_shared(base.model)
    return "yes" if why is None else f"no: {why}"
