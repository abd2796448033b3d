"""Equal strength for any method: the alphas at which it moves the model by a given number of nats, one per sign.

    found = ws.calibrate(base, direction, budget=1.0)
    found.alpha_pos, found.alpha_neg, found.matched

The measure is the 95th percentile over tokens of KL(steered || base). Knows no method by name. A strength is called
matched only if the search ended `ok` and other prompts show that it is: the interval of their measure, and not only its
middle, lies within a factor of 1.25 of the budget.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from ws.behaviors import Behavior
from ws.calibrate.kl import Divergence as Divergence
from ws.calibrate.kl import divergences as divergences
from ws.calibrate.kl import thinking_of
from ws.calibrate.prompts import PromptSets as PromptSets
from ws.calibrate.prompts import how_many as how_many
from ws.calibrate.prompts import prompt_sets, refuse_overlap, training_prompts
from ws.calibrate.search import Ending, around, bracket, first_guess, searching, solve
from ws.direction import Direction
from ws.methods import Method, as_method
from ws.models.load import Base
from ws.prefix_cache import Beginnings
from ws.settings import above, at_least, refuse_outside
from ws.types import Json

PROTOCOL = "kl-p95/2"
AUDIT_LEVEL = 0.9  # of the interval that has to lie within the factor: two one-sided tests, each wrong in one of twenty
MOST_WITHIN = 100.0
LARGEST_BUDGET = 1000.0  # nats; a token of one in 10^434
LADDER = tuple(4.0**k for k in range(-2, 6))
BOUNDED_LADDER = tuple(2.0**-k for k in range(7, -1, -1))
HANDFUL = 6  # prompts at most that strengths far apart are tried on
QUARTER = 10  # prompts: a quarter of fewer says too little to be worth its time
ROUGH_ROUNDS = 2  # of three strengths a sign: the second where the first three lie all above or all below the target
SIGNS = {"pos": 1.0, "neg": -1.0}


@dataclass(frozen=True)
class CalibrateSettings:
    """Settings of the search for a strength."""

    budget: float = 1.0
    """Nats: the 95th percentile over tokens of KL(steered || base)."""
    tolerance: float = 0.05
    """How far from the budget is still on it, as a share of it."""
    n_calib: int | None = None
    """Prompts a strength is found on; all there are when not given (50; 240 for tiny, which is cheap)."""
    n_audit: int | None = None
    """Other prompts it is checked on; all there are when not given (100; 480 for tiny)."""
    tokens: int = 50
    """Longest answer."""
    max_evals: int = 12
    """Strengths tried per sign before giving up."""
    thoughts: str = "auto"
    """auto opens a thought where the model can think; or off, on, forced."""
    within: float = 1.25
    """The factor of the budget within which the other prompts must agree."""
    audit: str = "interval"
    """What must lie within it: interval, the 90 % interval of the other prompts' KL; or point, that KL alone, as published."""

    def __post_init__(self):
        refuse_outside(
            self,
            budget=above(0, LARGEST_BUDGET),
            tolerance=above(0, 1),
            within=above(1, MOST_WITHIN),
            **dict.fromkeys(("n_calib", "n_audit", "tokens", "max_evals"), at_least(1)),
        )
        if self.audit not in ("interval", "point"):
            raise ValueError(f"`audit` is interval or point; got {self.audit!r}")
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
    """The measure on the audit prompts, and below its 90 % interval."""
    audit_lo: float
    audit_hi: float
    passed: bool
    """Whether the audit agrees with the target."""
    evaluations: int
    """Strengths measured on all prompts, and one for those on a few, which cost about as much as that."""
    ladder: tuple[tuple[float, float], ...]
    """(alpha, p95) of a few prompts, to know where to begin."""
    history: tuple[tuple[float, float], ...]
    """(alpha, p95) in the order of evaluation."""
    within: float = 1.25
    """The factor within which the audit has to agree."""

    @property
    def undecided(self) -> bool:
        """True where the audit's middle agrees and its interval is too wide to show it."""
        return not self.passed and self.target / self.within <= self.audit <= self.target * self.within

    @property
    def matched(self) -> bool:
        """True where this strength may stand in a table of equal strengths."""
        return self.status == "ok" and self.passed

    @property
    def verdict(self) -> str:
        """matched, or unmatched and why."""
        if self.matched:
            return "matched"
        audit = "few prompts" if self.undecided else "audit"
        return f"unmatched ({audit if self.status == 'ok' else self.status})"


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

    # 1. a few prompts: where to begin
    rough = _rough(base, method, sets, settings, goals)
    # 2. both signs at once, one strength each per round
    ways = {}
    for sign, points in rough.items():
        probe, slope = first_guess(points, goals[sign])
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
        s: _side(settings, sets, sign, goals[sign], ends[sign], rough[sign], measured[alpha], audit)
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


Points = list[tuple[float, float]]


def _rough(
    base: Base, method: Method, sets: PromptSets, settings: CalibrateSettings, goals: Mapping[float, float]
) -> dict[float, Points]:
    """(strength, p95) of each sign on few prompts: first far apart on a handful, then three near the target on a quarter of all.

    Three side by side cost little more than one, since so few rows wait for the weights, and they tell the slope.
    """
    if not method.graded:
        return {sign: [] for sign in SIGNS.values()}

    def measure(prompts: Sequence[str], alphas: Sequence[float], tokens: int) -> list[Divergence]:
        return divergences(base, method, prompts, alphas, tokens=tokens, thinking=settings.thoughts)

    rungs = LADDER if method.bound is None else tuple(method.bound * c for c in BOUNDED_LADDER)
    few = sets.calib[: min(HANDFUL, max(1, len(sets.calib) // (2 * len(rungs))))]
    ladder = measure(few, [sign * c for sign in SIGNS.values() for c in rungs], max(1, settings.tokens // 2))
    points = {sign: [(abs(d.alpha), d.p95) for d in ladder if d.alpha * sign > 0] for sign in SIGNS.values()}
    if len(quarter := sets.calib[: len(sets.calib) // 4]) < QUARTER:
        return points
    near: dict[float, Points] = {sign: [] for sign in points}
    for _ in range(ROUGH_ROUNDS):
        asked = [
            sign * c
            for sign, known in near.items()
            if None in bracket(known, goals[sign])
            for c in around(first_guess(known or points[sign], goals[sign])[0], method.bound)
            if c not in dict(known)
        ]
        for d in measure(quarter, asked, settings.tokens) if asked else ():
            near[math.copysign(1.0, d.alpha)].append((abs(d.alpha), d.p95))
    return near


def _side(
    settings: CalibrateSettings,
    sets: PromptSets,
    sign: float,
    target: float,
    end: Ending,
    rough: Points,
    at: Divergence,
    audit: Divergence,
) -> Side:
    lo, hi = at.interval(sets.calib_kinds)
    audit_lo, audit_hi = audit.interval(sets.audit_kinds, level=AUDIT_LEVEL)
    smallest, largest = (audit_lo, audit_hi) if settings.audit == "interval" else (audit.p95, audit.p95)
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
        passed=target / settings.within <= smallest and largest <= target * settings.within,
        evaluations=len(end.trials) + bool(rough),
        ladder=tuple((sign * c, stat) for c, stat in rough),
        history=tuple((sign * c, stat) for c, stat in end.trials),
        within=settings.within,
    )
