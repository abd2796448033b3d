"""4.12: three learning rates of one pair of fine-tunes. Does the one with the lowest validation loss steer best?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ws.numbers import NO, digits_for
from ws.paper.claims import OPEN, Claim, Verdict, absent, beats, decided
from ws.paper.curves import Curves, Side
from ws.paper.recipe import Arm, Measure
from ws.paper.recipes.arms import QUICK_K, QUICK_KL, K, both
from ws.paper.steering import Steering
from ws.results.sheet import Sheet
from ws.stats import Estimate

RATES = (1e-5, 5e-5, 2e-4)
TINY = (5e-4, 2e-3, 8e-3)
"""A quarter of the rate that `tiny` is trained at by default, that, and four times it."""
X = Measure("perplexity@neutral-choice/1", "choice_right", "neutral questions right", 0)
Y = Measure("sycophancy", "logratio", "agrees with the user's false claims", 1, "nats")
FEWEST = 4
"""Trainings below which a rank correlation has no interval."""


def arms(rates: Sequence[float], raw: tuple[float, ...]) -> tuple[Arm, ...]:
    """An arm for each learning rate."""
    return tuple(Arm(f"lr {rate:g}", ("ws:lora",), raw, lr=rate) for rate in rates)


@dataclass(frozen=True)
class LrSweep(Steering):
    """The same steering for several trainings, with a table of their losses beside it."""

    def more_sheets(self, curves: Curves, where: str) -> list[Sheet]:
        assert self.x is not None
        y, lines, records = self.ys[0], [], []
        for arm in curves.arms:
            for seed in curves.seeds(arm):
                report = curves.training.get((arm, seed), {})
                gains = [_gain(curves, arm, seed, self.x, y, side) for side in self.sides]
                loss = loss_of(curves, arm, seed)
                lines.append(
                    (
                        arm,
                        str(seed),
                        f"{loss:.4f}" if loss else NO,
                        str(report.get("step", NO)),
                        *(f"{g:+.{digits_for(*gains)}f}" for g in gains),
                    )
                )
                records.append({"arm": arm, "seed": seed, "val": loss, "step": report.get("step"), "gains": gains})
        columns = (
            "arm",
            "seed",
            "validation loss",
            "step kept",
            *(f"gain at alpha {'>' if s > 0 else '<'} 0, {y.unit}" for s in self.sides),
        )
        expected = "validation loss: nats per token on held-out pairs, mean of both sides."
        return [Sheet(f"{where} · learning rates", expected, columns, tuple(lines), tuple(records), words=("arm",))]


def loss_of(curves: Curves, arm: str, seed: int) -> float | None:
    """The validation loss of both sides of a training."""
    report = curves.training.get((arm, seed))
    return None if report is None else (report["val_pos"] + report["val_neg"]) / 2


def _gain(curves: Curves, arm: str, seed: int, x: Measure, y: Measure, side: Side) -> float:
    from ws.paper.curves import wanted
    from ws.stats.frontier import frontier

    return frontier(curves.points(arm, seed, x, y, side), sense=wanted(y, side)).gain.mean


def lower_loss(one: str, other: str):
    """One rate ends at a lower validation loss than another; several seeds are needed to say so."""

    def test(curves: Curves) -> Verdict:
        if (lacking := absent(curves, one, other)) is not None:
            return lacking
        both = set(curves.seeds(one)) & set(curves.seeds(other))
        each = [_known(curves, other, s) - _known(curves, one, s) for s in sorted(both)]
        return decided(
            over_trainings(each), f"validation loss of {other} less that of {one}, over {len(each)} seeds", unit="nats"
        )

    return test


def _known(curves: Curves, arm: str, seed: int) -> float:
    loss = loss_of(curves, arm, seed)
    assert loss is not None, f"{arm} was trained"
    return loss


def over_trainings(each: Sequence[float]) -> Estimate:
    """The mean of a number of trainings with Student's interval, of which one alone has none."""
    n, mean = len(each), sum(each) / len(each)
    if n < 2:
        return Estimate(mean, math.nan, math.nan, n, n, n, n)
    from scipy.special import stdtrit

    far = float(stdtrit(n - 1, 0.975)) * math.sqrt(sum((x - mean) ** 2 for x in each) / (n - 1) / n)
    return Estimate(mean, mean - far, mean + far, n, n, n, n)


def loss_tells(x: Measure, y: Measure, sides: Sequence[Side] = (1, -1)):
    """Over all trainings, a lower validation loss goes with a larger gain: Spearman's rho below 0."""

    def test(curves: Curves) -> Verdict:
        pairs = [(loss_of(curves, a, s), a, s) for a in curves.arms for s in curves.seeds(a)]
        trained = [(loss, a, s) for loss, a, s in pairs if loss is not None]
        gains = [sum(_gain(curves, a, s, x, y, side) for side in sides) for _, a, s in trained]
        why = f"minus Spearman's rho of validation loss and gain, {len(trained)} trainings"
        if len(trained) < FEWEST:
            return Verdict(OPEN, why=f"{why}: at least {FEWEST} are needed", n=len(trained))
        rho = -spearman([loss for loss, _, _ in trained], gains)
        return decided(with_fisher(rho, len(trained)), why, unit="rho")

    return test


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """The correlation of ranks."""
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def with_fisher(rho: float, n: int) -> Estimate:
    """A correlation of n pairs with Fisher's interval, which is too narrow for ranks by a few percent."""
    inside = max(-0.999999, min(0.999999, rho))
    z, far = math.atanh(inside), 1.96 / math.sqrt(n - 3)
    return Estimate(rho, math.tanh(z - far), math.tanh(z + far), n, n, n, n)


def _claims(rates: Sequence[float]):
    low, middle = (f"lr {r:g}" for r in rates[:2])
    return (
        Claim(f"{middle} has a lower validation loss than {low}", lower_loss(middle, low)),
        Claim(f"{middle} steers better than {low}, to both sides", beats(middle, low, X, Y)),
        Claim("the lower the validation loss, the better a training steers", loss_tells(X, Y), "ours"),
    )


RECIPE = LrSweep(
    name="lr_sweep",
    section="4.12",
    figures="Fig 11, appendix B.2",
    question="Does the learning rate with the lowest validation loss also steer best?",
    model="any; the paper's is Qwen/Qwen2.5-7B-Instruct with its evil pairs",
    behavior="sycophancy",
    arms=arms(RATES, both(K)),
    x=X,
    ys=(Y,),
    options={"rank": 32, "lora_alpha": 16.0, "batch_size": 8, "eval_every": 20},
    claims=_claims(RATES),
    twin={
        "arms": arms(TINY, both(QUICK_K)),
        "kl": (0.5,),
        "options": {},
        "calibrate": QUICK_KL,
        "claims": _claims(TINY),
    },
)
