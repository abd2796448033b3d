"""What it takes to measure many parts of one direction: as rows of one batch, or one evaluation per part; and how often planted ones are found.

    python bench/explain.py [--units 60] [--planted 20] [--model tiny] [--evaluation NAME@PROTOCOL]

Parts are each layer and each kind of matrix alone and left out. `together` is one evaluation whose rows each scale modules of
their own. `one by one` is an evaluation per part at the same strength, its rows kept as any evaluation's are, the unsteered ones
measured once; `as ws eval` the same at the strengths -1 and 1; `each by itself` at -1, 0 and 1, which is `ws eval` of every part where
nothing is kept. Processor time of one thread. Slopes are the three passes of `localization`, for all modules at once.

Planted: an effect in one module, which its module, layer and kind should carry; and one in norms, which noise as large in every module
should keep, and the direction made equally large everywhere should not (measured by what neutral answers lose). Of a scrambled one, or
one of the other kind, none of this should be said.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import ws
from ws.direction import Direction, random_like
from ws.direction.algebra import restricted
from ws.direction.forms import Dense, LowRank
from ws.eval import Evaluation
from ws.eval import evaluation as evaluation_of
from ws.eval.scoring import logprobs, prompts_of
from ws.explain import places
from ws.explain.attribution import random_steps, slopes
from ws.explain.dw_decomp import variants as decomposed
from ws.explain.localization import attribution, passes, seats
from ws.explain.measure import Measure
from ws.explain.protocol import Subject as ExplainSubject
from ws.explain.protocol import Variant
from ws.methods.weights import Weights
from ws.models import Base
from ws.prefix_cache import padded
from ws.study.evaluations import Subject, make_eval

METRIC = "logratio_honesty"
ENOUGH = 1 / 3
"""Of an effect in norms; what one draw of such noise costs lies between .11 and .39, so that the mean of five may be half of another."""
LOUD = 30.0
"""The norm of noise in the first block that costs `tiny` a quarter of a nat per token, and in later ones nothing."""
KINDS = ("self_attn.o_proj", "self_attn.v_proj", "mlp.down_proj")


def main() -> None:
    """Time the ways in turn, then count what is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--units", type=int, default=60)
    parser.add_argument("--planted", type=int, default=20)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--evaluation", default="dilemmas")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    base = ws.load(chosen.model)
    assert isinstance(base, Base)
    if chosen.units:
        name, _, protocol = chosen.evaluation.partition("@")
        timed(base, evaluation_of(name, protocol or None, limit=chosen.units))
    if chosen.planted:
        found(base, chosen.planted)
        in_norms(base, chosen.planted)


# ---------------------------------------------------------------- time


def timed(base: Base, evaluation: Evaluation) -> None:
    """Seconds of processor time of each way, and the ratios."""
    direction = random_like(like(base), 0, base.weight)
    names = list(direction.forms)
    groups = {**places.layers(names), **places.kinds(names)}
    parts = [*places.only(groups), *places.without(groups, names)]

    def measure(folder: Path) -> Measure:
        return Measure(base, direction, evaluation, 1.0, folder, folder, {METRIC: 1})

    def together(folder: Path) -> None:
        measure(folder).rows(parts)

    def alone(folder: Path, alphas: tuple[float, ...], *, apart: bool = False) -> None:
        for v in parts:
            part = restricted(direction, keep=sorted(v.scales or {}))
            out = folder / v.name if apart else folder
            make_eval(Subject(base, Weights(v.name, part), out, v.name), evaluation, alphas=alphas, out=out)

    ways: dict[str, Callable[[Path], None]] = {
        "together": together,
        "one by one": lambda folder: alone(folder, (1.0,)),
        "as ws eval": lambda folder: alone(folder, (-1.0, 1.0)),
        "each by itself": lambda folder: alone(folder, (-1.0, 1.0), apart=True),
        "slopes": lambda folder: [None for _ in passes(measure(folder))] and None,
    }
    took = {name: seconds(way) for name, way in ways.items()}
    print(f"{len(parts)} parts of {len(names)} modules, {evaluation.limit} units of {evaluation.name} on {base.id}")
    for name, s in took.items():
        print(f"  {name:<14} {s:8.1f} s   together is {took['together'] / s:5.2f} of it")


def seconds(way: Callable[[Path], None]) -> float:
    """Processor time in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        way(Path(folder))
        return time.process_time() - start


def like(base: Base, rank: int = 8, size: float = 0.5) -> Direction:
    """A random low-rank change of every matrix in the middle half of the layers."""
    g = torch.Generator().manual_seed(0)
    forms = {}
    for name, x in base.linears.items():
        if base.depth // 4 <= x.block < base.depth - base.depth // 4:
            o, i = base.weight(name).shape
            b, a = torch.randn(o, rank, generator=g), torch.randn(rank, i, generator=g)
            forms[name] = (LowRank(size * b / b.norm(), a / a.norm()),)
    return Direction(forms, {"base": base.described()})


# ---------------------------------------------------------------- planted


def found(base: Base, draws: int) -> None:
    """In how many draws each way names the one module that a behavior was put into, and how often a scrambled one is named."""
    modules = [f"model.layers.{n}.{kind}" for n in (2, 3) for kind in KINDS]
    evaluation = Evaluation("dilemmas", limit=6)
    gradient = gradients(base, evaluation, modules)
    hits = dict.fromkeys(("alone", "left out", "layer and kind alone", "layer and kind left out", "slopes"), 0)
    hits |= dict.fromkeys(("scrambled, slopes", "scrambled, alone"), 0)
    for seed in range(draws):
        where = modules[seed % len(modules)]
        direction = planted(base, gradient, where, seed)
        with tempfile.TemporaryDirectory() as folder:
            m = Measure(base, direction, evaluation, 1.0, Path(folder), Path(folder), {METRIC: 1})
            single = {n: frozenset([n]) for n in modules}
            around = [
                [n for n, ms in g.items() if where in ms] for g in (places.layers(modules), places.kinds(modules))
            ]
            for how, word in (("only", "alone"), ("without", "left out")):
                hits[word] += best(m, single, how) == where
                groups = (places.layers(modules), places.kinds(modules))
                hits[f"layer and kind {word}"] += [[best(m, g, how)] for g in groups] == around
            hits["slopes"] += by_slopes(m, seed) == [where]
            moved = m([])[0].delta.mean
        mixed = random_like(direction, seed, base.weight)
        with tempfile.TemporaryDirectory() as folder:
            other = Measure(base, mixed, evaluation, 1.0, Path(folder), Path(folder), {METRIC: 1})
            hits["scrambled, slopes"] += where in by_slopes(other, seed)
            own = {e.variant: e.delta.mean for e in other(places.only(single))}
            hits["scrambled, alone"] += abs(own[f"only:{where}"]) > 0.5 * abs(moved)
    show(hits, draws)


def show(hits: dict[str, int], draws: int) -> None:
    """How often each was seen."""
    for name, n in hits.items():
        print(f"  {name:<32} {n} of {draws}")


def in_norms(base: Base, draws: int) -> None:
    """How often `dw_decomp` tells an effect that any noise of its sizes has from one that lies in the direction."""
    loud, quiet = "model.layers.0.self_attn.o_proj", [f"model.layers.{n}.{kind}" for n in (2, 3, 4) for kind in KINDS]
    gradient = gradients(base, Evaluation("dilemmas", limit=6), [loud, *quiet])
    hits = dict.fromkeys(("in norms, said of norms", "in norms, said of direction"), 0)
    hits |= dict.fromkeys(("in direction, said of direction", "in direction, said of norms"), 0)
    for seed in range(draws):
        g = torch.Generator().manual_seed(seed)
        noise = {n: torch.randn(base.weight(n).shape, generator=g) for n in (loud, *quiet)}
        forms = {n: (Dense(w / w.norm() * (LOUD if n == loud else 0.1)),) for n, w in noise.items()}
        # noise has no way in which it moves a choice; what every noise does is to cost the model its answers
        norms = Direction(forms, {"base": base.described()}), Evaluation("perplexity", limit=12)
        along = planted(base, gradient, quiet[seed % len(quiet)], seed), Evaluation("dilemmas", limit=6)
        for where, (direction, evaluation) in {"norms": norms, "direction": along}.items():
            with tempfile.TemporaryDirectory() as folder:
                seen = named(Measure(base, direction, evaluation, 1.0, Path(folder), Path(folder), {METRIC: 1}))
            for word in ("norms", "direction"):
                hits[f"in {where}, said of {word}"] += seen == word
    show(hits, draws)


def named(m: Measure) -> str:
    """Where the effect lies: what noise of its sizes keeps and equal sizes lose, or the other way round; nothing where neither."""
    own = decomposed(ExplainSubject(m.base, m.direction, m))
    effects = {e.variant: e.retained.mean for e in m(own)}
    noise = [r for name, r in effects.items() if name.startswith("mag_only")]
    kept, flat = sum(noise) / len(noise), effects["dir_only"]
    return "norms" if kept > ENOUGH > flat else "direction" if flat > ENOUGH > kept else ""


def best(m: Measure, groups: places.Group, how: str) -> str | None:
    """The group that alone keeps most, or without which most is lost, if that is more than half."""
    modules = list(m.direction.forms)
    parts: list[Variant] = places.only(groups) if how == "only" else places.without(groups, modules)
    kept = {e.variant.partition(":")[2]: e.retained.mean for e in m(parts)[2:]}
    shares = kept if how == "only" else {n: 1 - r for n, r in kept.items()}
    first = max(shares, key=lambda n: shares[n])
    return first if shares[first] > 0.5 else None


def by_slopes(m: Measure, seed: int) -> list[str]:
    """The modules that hold half of the slopes, each beyond what random directions have."""
    taken = slopes(m, 0.0, random_steps(m.direction, m.base.weight, 20, seed=100 * seed))
    return seats(attribution(m, METRIC, [taken, taken, taken]), list(m.direction.forms))


def gradients(base: Base, evaluation: Evaluation, names: list[str]) -> dict[str, torch.Tensor]:
    """Module to the gradient of the sum of y by its weight."""
    items = evaluation.questions(base).items  # type: ignore[attr-defined]
    weights = [base.linears[n].module.weight for n in names]
    for w in weights:
        w.requires_grad_(True)
    prompts = prompts_of(base, items)
    ids, mask, positions = padded(base, [p.ids for p in prompts])
    with torch.enable_grad():
        logp = logprobs(base.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1])
        y = [
            p.item.label * (row[list(p.answers.yes)].logsumexp(-1) - row[list(p.answers.no)].logsumexp(-1))
            for row, p in zip(logp, prompts)
        ]
        grads = torch.autograd.grad(torch.stack(y).sum(), weights)  # type: ignore[arg-type]
    for w in weights:
        w.requires_grad_(False)
    return dict(zip(names, grads))


def planted(base: Base, gradient: dict[str, torch.Tensor], where: str, seed: int, size: float = 0.5) -> Direction:
    """As large in every module, and along the gradient in one of them alone."""
    g = torch.Generator().manual_seed(seed)
    forms = {}
    for name in gradient:
        u, v = (torch.randn(n, generator=g) for n in base.weight(name).shape)
        forms[name] = (LowRank((size * u / u.norm())[:, None], (v / v.norm())[None]),)
    u, _, vh = torch.linalg.svd(gradient[where].double(), full_matrices=False)
    forms[where] = (LowRank((size * u[:, :1]).float(), vh[:1].float()),)
    return Direction(forms, {"base": base.described()})


if __name__ == "__main__":
    main()
