"""The spaces that AntiPaSTO trains in, by their published names and definitions (wassname/AntiPaSTO, `subspaces.py`).

    taskdiff      centred PCA of persona contrasts at 0.7 of the depth
    suppressed    PCA of sum relu(dh) - sum relu(-dh), without what the head reads
    logits_read   what the head reads most;   notlogits   its complement
    write, read   what writers and readers of all blocks share;   write_not_read   `write` projected out of `read`
    a_x_b         an approximate intersection: `basis.intersection`;   a_x_notb   a projected onto the complement of b

All are spaces of the whole model. They are combined at the wide rank, a quarter of the stream, and then cut. Two differences:
where no angle between two spaces is below 60 degrees an intersection is empty here, and there it is the closest pair of
vectors; and theirs weighs both spaces by their singular values where both have some, which then counts no angle at all.
"""

from dataclasses import dataclass

from ws.explain.bases.basis import intersection, without
from ws.explain.bases.spaces import Spaces, combined
from ws.explain.bases.states import States, published_suppressed, published_taskdiff
from ws.explain.bases.weights import read_space, unembed_read, write_space
from ws.models.base import Base

NAMES = (
    "taskdiff_x_suppressed_x_write",
    "taskdiff_x_logits_read",
    "taskdiff_x_write_not_read",
    "taskdiff_x_write_x_notlogits",
    "write_x_notlogits",
)
DEFAULT = NAMES[0]


@dataclass(frozen=True, eq=False)
class AntiPaSTO:
    """All spaces by name, at the wide rank, and how far the published `suppressed` is from what it telescopes to."""

    spaces: dict[str, Spaces]
    telescope: float


def antipasto(base: Base, states: States) -> AntiPaSTO:
    """The published spaces of a model and a behavior."""
    write, read = write_space(base), read_space(base)
    logits = combined("logits_read", lambda b: b, unembed_read(base))
    taskdiff = published_taskdiff(states)
    suppressed, telescope = published_suppressed(states, logits.all[0])
    hidden = combined("taskdiff_x_suppressed", intersection, taskdiff, suppressed)
    written = combined("taskdiff_x_write", intersection, taskdiff, write)
    unread = combined("write_not_read", without, write, read)
    spaces = [
        write,
        read,
        taskdiff,
        suppressed,
        logits,
        unread,
        combined(NAMES[0], intersection, hidden, write),
        combined(NAMES[1], intersection, taskdiff, logits),
        combined(NAMES[2], intersection, taskdiff, unread),
        combined(NAMES[3], without, written, logits),
        combined(NAMES[4], without, write, logits),
    ]
    return AntiPaSTO({s.name: s for s in spaces}, telescope)
