"""`logit_lens`: what do the strongest writes of a change say, put through the unembedding?

Per block, the first left singular vectors of what its matrices write, as directions of logits: `head (gain * u)`. A singular
vector has no sign, so both ends stand side by side. Token energy is how much more of u lies along tokens than tokens lie
along each other on average: `v ||E u||^2 / ||E^T E||^2`, E the unembedding with rows of length 1 (Wendler et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ws.explain.bases.basis import left_singular
from ws.explain.bases.energies import factors
from ws.explain.bases.spectra import ROWS_AT_ONCE, final_gain, head_of
from ws.explain.protocol import Analysis, Bars, Finding, Subject, Table
from ws.models.base import Base

TOKENS, VECTORS, DRAWS = 6, 2, 100


@dataclass(frozen=True)
class Write:
    """One direction that a block writes more of, in words."""

    where: str
    share: float
    """The part of what the block writes that lies along it."""
    plus: str
    """The tokens whose logits it raises most."""
    minus: str
    """Those it lowers most: with the other sign they are raised."""
    token_energy: float
    """1 where it lies along tokens as they lie along each other."""
    z: float
    """Its token energy less that of random directions, in their standard deviations."""


@dataclass(frozen=True, eq=False)
class Lens:
    """The unembedding as a reader of directions."""

    base: Base
    gain: Float[Tensor, "d"]
    gram: Float[Tensor, "d d"]
    """E^T E, E with rows of length 1."""
    tokens: int

    def energy(self, u: Float[Tensor, "d n"]) -> Float[Tensor, "n"]:
        """The token energy of unit directions, as the head sees them."""
        seen = u.double() * self.gain.double()[:, None]
        seen = seen / seen.norm(dim=0)
        return self.tokens * ((self.gram @ seen) * seen).sum(0) / self.gram.square().sum()

    def words(self, u: Float[Tensor, "d k"], n: int = TOKENS) -> list[tuple[str, str]]:
        """The tokens that each of several directions raises most, and those that it lowers most."""
        head = head_of(self.base)
        seen = (u.float() * self.gain[:, None]).to(head.device)
        parts = [head[at : at + ROWS_AT_ONCE].float() @ seen for at in range(0, len(head), ROWS_AT_ONCE)]
        logits = torch.cat(parts).mT
        ends = [(row.topk(n).indices.tolist(), (-row).topk(n).indices.tolist()) for row in logits]
        return [(self._named(most), self._named(least)) for most, least in ends]

    def _named(self, ids: Sequence[int]) -> str:
        return " ".join(self.base.tokenizer.decode([i]).strip().replace("\n", "\\n") or f"[{i}]" for i in ids)


def lens_of(base: Base) -> Lens:
    """The lens of a base."""
    head = head_of(base)
    gram = torch.zeros(head.shape[1], head.shape[1], dtype=torch.float64)
    for at in range(0, len(head), ROWS_AT_ONCE):
        rows = torch.nn.functional.normalize(head[at : at + ROWS_AT_ONCE].cpu().double(), dim=1)
        gram += rows.mT @ rows
    return Lens(base, final_gain(base), gram, len(head))


def run(subject: Subject) -> Finding:
    """The strongest writes of every block."""
    parts = factors(subject.direction, subject.base, "write")
    if not parts:
        raise ValueError("this direction changes no matrix that writes to the residual stream")
    lens = lens_of(subject.base)
    at_random = lens.energy(random_vectors(len(lens.gain), subject.seed))
    mean, sd = float(at_random.mean()), float(at_random.std())
    rows = []
    for block, f in sorted(parts.of.items()):
        u, s = left_singular(f)
        first = u[:, :VECTORS]
        for words, energy, size in zip(lens.words(first), lens.energy(first).tolist(), s.square() / s.square().sum()):
            rows.append(Write(f"layer {block}", float(size), *words, energy, (energy - mean) / sd))
    above = sum(r.z > 3 for r in rows)
    readings = (
        f"{above} of {len(rows)} writes lie along tokens more than random directions do (z above 3); random ones have a token "
        f"energy of {mean:.2f}, from {float(at_random.min()):.2f} to {float(at_random.max()):.2f}.",
    )
    strongest = list({r.where: r for r in reversed(rows)}.values())[::-1]
    picture = Bars(
        "how much the strongest write of each block lies along tokens",
        "token energy",
        [r.where for r in strongest],
        [r.token_energy for r in strongest],
        chance=[mean] * len(strongest),
    )
    return Finding((Table("the strongest writes of every block, in tokens", rows),), (picture,), readings)


def random_vectors(width: int, seed: int) -> Float[Tensor, "d n"]:
    """Unit vectors in random directions."""
    x = torch.randn(width, DRAWS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=0)


LOGIT_LENS = Analysis(
    "logit_lens",
    "What do the strongest writes of the change say?",
    "A write of an early block is changed by all later ones before it meets the unembedding, so its words may mean nothing there; a "
    "direction without words may still steer. Lists of tokens invite stories: look at the token energy first.",
    run,
)
