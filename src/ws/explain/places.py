"""Groups of modules by name: layers, kinds of matrices, and what several kinds have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ws.direction.algebra import by_kind, layer_of
from ws.explain.protocol import Variant
from ws.methods.activation.sspace import WRITES

K = TypeVar("K", str, int)
Group = Mapping[str, frozenset[str]]
"""The name of a group to its modules."""
READS_ATTENTION = ("q_proj", "k_proj", "v_proj")
BANDS = ("early", "middle", "late")


def kind_of(name: str) -> str:
    """The short name of a kind of matrix: the last part of its path."""
    return by_kind(name).rsplit(".", 1)[-1]


def layers(names: Sequence[str]) -> Group:
    """A group per layer, in order."""
    return {f"layer{n}": modules for n, modules in sorted(_grouped(names, layer_of).items())}


def kinds(names: Sequence[str]) -> Group:
    """A group per kind of matrix."""
    return _grouped(names, kind_of)


def bands(names: Sequence[str]) -> Group:
    """The touched layers in three parts along the depth."""
    there = sorted({layer_of(m) for m in names})
    if len(there) < len(BANDS):
        return {}
    part = {n: BANDS[min(at * len(BANDS) // len(there), len(BANDS) - 1)] for at, n in enumerate(there)}
    return {band: frozenset(m for m in names if part[layer_of(m)] == band) for band in BANDS}


def _grouped(names: Sequence[str], of: Callable[[str], K]) -> dict[K, frozenset[str]]:
    return {key: frozenset(m for m in names if of(m) == key) for key in dict.fromkeys(map(of, names))}


def compounds(names: Sequence[str]) -> Group:
    """Kinds that belong together: what writes to the residual stream, attention, MLP, and pairs of them."""
    groups = {
        "writers": _those(names, lambda m: _is_called(m, WRITES)),
        "readers": _those(names, lambda m: not _is_called(m, WRITES)),
        "attention": _those(names, lambda m: "attn" in by_kind(m) or "attention" in by_kind(m)),
        "mlp": _those(names, lambda m: "mlp" in by_kind(m) or "feed_forward" in by_kind(m)),
        "qkv": _those(names, lambda m: kind_of(m) in READS_ATTENTION),
        "up+gate": _those(names, lambda m: kind_of(m) in ("up_proj", "gate_proj")),
    }
    return {name: modules for name, modules in groups.items() if 0 < len(modules) < len(names)}


def only(group: Group, scale: Mapping[str, float] | None = None) -> list[Variant]:
    """Every group alone, as it is or by a factor of its own."""
    return [
        Variant(f"only:{name}", scales=dict.fromkeys(sorted(modules), (scale or {}).get(name, 1.0)))
        for name, modules in group.items()
    ]


def without(group: Group, names: Sequence[str]) -> list[Variant]:
    """All but one group each."""
    return [
        Variant(f"without:{name}", scales={m: 1.0 for m in names if m not in modules})
        for name, modules in group.items()
    ]


def _those(names: Sequence[str], condition: Callable[[str], bool]) -> frozenset[str]:
    return frozenset(m for m in names if condition(m))


def _is_called(name: str, words: Sequence[str]) -> bool:
    kind = by_kind(name)
    return any(kind == w or kind.endswith("." + w) for w in words)
