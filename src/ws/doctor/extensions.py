"""What other distributions add: each is imported here, so that one which cannot be used is found before it is asked for."""

from collections.abc import Callable, Iterable

from ws.adapters import FAMILIES
from ws.behaviors import SHIPPED, load_behavior
from ws.doctor.check import BROKEN, OK, Finding
from ws.errors import WsError
from ws.eval import NAMES, protocols_of
from ws.extensions import MEND, NOUNS, listed
from ws.methods import METHODS
from ws.numbers import some

GROUPS: dict[str, tuple[Iterable[str], Callable[[str], object]]] = {
    "ws.adapters": (FAMILIES.shipped, lambda name: FAMILIES[name]),
    "ws.evals": (NAMES, protocols_of),
    "ws.methods": (METHODS.shipped, lambda name: METHODS[name]),
    "ws.behaviors": (SHIPPED, load_behavior),
}
"""Group of entry points: what ships, and how one that is added is loaded."""


def examine_extensions() -> list[Finding]:
    """What is added, and one sentence for each that cannot be used."""
    usable: list[str] = []
    faults: list[str] = []
    for group, (shipped, load) in GROUPS.items():
        added, clashes = listed(group, frozenset(shipped))
        faults += clashes
        for name in added:
            try:
                load(name)
                usable.append(f"{NOUNS[group]} {name}")
            except WsError as e:
                faults.append(str(e))
    listing = f": {', '.join(usable)}" if usable else ""
    broken = [
        Finding("extension", BROKEN, fault.removesuffix(f"; {MEND}."), f"{MEND.capitalize()}.") for fault in faults
    ]
    return [Finding("extensions", OK, f"{some(len(usable), 'unit')} of other distributions{listing}"), *broken]
