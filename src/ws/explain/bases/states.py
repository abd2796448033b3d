"""Spaces that a model's states on held-out prompts define, block by block.

| space              | is                                                                                               |
|--------------------|--------------------------------------------------------------------------------------------------|
| contrast_mean      | the mean difference of the states under both personas: one dimension                              |
| taskdiff           | the principal directions of those differences, each as long as the others                         |
| attention_contrast | the same for what attention brings to the last token, where it looks weighted by how much          |
| act_pca            | the principal directions of the states                                                            |
| clusters           | the means of eight groups of states, by angle                                                      |
| gate_active        | what the neurons that are active on the prompts write: `down_proj diag(rms of its inputs)`          |
| suppressed         | what a block writes and later blocks take back                                                     |

What a block writes is compared with the states that leave it, what it reads with those that enter it. States are read at
the last token of a prompt. They depend on the prompts: other prompts, other spaces.

`suppressed` here is the part of the covariance of a block's writes with all later writes that is negative. The published
form, `sum relu(dh) - sum relu(-dh)` over the layers, is `sum dh`, which telescopes to `h_last - h_early` and holds nothing of
what was erased on the way (`published_suppressed`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ws.explain.bases.basis import Basis, basis
from ws.explain.bases.spaces import Spaces, everywhere, in_block, writers_of
from ws.explain.bases.weights import wide
from ws.methods.activation.clusters import by_angle
from ws.methods.activation.paper import hidden_names
from ws.methods.activation.states import INTO, Contrast, Text, contrast
from ws.models.base import Base

GROUPS = 8
FLOOR = 0.01  # of the median length: shorter differences are weighed down instead of blown up
EARLY = 0.1  # of the depth: the published forms leave the first blocks out
LATE = 0.7  # of the depth: where the published persona contrast is read


@dataclass(frozen=True, eq=False)
class States:
    """The states under both personas: what enters and leaves every block, what attention brings, what goes into down_proj."""

    base: Base
    both: Contrast
    source: str = "heldout_acts"

    def hidden(self, at: int) -> Float[Tensor, "n d"]:
        """Hidden state `at` on all prompts of both sides; block l takes in hidden l and puts out hidden l + 1."""
        name = hidden_names(self.base)[at]
        return torch.cat([self.both.pos[name], self.both.neg[name]])

    def difference(self, at: int) -> Float[Tensor, "n d"]:
        """pos less neg at hidden state `at`, question by question."""
        return self.both.difference(hidden_names(self.base)[at])

    @cached_property
    def attention(self) -> list[str]:
        """The modules through which attention writes, a block each; empty where a block has another form."""
        return _one_per_block(self.base, lambda leaf: ".mlp." not in f".{leaf}." and "dense_4h_to_h" not in leaf)

    @cached_property
    def down(self) -> list[str]:
        """The modules through which the MLP writes."""
        return _one_per_block(self.base, lambda leaf: ".mlp." in f".{leaf}.")


def read_states(base: Base, sides: tuple[Sequence[Text], Sequence[Text]], source: str = "heldout_acts") -> States:
    """The states of a base on the same prompts under both personas, in one pass each."""
    empty = States(base, Contrast({}, {}), source)
    names = [*hidden_names(base), *empty.attention, *(INTO + name for name in empty.down)]
    return States(base, contrast(base, sides, names), source)


def _one_per_block(base: Base, wanted: Callable[[str], bool]) -> list[str]:
    writers = [[x.name for x in in_block(writers_of(base), at) if wanted(x.leaf)] for at in range(base.depth)]
    return [names[0] for names in writers] if all(len(names) == 1 for names in writers) else []


def _by_hidden(name: str, states: States, make: Callable[[int], Basis]) -> Spaces:
    """One basis per hidden state, for the block that puts it out and the one that takes it in."""
    bases = [make(at) for at in range(states.base.depth + 1)]
    return Spaces(name, tuple(bases[1:]), tuple(bases[:-1]))


def contrast_mean(states: States) -> Spaces:
    """The mean contrast, at every block."""

    def at(hidden: int) -> Basis:
        return basis("contrast_mean", states.difference(hidden).mean(0)[:, None], states.source)

    return _by_hidden("contrast_mean", states, at)


def taskdiff(states: States) -> Spaces:
    """The principal directions of the persona contrasts, at every block.

    They are not centred: centring takes away the mean contrast, which is what the personas have in common.
    """
    return _by_hidden("taskdiff", states, lambda at: _contrasts("taskdiff", states, states.difference(at)))


def _contrasts(name: str, states: States, rows: Float[Tensor, "n d"], *, centred: bool = False) -> Basis:
    rows = _alike(rows)
    rows = rows - rows.mean(0) if centred else rows
    return basis(name, rows.mT, states.source).cut(wide(rows.shape[1]))


def _alike(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of nearly one length, so that each has one vote and what is nearly zero has none."""
    sizes = rows.double().norm(dim=1, keepdim=True)
    floor = FLOOR * sizes.median()
    return rows / (sizes + floor) if float(floor) > 0 else rows.double()


def attention_contrast(states: States) -> Spaces | None:
    """The principal directions of the contrasts of what attention brings to the last token."""
    if not states.attention:
        return None
    rows = (states.both.difference(name) for name in states.attention)
    return Spaces("attention_contrast", tuple(_contrasts("attention_contrast", states, r) for r in rows))


def act_pca(states: States) -> Spaces:
    """The principal directions of the states, less their mean."""

    def at(hidden: int) -> Basis:
        rows = states.hidden(hidden).double()
        return basis("act_pca", (rows - rows.mean(0)).mT, states.source).cut(wide(rows.shape[1]))

    return _by_hidden("act_pca", states, at)


def clusters(states: States) -> Spaces:
    """The means of groups of states by angle, less the mean of all."""

    def at(hidden: int) -> Basis:
        rows = states.hidden(hidden).double()
        rows = rows - rows.mean(0)
        groups = by_angle(rows.float(), GROUPS)
        means = torch.stack([rows[groups == g].mean(0) for g in groups.unique()])
        return basis("clusters", means.mT, states.source)

    return _by_hidden("clusters", states, at)


def gate_active(states: States) -> Spaces | None:
    """What each block's active neurons write."""
    if not states.down:
        return None
    bases = []
    for name in states.down:
        inputs = torch.cat([states.both.pos[INTO + name], states.both.neg[INTO + name]]).double()
        columns = states.base.weight(name).cpu().double() * inputs.square().mean(0).sqrt()
        bases.append(basis("gate_active", columns, states.source).cut(wide(len(columns))))
    return Spaces("gate_active", tuple(bases))


def suppressed(states: States) -> Spaces:
    """What each block writes and all later blocks together take back, what is taken back most first; empty at the last."""
    last = states.hidden(states.base.depth).double()
    bases = []
    for at in range(states.base.depth):
        before, after = states.hidden(at).double(), states.hidden(at + 1).double()
        bases.append(erased(after - before, last - after, states.source))
    return Spaces("suppressed", tuple(bases))


def erased(written: Float[Tensor, "n d"], later: Float[Tensor, "n d"], source: str) -> Basis:
    """Directions v in which the mean of (v . written)(v . later) is negative, the most negative first.

    The eigenvectors of the symmetric part of their second moment, in the span of both: never d x d where there are few prompts.
    `values` are the roots of what is taken back.
    """
    span, _ = torch.linalg.qr(torch.cat([written, later]).double().mT)
    a, b = written.double() @ span, later.double() @ span
    product = a.mT @ b / len(a)
    values, vectors = torch.linalg.eigh(-(product + product.mT) / 2)
    values, vectors = values.flip(0), vectors.flip(1)
    k = min(int((values > 1e-9 * values.abs().max()).sum()), wide(written.shape[1]))
    return Basis("suppressed", (span @ vectors[:, :k]).float(), source, values[:k].sqrt().float())


# ---------------------------------------------------------------- as published


def published_taskdiff(states: States) -> Spaces:
    """The published persona contrast: read at 0.7 of the depth, centred, one space for the whole model."""
    at = max(1, int(LATE * states.base.depth))
    return everywhere(_contrasts("taskdiff", states, states.difference(at), centred=True), states.base.depth)


def published_suppressed(states: States, logits: Basis) -> tuple[Spaces, float]:
    """The published suppressed space, and how far it is from what it telescopes to, as a share of its size.

    `sum relu(dh) - sum relu(-dh)` over all but the first tenth of the blocks, without what the head reads; centred PCA.
    """
    depth = states.base.depth
    hidden = [states.hidden(at).double() for at in range(int(EARLY * depth), depth + 1)]
    steps = [after - before for before, after in zip(hidden, hidden[1:])]
    net = torch.stack([s.relu() - (-s).relu() for s in steps]).sum(0)
    apart = float((net - (hidden[-1] - hidden[0])).norm() / net.norm())
    rest = net - net @ logits.vectors.double() @ logits.vectors.double().mT
    rows = rest - rest.mean(0)
    return everywhere(basis("suppressed", rows.mT, states.source).cut(wide(rows.shape[1])), depth), apart
