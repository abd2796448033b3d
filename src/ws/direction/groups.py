"""Groups of modules by name: layers, kinds of matrices, and what several kinds have in common. Nothing here knows a model."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

from ws.direction.algebra import by_kind, layer_of

WRITES = ("o_proj", "down_proj", "out_proj", "c_proj", "attention.dense", "dense_4h_to_h", "output_linear")
"""What the matrices are called that write to the residual stream."""
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
        "writers": _those(names, lambda m: is_called(m, WRITES)),
        "readers": _those(names, lambda m: not is_called(m, WRITES)),
        "attention": _those(names, lambda m: "attn" in by_kind(m) or "attention" in by_kind(m)),
        "mlp": _those(names, lambda m: "mlp" in by_kind(m) or "feed_forward" in by_kind(m)),
        "qkv": _those(names, lambda m: kind_of(m) in READS_ATTENTION),
        "up+gate": _those(names, lambda m: kind_of(m) in ("up_proj", "gate_proj")),
    }
    return {name: modules for name, modules in groups.items() if 0 < len(modules) < len(names)}


def every(names: Sequence[str]) -> dict[str, frozenset[str]]:
    """All of these groups by name."""
    return {**layers(names), **kinds(names), **bands(names), **compounds(names)}


def group(name: str, names: Sequence[str]) -> frozenset[str]:
    """The modules of a group by its name, or of one module; what names none is refused."""
    there = every(names)
    if name in names:
        return frozenset([name])
    if name not in there:
        near = get_close_matches(name, there, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}"
        raise ValueError(f"{name!r} names no modules of this direction; {hint}")
    return there[name]


def _those(names: Sequence[str], condition: Callable[[str], bool]) -> frozenset[str]:
    return frozenset(m for m in names if condition(m))


def is_called(name: str, words: Sequence[str]) -> bool:
    """True where the path of a module ends in one of these names, at a dot."""
    kind = by_kind(name)
    return any(kind == w or kind.endswith("." + w) for w in words)
