"""Sentences on what the studies of a sweep show together."""

from collections.abc import Sequence

from ws.numbers import bounds, some
from ws.results.effects import Effect
from ws.results.sentences import ONE_SEED, few_units, in_nats, tally, verdict
from ws.stats import FEW_UNITS

FEW_SEEDS = 5


def readings(effects: Sequence[Effect], *, budget: float | None, unmatched: Sequence[str]) -> list[str]:
    """The sentences below the table; `unmatched` are the studies that missed the budget."""
    lines = []
    for name, seeds in {f"{e.behavior} {e.adapter}": e.repeats for e in effects if e.repeats}.items():
        listed = ", ".join(map(str, seeds))
        lines.append(f"Some seeds of {name} gave every number of another seed again, and count once: {listed}.")
    lines += _over_seeds(effects) if max(len(e.seeds) for e in effects) > 1 else [f"{ONE_SEED} Give more `seeds`."]
    if len({e.adapter for e in effects}) > 1:
        if budget is None:
            lines.append(
                "alpha 1 is another strength in every family: give a `budget` to compare families at equal KL."
            )
        elif unmatched:
            lines.append(f"Not of equal strength, so not to be ranked: {'; '.join(unmatched)}.")
        else:
            lines.append(f"All studies are calibrated to {budget:g} nat, on both sides.")
    return lines


def _over_seeds(effects: Sequence[Effect]) -> list[str]:
    """The rows that move as claimed, counted by every seed and by interval; then what the intervals are over."""
    lines = []
    if claimed := [e for e in effects if e.sign]:
        whole = [e for e in claimed if e.agree == len(e.seeds)]
        doubt = "" if len(whole) == len(claimed) else ". Do not rely on the others, whatever their interval"
        lines.append(
            f"Seeds: in {len(whole)} of {some(len(claimed), 'row')} with a claim every seed moves as the behavior wants{doubt}."
        )
        words = [verdict(*bounds(e.over.found), e.sign, nat=in_nats(e.metric)).word for e in claimed]
        lines.append(f"Intervals: of {some(len(claimed), 'row')} with a claim {tally(words)}.")
    if few := [e for e in effects if e.over.found.fewest < FEW_UNITS]:
        least = min(few, key=lambda e: e.over.found.fewest)
        lines.append(few_units(least.over.found.fewest, f"of {least.metric}", of=least.over.found.n))
    seeds = min(len(e.seeds) for e in effects)
    wide = f" {some(seeds, 'seed')} are few, so the intervals are wide." if seeds < FEW_SEEDS else ""
    lines.append(f"Intervals are over seeds and items: they hold for a new training and new questions.{wide}")
    return lines
