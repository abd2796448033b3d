"""The searches for a strength of a given KL: what was tried, what was found, and whether other prompts agree."""

from collections.abc import Mapping

from ws.calibrate import Calibration, Side, how_many
from ws.numbers import alpha_of, nats
from ws.report.meanings import meanings
from ws.report.study import Study
from ws.results import chart
from ws.results.layouts import strengths
from ws.results.page import Html, figure, figures, joined, points, section, table, tag
from ws.results.sentences.calibration import reading

SIDES = (("neg", "alpha below 0", 1), ("pos", "alpha above 0", 0))


def part(study: Study) -> Html | None:
    """Every search for this direction's strengths, the newest first."""
    if not study.searches:
        return None
    sheet = strengths.sheet([s.as_json() for s in study.searches], "strengths of equal KL")
    newest = study.searches[::-1]
    return section(
        "Strengths",
        *(_search(s, how_many(study.tiny)) for s in newest),
        table(sheet, meanings=meanings(sheet)),
        name="strengths",
    )


def _search(search: Calibration, there: Mapping[str, int]) -> Html:
    drawn = [_history(getattr(search, side), name, color, search) for side, name, color in SIDES]
    lines = [reading(side, search.settings, there) for side in (search.neg, search.pos)]
    head = f"Search for {search.settings.budget:g} nat"
    return joined(tag("h3", head), points(lines), figures([d for d in drawn if d is not None]))


def _history(side: Side, name: str, color: int, search: Calibration) -> Html | None:
    """The strengths that were tried at one sign, in their order."""
    tried = [(abs(a), kl) for a, kl in side.history if kl > 0]
    if not tried:
        return None
    rough = sorted((abs(a), kl) for a, kl in side.ladder if kl > 0)
    low, high = (side.target * (1 + k * search.settings.tolerance) for k in (-1, 1))
    x = chart.around("|alpha|", [a for a, _ in (*tried, *rough)], log=True)
    y = chart.around("p95 KL, nats", [*(kl for _, kl in (*tried, *rough)), low, high], log=True)
    names = [
        f"try {n}: alpha {alpha_of(round(a, 4))}, {nats(kl)} nat" for n, (a, kl) in enumerate(side.history, 1) if kl > 0
    ]
    marks = [
        chart.band([(x.low, low, high), (x.high, low, high)], "target"),
        chart.line(rough, faint=True),
        chart.dots(rough, ["on few prompts"] * len(rough), faint=True, size=2),
        chart.line(tried, color, dashed=True),
        chart.dots(tried, names, color),
        chart.labels([(a, kl, str(n)) for n, (a, kl) in enumerate(tried, 1)]),
    ]
    caption = (
        f"{name}: strengths in the order they were tried. The bar is {side.target:.3g} nat, give or take "
        f"{search.settings.tolerance:.0%}; grey points are of few prompts."
    )
    return figure(chart.plot(name, "; ".join(names), x, y, marks), caption)
