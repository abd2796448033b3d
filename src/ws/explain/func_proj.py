"""`func_proj`: is the behavior carried by the activations that the change moves?

G = (post - pre of a block at +alpha) - (the same at -alpha),  a row per prompt, each of length 1
keep P w, drop (I - P) w, P w as large as w;   P on the first K right singular vectors of G, K = 1 .. 32

"""

from jaxtyping import Float
from torch import Tensor

from ws.explain import kept
from ws.explain.bases.basis import Basis, basis, participation
from ws.explain.bases.spaces import writers_of
from ws.explain.in_spaces import COLUMNS, in_percent
from ws.explain.prompts import held_texts
from ws.explain.protocol import Analysis, Finding, Picture, Subject, Table
from ws.methods.parts import moved as moved

PUBLISHED = (
    "Published at rank 32 (keep, norm, drop; daily dilemmas, 80 rows, without intervals): delora .07, .30, .89; pissa .47, 1.14, .64; "
    "oft -.01, 1.57, .69."
)
RANKS = (1, 2, 4, 8, 16, 32)


def spaces(rows: dict[int, Float[Tensor, "n d"]]) -> dict[int, Basis]:
    """The right singular vectors of the rows, each at length 1; blocks that do not move have none."""
    found = {}
    for block, g in rows.items():
        sizes = g.double().norm(dim=1, keepdim=True)
        if float(sizes.max()) > 0:
            unit = g.double() / sizes.clamp(min=1e-12 * float(sizes.max()))
            found[block] = basis("moved", unit.mT, "same_direction")
    return found


def run(subject: Subject) -> Finding:
    """The energy and, where it is measured, the effect of the spaces that the change moves activations in."""
    base, direction = subject.base, subject.direction
    writers = kept.writers_alone(subject)
    alpha = 1.0 if subject.measure is None else subject.measure.alpha
    blocks = {x.block for x in writers_of(base, experts=True) if x.name in writers.forms}
    shifted = moved(base, direction, held_texts(subject), abs(alpha))
    whole = {b: s for b, s in spaces(shifted).items() if b in blocks}
    most = max(b.rank for b in whole.values())
    ranks = sorted({min(k, most) for k in RANKS})
    cut = {k: {at: b.cut(k) for at, b in whole.items()} for k in ranks}
    labels = {k: f"moved{k}" for k in ranks}
    energies = [kept.energy(writers, base, cut[k], labels[k], seed=subject.seed) for k in ranks]
    dimensions = sum(participation(b.values) for b in whole.values() if b.values is not None) / len(whole)
    readings = [
        f"The change moves activations in {dimensions:.1f} dimensions per block (participation), of {most} that so many prompts "
        f"can show. The first {ranks[-1]} of them hold {in_percent(energies[-1].energy)} of what is written, "
        f"{energies[-1].ratio:.1f} times chance. The space was made from the change itself, so a high share is no finding.",
    ]
    tables = [Table("energy of what is written in the moved space", energies, COLUMNS)]
    pictures: tuple[Picture, ...] = ()
    if subject.measure is not None:
        named = {labels[k]: cut[k] for k in ranks}
        rows, effects = kept.measured_parts(subject, writers, named, controlled=(labels[ranks[0]], labels[ranks[-1]]))
        tables += kept.tables_of(rows, effects, "the moved space", PUBLISHED)
        readings += kept.readings_of(rows, effects, labels[ranks[-1]], f"the space of {ranks[-1]} dimensions")
        pictures = (kept.curves(rows, "the effect inside and outside of the moved space"),)
    return Finding(tuple(tables), pictures, tuple(readings))


FUNC_PROJ = Analysis(
    "func_proj",
    "Is the behavior carried by the activations that the change moves?",
    "The space is made from activations under the change (circular): that it holds much of the change is by construction. That the "
    "rest keeps the effect says that it does not take this space, not that it lies elsewhere: the shares of both need not add to "
    "one. Matrices that read are in neither part.",
    run,
    material=True,
)
