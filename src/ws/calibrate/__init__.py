"""Equal strength for any method: the alphas at which it moves the model by a given number of nats, one per sign.

    found = ws.calibrate(base, direction, budget=1.0)
    found.alpha_pos, found.alpha_neg, found.matched

The measure is the 95th percentile over tokens of KL(steered || base). Knows no method by name. A strength is called
matched only if the search ended `ok` and other prompts agree within a factor of 1.5.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from ws.behaviors import Behavior
from ws.calibrate.kl import Divergence as Divergence
from ws.calibrate.kl import divergences as divergences
from ws.calibrate.kl import thinking_of
from ws.calibrate.prompts import PromptSets as PromptSets
from ws.calibrate.prompts import prompt_sets, refuse_overlap, training_prompts
from ws.calibrate.search import Ending, first_guess, searching, solve
from ws.direction import Direction
from ws.methods import Method, as_method
from ws.models.load import Base
from ws.prefix_cache import Beginnings
from ws.types import Json

PROTOCOL = "kl-p95/1"
GATE = 1.5
LADDER = tuple(4.0**k for k in range(-2, 6))
BOUNDED_LADDER = tuple(2.0**-k for k in range(7, -1, -1))
SIGNS = {"pos": 1.0, "neg": -1.0}


@dataclass(frozen=True)
class CalibrateSettings:
    """Settings of the search for a strength."""

    budget: float = 1.0
    """Nats: the 95th percentile over tokens of KL(steered || base)."""
    tolerance: float = 0.05
    """How far from the budget is still on it, as a share of it."""
    n_calib: int = 50
    """Prompts a strength is found on."""
    n_audit: int = 100
    """Other prompts it is checked on."""
    tokens: int = 50
    """Longest answer."""
    max_evals: int = 12
    """Strengths tried per sign before giving up."""
    thoughts: str = "auto"
    """auto opens a thought where the model can think; or off, on, forced."""

    def __post_init__(self):
        for name in ("budget", "tolerance"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        for name in ("n_calib", "n_audit", "tokens", "max_evals"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.thoughts not in ("auto", "off", "on", "forced"):
            raise ValueError(f"thoughts is auto, off, on or forced; got {self.thoughts!r}")


@dataclass(frozen=True)
class Side:
    """The result for one sign."""

    alpha: float
    target: float
    status: str
    """ok, inert, no_bracket, jump, max_iter or nan."""
    p95: float
    """The measure at `alpha` on the calibration prompts, and below its interval over prompts."""
    ci_lo: float
    ci_hi: float
    mean: float
    p50: float
    p99: float
    largest: float
    audit: float
    """The same on the audit prompts."""
    audit_lo: float
    audit_hi: float
    passed: bool
    """Whether the audit lies within a factor of 1.5 of the target."""
    evaluations: int
    """Strengths measured on all prompts, and one for the ladder, which costs about a quarter of that."""
    ladder: tuple[tuple[float, float], ...]
    """(alpha, p95) of a few prompts at strengths far refuse_overlap, to know where to begin."""
    history: tuple[tuple[float, float], ...]
    """(alpha, p95) in the order of evaluation."""

    @property
    def matched(self) -> bool:
        """True where this strength may stand in a table of equal strengths."""
        return self.status == "ok" and self.passed

    @property
    def verdict(self) -> str:
        """matched, or unmatched and why."""
        if self.matched:
            return "matched"
        return f"unmatched ({'audit' if self.status == 'ok' else self.status})"


@dataclass(frozen=True)
class Calibration:
    """The strengths of one method, one per sign."""

    method: str
    pos: Side
    neg: Side
    settings: CalibrateSettings
    protocol: str = PROTOCOL
    thinking: str = "off"

    def __repr__(self) -> str:
        sides = ", ".join(f"{side.alpha:+.4g} ({side.p95:.3g} nat, {side.verdict})" for side in (self.neg, self.pos))
        return f"Calibration of {self.method} to {self.settings.budget:g} nat: {sides}"

    @property
    def alpha_pos(self) -> float:
        """The strength toward pos."""
        return self.pos.alpha

    @property
    def alpha_neg(self) -> float:
        """The strength toward neg, a negative number."""
        return self.neg.alpha

    @property
    def matched(self) -> bool:
        """True where both strengths are matched."""
        return self.pos.matched and self.neg.matched

    def as_json(self) -> Json:
        """The whole calibration as JSON, as `from_json` reads it."""
        sides = {s: {**asdict(getattr(self, s)), "verdict": getattr(self, s).verdict} for s in SIGNS}
        return {
            "method": self.method,
            "protocol": self.protocol,
            "thinking": self.thinking,
            "matched": self.matched,
            "alpha_pos": self.alpha_pos,
            "alpha_neg": self.alpha_neg,
            "settings": asdict(self.settings),
            **sides,
        }

    @classmethod
    def from_json(cls, record: Json) -> "Calibration":
        sides = {}
        for s in SIGNS:
            values: Json = {k: math.nan if v is None else v for k, v in record[s].items() if k != "verdict"}
            for key in ("ladder", "history"):
                values[key] = tuple((a, math.nan if p is None else p) for a, p in values[key])
            sides[s] = Side(**values)
        settings = CalibrateSettings(**record["settings"])
        return cls(record["method"], sides["pos"], sides["neg"], settings, record["protocol"], record["thinking"])


def calibrate(
    base: Base,
    method: Method | Direction,
    *,
    budget: float | None = None,
    settings: CalibrateSettings | None = None,
    behavior: Behavior | None = None,
    targets: tuple[float, float] | None = None,
    prompts: PromptSets | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Find the strength of each sign at which a method moves the model by `budget` nats.

    `targets` (pos, neg) takes the place of the budget where the signs are to match something of their own, such as a
    prompt (`prompt_targets`). With a behavior, its training questions are kept out of the prompts.
    """
    settings = settings or (CalibrateSettings() if budget is None else CalibrateSettings(budget=budget))
    if budget is not None and budget != settings.budget:
        raise ValueError(f"budget is {budget} and settings say {settings.budget}; give one of them")
    method = as_method(method)
    sets = prompts or sets_of(base, settings, behavior)
    refuse_overlap(sets, method.provenance)
    goals = dict(zip(SIGNS.values(), targets or (settings.budget, settings.budget)))
    measured: dict[float, Divergence] = {}
    beginnings = Beginnings()

    def evaluate(alphas: Sequence[float]) -> list[float]:
        results = divergences(
            base, method, sets.calib, alphas, tokens=settings.tokens, thinking=settings.thoughts, beginnings=beginnings
        )
        measured.update(zip(alphas, results))
        progress(", ".join(f"alpha {d.alpha:+.4g}: {d.p95:.4g} nat" for d in results))
        return [d.p95 for d in results]

    # 1. a few prompts at strengths far refuse_overlap: where to begin
    ladders = _ladders(base, method, sets, settings)
    # 2. both signs at once, one strength each per round
    ways = {}
    for sign, ladder in ladders.items():
        probe, slope = first_guess(ladder, goals[sign])
        ways[sign] = searching(
            goals[sign],
            tolerance=settings.tolerance,
            bound=method.bound,
            graded=method.graded,
            probe=probe,
            slope=slope,
            max_evals=settings.max_evals,
        )
    ends = solve(evaluate, ways)
    # 3. the same strengths on other prompts
    alphas = [sign * ends[sign].c for sign in SIGNS.values()]
    audits = divergences(base, method, sets.audit, alphas, tokens=settings.tokens, thinking=settings.thoughts)
    sides = {
        s: _side(sign, goals[sign], ends[sign], ladders[sign], measured[alpha], audit)
        for (s, sign), alpha, audit in zip(SIGNS.items(), alphas, audits)
    }
    return Calibration(method.name, sides["pos"], sides["neg"], settings, thinking=thinking_of(base, settings.thoughts))


def prompt_targets(
    base: Base, prompt: Method, settings: CalibrateSettings, *, behavior: Behavior | None = None
) -> tuple[float, float]:
    """The KL of a prompt at its two poles, as budgets for other methods to match."""
    sets = sets_of(base, settings, behavior)
    pos, neg = divergences(
        base, prompt, sets.calib, list(SIGNS.values()), tokens=settings.tokens, thinking=settings.thoughts
    )
    return pos.p95, neg.p95


def sets_of(base: Base, settings: CalibrateSettings, behavior: Behavior | None) -> PromptSets:
    """The prompts that these settings ask for; refused if one of them is a training question of the behavior."""
    return prompt_sets(base.tiny, settings.n_calib, settings.n_audit, trained_on=training_prompts(behavior))


def _ladders(
    base: Base, method: Method, sets: PromptSets, settings: CalibrateSettings
) -> dict[float, list[tuple[float, float]]]:
    """(strength, p95) of each sign at strengths far refuse_overlap, on so few prompts that it costs a quarter of one strength on all."""
    if not method.graded:
        return {sign: [] for sign in SIGNS.values()}
    rungs = LADDER if method.bound is None else tuple(method.bound * c for c in BOUNDED_LADDER)
    few = sets.calib[: max(1, len(sets.calib) // (2 * len(rungs)))]
    alphas = [sign * c for sign in SIGNS.values() for c in rungs]
    tokens = max(1, settings.tokens // 2)
    results = divergences(base, method, few, alphas, tokens=tokens, thinking=settings.thoughts)
    return {sign: [(abs(d.alpha), d.p95) for d in results if d.alpha * sign > 0] for sign in SIGNS.values()}


def _side(
    sign: float,
    target: float,
    end: Ending,
    ladder: Sequence[tuple[float, float]],
    at: Divergence,
    audit: Divergence,
) -> Side:
    lo, hi = at.interval() if not math.isnan(at.p95) else (math.nan, math.nan)
    audit_lo, audit_hi = audit.interval() if not math.isnan(audit.p95) else (math.nan, math.nan)
    return Side(
        alpha=sign * end.c,
        target=target,
        status=end.status,
        p95=end.stat,
        ci_lo=lo,
        ci_hi=hi,
        mean=at.mean,
        p50=at.p50,
        p99=at.p99,
        largest=at.largest,
        audit=audit.p95,
        audit_lo=audit_lo,
        audit_hi=audit_hi,
        passed=target / GATE <= audit.p95 <= target * GATE,
        evaluations=len(end.trials) + bool(ladder),
        ladder=tuple((sign * c, stat) for c, stat in ladder),
        history=tuple((sign * c, stat) for c, stat in end.trials),
    )
