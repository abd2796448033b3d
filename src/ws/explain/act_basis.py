"""`act_basis`: in which directions does the change write most, given what activations come in?

    C = w (sum x x^T) w^T,    x = inputs of a matrix on prompts of the study, every token, the base unsteered

summed over the writers of a block; the eigenvectors that hold 25 and 50 % of C are kept, dropped, and compared with random ones. C is
never built: `w x` is read through the factors of w while the model runs.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor

from ws.batches import Room, in_batches
from ws.direction import Direction
from ws.direction.algebra import spectrum
from ws.direction.forms import BiasShift, Stacked
from ws.errors import Unsupported
from ws.explain import kept
from ws.explain.bases.basis import Basis, basis
from ws.explain.bases.spaces import writers_of
from ws.explain.in_spaces import COLUMNS, in_percent
from ws.explain.prompts import held_texts
from ws.explain.protocol import Analysis, Bars, Finding, Subject, Table
from ws.methods.activation.states import Text
from ws.models.base import Base
from ws.numbers import some

SHARES = (0.25, 0.5)


def seen(base: Base, direction: Direction, texts: Sequence[Text]) -> dict[int, Basis]:
    """The eigenvectors of C, block by block, the largest first; `values` are roots of eigenvalues."""
    refuse_experts(direction)
    own = {}
    columns: dict[int, list[Tensor]] = {}
    tokens = sum(len(ids) for ids, _ in texts)
    for x in writers_of(base):
        forms = direction.forms.get(x.name, ())
        matrix = tuple(f for f in forms if not isinstance(f, BiasShift))
        if matrix:
            left, _, right = spectrum(x.name, matrix, base.weight if direction.reads_base else None)
            own[x.name] = (x.block, left, right)
        if len(matrix) < len(forms) and (shift := direction.bias(x.name)) is not None:  # written at every token
            columns.setdefault(x.block, []).append(shift.cpu().double()[:, None] * tokens**0.5)
    inputs = seconds(base, {n: right for n, (_, _, right) in own.items()}, texts)
    for name, (block, left, _) in own.items():
        values, vectors = torch.linalg.eigh(inputs[name])
        columns.setdefault(block, []).append(left @ vectors * values.clamp(min=0).sqrt())
    return {block: basis("seen", torch.cat(some, 1), "same_direction") for block, some in columns.items()}


def refuse_experts(direction: Direction) -> None:
    """Refuse routed experts: what they read on the way out never leaves the kernel that multiplies by all of them."""
    if of := [n for n, forms in direction.forms.items() if any(isinstance(f, Stacked) for f in forms)]:
        raise Unsupported(
            f"{of[0]} is a matrix of every expert, and what those read inside of their kernel cannot be seen; ask `func_proj` instead."
        )


def seconds(
    base: Base, readers: dict[str, Float[Tensor, "q i"]], texts: Sequence[Text]
) -> dict[str, Float[Tensor, "q q"]]:
    """The sum over all tokens of (r x)(r x)^T, x the inputs of a module and r the rows given for it; padding is left out."""
    totals = {n: torch.zeros(len(r), len(r), dtype=torch.float64) for n, r in readers.items()}
    placed = {n: r.to(base.device, torch.float32) for n, r in readers.items()}
    pad = base.tokenizer.pad_token_id or 0

    @torch.inference_mode()
    def run(part: Sequence[Text]) -> list[None]:
        longest = max(len(ids) for ids, _ in part)
        ids = torch.tensor([[pad] * (longest - len(t)) + list(t) for t, _ in part], device=base.device)
        mask = torch.tensor([[0] * (longest - len(t)) + [1] * len(t) for t, _ in part], device=base.device)

        def add(name: str, x: Tensor) -> None:
            x = x.reshape(*mask.shape, -1)  # a shared expert reads the tokens of all rows one after another
            rows = x[mask.bool().to(x.device)].float() @ placed[name].to(x.device).mT
            totals[name] += (rows.mT @ rows).double().cpu()

        with ExitStack() as hooks:
            for name in readers:
                module = base.model.get_submodule(name)
                hooks.callback(module.register_forward_pre_hook(lambda m, a, n=name: add(n, a[0])).remove)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            base.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1)
        return [None] * len(part)

    room = Room(base.model)
    in_batches(texts, run, size=lambda t: room.fits(len(t[0])), length=lambda t: len(t[0]), label="reading activations")
    return totals


def holding(found: Basis, share: float) -> Basis:
    """The fewest dimensions that hold a share of what its values are the roots of."""
    assert found.values is not None
    squares = found.values.double().square()
    reached = squares.cumsum(0) / squares.sum()
    return found.cut(int(torch.searchsorted(reached, share * (1 - 1e-12))) + 1)


def between_ranks(ranks: Sequence[int]) -> str:
    """Numbers of dimensions in words."""
    return some(ranks[0], "dimension") if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]} dimensions"


def run(subject: Subject) -> Finding:
    """The energy and, where it is measured, the effect of what the change writes most on real inputs."""
    base = subject.base
    writers = kept.writers_alone(subject)
    whole = seen(base, writers, held_texts(subject, whole=True))
    spaces: dict[str, dict[int, Basis]] = {}
    for share in reversed(SHARES):  # where fewer hold no less, the larger share stands for both
        cut = {b: holding(s, share) for b, s in whole.items()}
        if not any({b: s.rank for b, s in cut.items()} == {b: s.rank for b, s in o.items()} for o in spaces.values()):
            spaces[f"act{100 * share:.0f}"] = cut
    spaces = dict(reversed(spaces.items()))
    energies = [kept.energy(writers, base, s, label, seed=subject.seed) for label, s in spaces.items()]
    last = list(spaces)[-1]
    ranks = sorted({b.rank for b in spaces[last].values()})
    readings = [
        f"Half of what the change writes on these prompts lies in {between_ranks(ranks)} per block, with "
        f"{in_percent(energies[-1].energy)} of its own squared norm. The space was made from the change itself.",
    ]
    tables = [Table("energy of what is written in the space that inputs make it write in", energies, COLUMNS)]
    if subject.measure is not None:
        rows, effects = kept.measured_parts(subject, writers, spaces, controlled=spaces)
        tables += kept.tables_of(rows, effects, "that space")
        readings += kept.readings_of(rows, effects, last, "the space with half of what is written on these prompts")
    picture = Bars(
        "dimensions that hold half of what is written",
        "dimensions",
        [f"layer {b}" for b in sorted(spaces[last])],
        [float(spaces[last][b].rank) for b in sorted(spaces[last])],
    )
    return Finding(tuple(tables), (picture,), tuple(readings))


ACT_BASIS = Analysis(
    "act_basis",
    "In which directions does the change write most, given what activations come in?",
    "The basis is made from the change itself (circular): that it keeps the effect is nearly by construction. What counts is what "
    "dropping it leaves, beside random spaces of the same rank.",
    run,
    material=True,
)
