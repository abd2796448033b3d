"""Groups of modules as variants: each alone, and all but each."""

from collections.abc import Mapping, Sequence

from ws.direction.groups import Group
from ws.direction.groups import bands as bands
from ws.direction.groups import compounds as compounds
from ws.direction.groups import kinds as kinds
from ws.direction.groups import layers as layers
from ws.explain.protocol import Variant


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
