"""`mech_bases`: is a change explained by spaces that have a meaning?

Every space at rank 8, block by block: energy of the change in it, times what a random space of the same rank holds, z against a
hundred of them, and the share of what the best eight dimensions hold. What each space is: `bases/weights.py`, `bases/states.py`.
"""

from ws.explain.bases import weights
from ws.explain.bases.basis import intersection, without
from ws.explain.bases.spaces import Spaces, combined, either
from ws.explain.bases.states import (
    States,
    act_pca,
    attention_contrast,
    clusters,
    contrast_mean,
    gate_active,
    suppressed,
    taskdiff,
)
from ws.explain.in_spaces import TRAP, bars, closeness, own_spaces, reading, rows_in, tables_of
from ws.explain.prompts import persona_states
from ws.explain.protocol import Analysis, Finding, Heat, Subject
from ws.models.base import Base

RANK = 8
PUBLISHED = "Published for DeLoRA on Qwen3-0.6B: 1 to 8 % in each of the spaces that were tried."


def of_weights(base: Base) -> list[Spaces]:
    """The spaces that the base's weights define, at the wide rank."""
    write, read, logits = weights.write_space(base), weights.read_space(base), weights.unembed_read(base)
    rank = write.write[0].rank
    found = [
        write,
        read,
        weights.write_here(base),
        logits,
        weights.unembed_null(base, rank=rank),
        weights.write_not_read(base, write=write, read=read),
        weights.write_x_notlogits(base, write=write, logits=logits),
        weights.ov_space(base),
        weights.qk_space(base),
        weights.mlp_space(base),
    ]
    return [s for s in found if s is not None]


def of_states(states: States) -> list[Spaces]:
    """The spaces that the base's states define, at the wide rank."""
    makers = (contrast_mean, taskdiff, attention_contrast, act_pca, clusters, gate_active, suppressed)
    return [s for make in makers if (s := make(states)) is not None]


def combinations(spaces: dict[str, Spaces]) -> list[Spaces]:
    """Some unions and intersections, before any space is cut."""
    task, write, logits = (spaces[n] for n in ("taskdiff", "write_here", "unembed_read"))
    return [
        combined("taskdiff_x_write_here", intersection, task, write),
        combined("taskdiff_x_unembed_read", intersection, task, logits),
        combined("taskdiff_x_suppressed", intersection, task, spaces["suppressed"]),
        combined("taskdiff_not_unembed_read", without, task, logits),
        either("taskdiff_or_act_pca", task.cut(RANK // 2), spaces["act_pca"].cut(RANK // 2)),
    ]


def run(subject: Subject) -> Finding:
    """All spaces on both sides, and how much they overlap."""
    base = subject.base
    spaces = of_weights(base)
    states, why_not = _states(subject)
    if states is not None:
        spaces += of_states(states)
        spaces += combinations({s.name: s for s in spaces})
    spaces = [s.cut(RANK) for s in spaces]
    own = own_spaces(subject.direction, base, RANK)
    rows = rows_in(subject.direction, base, [*spaces, *([own] if own else [])], seed=subject.seed)
    written = [s for s in spaces if s.write]
    names = [s.name for s in written]
    readings = [reading(rows)]
    if not weights.ov_space(base):
        readings.append(
            "ov and qk are not there: not every block of this model has queries, keys and values as matrices of their own."
        )
    if not weights.mlp_space(base):
        readings.append("mlp is not there: not every block of this model has an MLP that all tokens see.")
    if why_not:
        readings.append(f"Spaces of states are not there: {why_not}")
    return Finding(
        tables_of(rows, "in spaces of at most 8 dimensions", f"{TRAP} {PUBLISHED}"),
        (
            bars(rows, "how much of the change lies in each space"),
            Heat(
                "overlap of the spaces of what is written, the mean over blocks",
                "share of the smaller one",
                [f"{i} {name}" for i, name in enumerate(names, 1)],
                [str(i) for i in range(1, len(names) + 1)],
                closeness(written, "write"),
            ),
        ),
        tuple(readings),
    )


def _states(subject: Subject) -> tuple[States | None, str]:
    """The base's states under both personas; or nothing, and why there are none."""
    if subject.material is None:
        return None, "they take prompts, which a run has and a file has not."
    behavior = subject.material.behavior
    if behavior is None or behavior.answers is not None:
        return None, "they take personas, and the pairs of this run come from none."
    return persona_states(subject), ""


MECH_BASES = Analysis(
    "mech_bases",
    "Is the change explained by spaces that have a meaning?",
    "Energy is not effect: a few percent of a change may carry all of what it does, and a space that holds much of it may do "
    "nothing. A change that scales or rotates W (IA3, OFT) writes what W writes by construction: `write_here`, `mlp` and `ov` say little of "
    "it. `own` is made from the change itself and is there to show what circular looks like.",
    run,
)
