"""The adapter families by name. To remove one, delete its file and its name here."""

from ws.adapters import bias, boft, delora, dora, full, ia3, lora, oft, pissa
from ws.adapters.family import Family
from ws.errors import not_known
from ws.extensions import Registry

FAMILIES: Registry[Family] = Registry(
    "ws.adapters", Family, {m.FAMILY.name: m.FAMILY for m in (lora, dora, pissa, delora, oft, boft, ia3, bias, full)}
)
USUAL = "lora"
"""The family that is taken where none is named."""


def family(name: str) -> Family:
    """The family of this name; an unknown one lists those there are."""
    if name not in FAMILIES:
        raise ValueError(not_known("adapter", name, FAMILIES))
    return FAMILIES[name]


def small() -> tuple[str, ...]:
    """The families that `all` stands for: those of small adapters. One that trains whole matrices is asked for by name."""
    return tuple(name for name, of in FAMILIES.items() if not of.whole)
