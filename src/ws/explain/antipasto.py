"""`antipasto`: how much of a change lies in the spaces that AntiPaSTO trains in, by their published definitions."""

from ws.explain.bases.antipasto import DEFAULT, antipasto
from ws.explain.bases.basis import cosines
from ws.explain.in_spaces import TRAP, bars, reading, rows_in, tables_of
from ws.explain.mech_bases import RANK
from ws.explain.prompts import persona_states
from ws.explain.protocol import Analysis, Finding, Subject

EXACT = 1e-12


def run(subject: Subject) -> Finding:
    """All published spaces, cut to rank 8 after they were combined, as single ones and combinations."""
    published = antipasto(subject.base, persona_states(subject))
    spaces = [s.cut(RANK) for s in published.spaces.values()]
    rows = rows_in(subject.direction, subject.base, spaces, seed=subject.seed)
    readings = [
        reading(rows),
        f"`suppressed` telescopes: sum relu(dh) - sum relu(-dh) is the last state less an early one, here "
        f"{'exactly' if published.telescope < EXACT else f'to {published.telescope:.0e} of its size'}. It holds nothing of what "
        "was written and erased on the way.",
    ]
    if empty := [s.name for s in spaces if not s.write[0].rank]:
        readings.append(f"Empty, because no angle is below 60 degrees: {', '.join(empty)}.{_closest(published.spaces)}")
    picture = bars([r for r in rows if r.side == "write"], "what is written into each published space")
    return Finding(tables_of(rows, "in the published spaces", TRAP), (picture,), tuple(readings))


def _closest(spaces: dict) -> str:
    """How close the parts of an empty default come, where both have a dimension."""
    a, b = spaces["taskdiff"].write[0], spaces["suppressed"].write[0]
    if spaces[DEFAULT].write[0].rank or not (a.rank and b.rank):
        return ""
    return f" The closest vectors of taskdiff and suppressed have the cosine {float(cosines(a, b)[0]):.2f}."


ANTIPASTO = Analysis(
    "antipasto",
    "How much of the change lies in the spaces that AntiPaSTO trains in?",
    "These spaces are of the whole model and of a few prompts; other prompts give others. Energy is not effect, and a space that "
    "training chose for its loss need not be one that training without that loss would use.",
    run,
    material=True,
)
