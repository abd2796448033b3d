"""The adapter families, one file each. To remove one, delete its file and its name here."""

from ws.adapters import bias, boft, delora, dora, full, ia3, lora, oft, pissa
from ws.adapters.family import Adapter as Adapter
from ws.adapters.family import Attached as Attached
from ws.adapters.family import Family as Family
from ws.adapters.family import Spec as Spec
from ws.adapters.family import changes_between as changes_between
from ws.adapters.family import direction_of as direction_of
from ws.adapters.file import load_adapter as load_adapter
from ws.adapters.file import save_adapter as save_adapter
from ws.extensions import Registry

FAMILIES: Registry[Family] = Registry(
    "ws.adapters", Family, {m.FAMILY.name: m.FAMILY for m in (lora, dora, pissa, delora, oft, boft, ia3, bias, full)}
)
USUAL = "lora"
"""The family that is taken where none is named."""


def family(name: str) -> Family:
    """The family of this name; an unknown one lists those there are."""
    if name not in FAMILIES:
        raise ValueError(f"adapter {name!r} is not known; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def small() -> tuple[str, ...]:
    """The families that `all` stands for: those of small adapters. One that trains whole matrices is asked for by name."""
    return tuple(name for name, of in FAMILIES.items() if not of.whole)
