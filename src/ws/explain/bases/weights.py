"""Spaces that a base's own weights define: what it writes, reads, unembeds, and moves between positions.

| space          | what a block writes is compared with                           | what it reads is compared with         |
|----------------|----------------------------------------------------------------|----------------------------------------|
| write          | what the writers of all blocks share                           | the same                               |
| read           | what the readers of all blocks share                           | the same                               |
| write_here     | outputs of the block's own o_proj and down_proj                |                                        |
| unembed_read   | the strongest right singular vectors of the head               | the same                               |
| unembed_null   | its weakest                                                    | the same                               |
| write_not_read | `write` projected onto the complement of `read`                | the same                               |
| write_x_notlogits | `write` projected onto the complement of `unembed_read`     | the same                               |
| ov             | outputs of value and output matrix together                    | their inputs                           |
| qk             |                                                                | inputs that make scores of attention   |
| mlp            | outputs of down_proj                                           | inputs of gate_proj and up_proj        |

`write` and `read` count every matrix alike: the first eigenvectors of the sum of the projectors on its first `wide`
singular vectors. Gains of norms between the stream and a reader are left out but for the head's, as in the published forms.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ws.explain.bases.basis import Basis, basis, quick, union, without
from ws.explain.bases.spaces import Spaces, combined, everywhere, in_block, readers_of, writers_of
from ws.explain.bases.spectra import spectrum_of, unembedding, width_of
from ws.models.base import Base
from ws.models.modules import Linear, text_config
from ws.progress import progress

WIDEST = 256


def wide(width: int) -> int:
    """How many dimensions a space has before it is combined with another: a quarter of the stream's, at most 256."""
    return max(1, min(WIDEST, width // 4))


def write_space(base: Base) -> Spaces:
    """What the writers of all blocks share."""
    return everywhere(shared_space("write", base, writers_of(base)), base.depth)


def read_space(base: Base) -> Spaces:
    """What the readers of all blocks share."""
    return everywhere(shared_space("read", base, readers_of(base, width_of(base))), base.depth)


def shared_space(name: str, base: Base, linears: list[Linear]) -> Basis:
    """The first eigenvectors of the sum of the projectors on what every matrix does most; `values` are roots of eigenvalues."""
    width, k = width_of(base), wide(width_of(base))
    total = torch.zeros(width, width, dtype=torch.float64)
    with progress(len(linears), f"decomposing what the model {'writes' if name == 'write' else 'reads'}") as step:
        for x in linears:
            spectrum = spectrum_of(base, x.name)
            side = (spectrum.u if name == "write" else spectrum.v)[:, :k]
            total += side @ side.mT
            step(1)
    values, vectors = torch.linalg.eigh(total)
    return Basis(name, vectors.flip(1)[:, :k].float(), "base", values.flip(0)[:k].clamp(min=0).sqrt().float())


def write_here(base: Base) -> Spaces:
    """What the writers of each block share."""
    writers, k = writers_of(base), wide(width_of(base))

    def at(block: int) -> Basis:
        sides = [spectrum_of(base, x.name).u[:, :k] for x in in_block(writers, block)]
        return union([Basis("", u.float(), "base") for u in sides], name="write_here").cut(k)

    return Spaces("write_here", write=tuple(map(at, range(base.depth))))


def unembed_read(base: Base) -> Spaces:
    """What the head reads most, through the gain of the final norm."""
    v, s = unembedding(base)
    k = wide(v.shape[0])
    return everywhere(Basis("unembed_read", v[:, :k].float(), "base", s[:k].float()), base.depth)


def unembed_null(base: Base, share: float = 0.01, *, gain: bool = True, rank: int | None = None) -> Spaces:
    """What the head barely reads: its weakest directions, a share of all or so many."""
    v, s = unembedding(base, gain=gain)
    k = rank or max(1, int(share * v.shape[0]))
    weakest = v[:, -k:].flip(1)
    values = 1 / s[-k:].flip(0) if float(s[-1]) > 0 else None
    return everywhere(
        Basis("unembed_null", weakest.float(), "base", None if values is None else values.float()), base.depth
    )


def write_not_read(base: Base, *, write: Spaces | None = None, read: Spaces | None = None) -> Spaces:
    """What is written and that no reader shares."""
    return combined("write_not_read", without, write or write_space(base), read or read_space(base))


def write_x_notlogits(base: Base, *, write: Spaces | None = None, logits: Spaces | None = None) -> Spaces:
    """What is written and that the head does not read."""
    return combined("write_x_notlogits", without, write or write_space(base), logits or unembed_read(base))


# ---------------------------------------------------------------- circuits of one block


def mlp_space(base: Base) -> Spaces | None:
    """What each block's MLP puts out, and what its gate and up matrices take in; None where a block has none that all tokens see."""
    width, k = width_of(base), wide(width_of(base))
    mlp_out = [x for x in writers_of(base) if ".mlp." in f".{x.leaf}." or "dense_4h_to_h" in x.leaf]
    mlp_in = [x for x in readers_of(base, width) if ".mlp." in f".{x.leaf}." and x.usual]
    if not all(any(in_block(side, at)) for side in (mlp_out, mlp_in) for at in range(base.depth)):
        return None
    write = tuple(_sum_of_blocks(base, mlp_out, at, k, "mlp", out=True) for at in range(base.depth))
    read = tuple(_sum_of_blocks(base, mlp_in, at, k, "mlp", out=False) for at in range(base.depth))
    return Spaces("mlp", write, read)


def _sum_of_blocks(base: Base, linears: list[Linear], at: int, k: int, name: str, *, out: bool) -> Basis:
    """Singular vectors of a block's matrices side by side, each with its singular values."""
    sides = []
    for x in in_block(linears, at):
        spectrum = spectrum_of(base, x.name)
        sides.append((spectrum.u if out else spectrum.v) * spectrum.s)
    return basis(name, torch.cat(sides, 1), "base", rank=k)


@dataclass(frozen=True, eq=False)
class Heads:
    """The attention of one block, head by head; keys and values repeated for the heads that share them."""

    q: Float[Tensor, "h a d"]
    k: Float[Tensor, "h a d"]
    v: Float[Tensor, "h a d"]
    o: Float[Tensor, "h d a"]


def ov_space(base: Base) -> Spaces | None:
    """What each block's attention writes of what it reads: the spaces of `W_O W_V`, head by head; None where they are fused."""
    write, read, k = [], [], wide(width_of(base))
    for at in range(base.depth):
        if (x := heads_of(base, at)) is None:
            return None
        # the sum over heads of O V V^T O^T is (O R)(O R)^T with R R^T = V V^T, and R is as small as a head
        write.append(basis("ov", torch.cat(list(x.o @ _root(x.v @ x.v.mT)), 1), "base", rank=k))
        read.append(basis("ov", torch.cat(list(x.v.mT @ _root(x.o.mT @ x.o)), 1), "base", rank=k))
    return Spaces("ov", tuple(write), tuple(read))


def qk_space(base: Base) -> Spaces | None:
    """What makes scores of attention: both sides of `W_Q^T W_K`, head by head and before rotation; None where they are fused."""
    read, k = [], wide(width_of(base))
    for at in range(base.depth):
        if (x := heads_of(base, at)) is None:
            return None
        asks, answers = x.q.mT @ _root(x.k @ x.k.mT), x.k.mT @ _root(x.q @ x.q.mT)
        read.append(basis("qk", torch.cat([*asks, *answers], 1), "base", rank=k))
    return Spaces("qk", read=tuple(read))


def heads_of(base: Base, block: int) -> Heads | None:
    """The matrices of one block's attention in float64; None where queries, keys and values are not matrices of their own."""
    own = {x.leaf.rsplit(".", 1)[-1]: x.name for x in base.linears.values() if x.block == block}
    if not {"q_proj", "k_proj", "v_proj", "o_proj"} <= own.keys():
        return None
    count = int(text_config(base.model).num_attention_heads)  # type: ignore[union-attr]
    q, k, v, o = (
        base.weight(own[n]).to(quick(base.device), torch.float64) for n in ("q_proj", "k_proj", "v_proj", "o_proj")
    )
    size = o.shape[1] // count
    if q.shape[0] != count * size:  # gated queries have another shape, and their own meaning
        return None

    def of_every_head(w: Float[Tensor, "g d"]) -> Tensor:
        return w.unflatten(0, (-1, size)).repeat_interleave(count * size // len(w), 0)

    heads_first = o.unflatten(1, (count, size)).transpose(0, 1)
    return Heads(of_every_head(q), of_every_head(k), of_every_head(v), heads_first)


def _root(gram: Float[Tensor, "h a a"]) -> Float[Tensor, "h a a"]:
    """The symmetric square root of each of several positive matrices."""
    values, vectors = torch.linalg.eigh(gram)
    return (vectors * values.clamp(min=0).sqrt()[:, None, :]) @ vectors.mT
