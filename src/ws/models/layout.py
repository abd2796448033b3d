"""The tensors of a checkpoint under the names of the network that is made of them.

While transformers loads a checkpoint it renames parts of older ones, and puts matrices together that are stored apart: the
experts of a block become one tensor. Here the same is done for one tensor of the network at a time, by its own rules.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Read = Callable[[str], Tensor]


@dataclass(frozen=True)
class Place:
    """The place of a stored tensor in the network's: the whole of it, or an expert's rows, or one of so many equal parts of those."""

    expert: int | None = None
    part: int = 0
    of: int = 1


@dataclass(frozen=True, eq=False)
class Source:
    """The stored tensors that one tensor of the network is made of."""

    names: tuple[str, ...]
    """As the checkpoint calls them, in their order."""
    patterns: tuple[str, ...] = ()
    key: str = ""
    converter: Any = None
    """The rule of transformers that puts them together; None where one tensor is read as it is."""

    def tensor(self, name: str, network: nn.Module, read: Read) -> Tensor | None:
        """The network's tensor of this name; None where the rule makes none of it."""
        if self.converter is None:
            return read(self.names[0])
        rule = deepcopy(self.converter)
        for stored, pattern in zip(self.names, self.patterns):
            rule.add_tensor(self.key, stored, pattern, read(stored))
        made: dict[str, Any] = rule.convert(self.key, model=network, config=network.config)
        tensor = made.get(name)
        return tensor[0] if isinstance(tensor, list) else tensor

    def places(self) -> Mapping[str, Place]:
        """The place of each stored tensor; none where the rule does more than put experts one after another."""
        if self.converter is None:
            return {self.names[0]: Place()}
        rules = [(type(rule).__name__, getattr(rule, "dim", None)) for rule in self.converter.operations]
        parts: list[str] = list(self.converter.source_patterns)
        if rules not in ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)]):
            return {}
        before: list[str] = []
        found = {}
        for name, pattern in zip(self.names, self.patterns):
            found[name] = Place(before.count(pattern), parts.index(pattern), len(parts))
            before.append(pattern)
        return found


def sources(network: nn.Module, stored: Iterable[str]) -> Mapping[str, Source]:
    """The source of each tensor of a network, by its name there."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    rules = get_model_conversion_mapping(network)
    renamings = [r for r in rules if isinstance(r, WeightRenaming)]
    converters = [r for r in rules if isinstance(r, WeightConverter)]
    parts: dict[str, list[tuple[str, str | None]]] = {}
    for name in sorted(stored, key=dot_natural_key):  # experts by their number, 2 before 10
        key, pattern = rename_source_key(name, renamings, converters)
        parts.setdefault(key, []).append((name, pattern))
    found: dict[str, Source] = {}
    for key, own in parts.items():
        names, patterns = (tuple(column) for column in zip(*own))
        rule = next((c for c in converters if own[0][1] in c.source_patterns), None)
        if rule is None:
            found[key] = Source(names[-1:])
            continue
        first = rule.target_patterns[0]
        for target in rule.target_patterns:
            found[key.replace(first, target)] = Source(names, patterns, key, rule)
    return found
