"""What the dial does: the answer in one sentence, its picture, its table, and what it costs."""

from collections.abc import Mapping, Sequence

from ws.numbers import alpha_of, between, finite, signed, some
from ws.report.meanings import meanings
from ws.report.study import Study
from ws.results import chart
from ws.results.layouts import alphas
from ws.results.page import Html, figure, figures, folded, joined, paragraph, points, section, table, tag
from ws.results.published import sheets
from ws.results.sentences import in_nats, side_of
from ws.results.sentences.alphas import answer as answer_of
from ws.results.sentences.alphas import chance, readings, side_effect
from ws.results.sentences.questions import not_held_out, pairs_left_out
from ws.types import Fields

COST = "perplexity"


def answer(study: Study) -> str:
    """The one sentence that is read first."""
    sentence = answer_of(study.headline, study.intent, study.legend) or _nothing(study)
    return " ".join([*study.smoke, sentence])


def _nothing(study: Study) -> str:
    """Why there is no answer, and what to do for one."""
    if study.direction is None:
        return "Both sides are trained, and their difference has not been taken yet: `ws diff` does it."
    if not study.evaluations:
        return (
            f"Nothing has been measured of this direction yet: `ws eval dilemmas {study.folder.name}` is a beginning."
        )
    return f"What was measured is not claimed by {study.behavior}, as far as is known here: the tables below say how each metric moved."


def part(study: Study) -> Html | None:
    """The picture and the table of what the behavior makes a claim about."""
    pos, neg = study.poles
    poles = paragraph("alpha above 0 is ", tag("b", pos), ", alpha below 0 is ", tag("b", neg), ".")
    if not study.rows:
        return section("What it does", poles)
    groups = alphas.by_metric(study.headline)
    drawn = [_panel(study, group) for group in groups if len(group) > 1]
    sentences = [*readings(study.headline, study.intent, study.legend), *chance(study.headline, study.random)]
    sheet = alphas.sheet(study.headline, study.title)
    return section(
        "What it does",
        poles,
        figures(drawn),
        _legend(study) if drawn else None,
        table(sheet, meanings=meanings(sheet)),
        points([*sentences, *not_held_out(study.dialed), *pairs_left_out(study.dialed)]),
        name="effect",
    )


def _panel(study: Study, group: Sequence[Fields]) -> Html:
    """One metric over alpha: its interval, and behind it what random directions do."""
    metric, first = group[0]["metric"], group[0]
    known = [r for r in group if finite(r["mean"])]
    line = [(r["alpha"], r["mean"]) for r in known]
    ends = [(r["alpha"], r["ci_lo"], r["ci_hi"]) for r in known if finite(r["ci_lo"])]
    random = _random(study, group)
    values = [v for _, v in line] + [v for _, *both in (*ends, *random) for v in both]
    strengths = [r["alpha"] for r in group]
    room = (strengths[-1] - strengths[0]) * 0.06
    x = chart.Axis("alpha", strengths[0] - room, strengths[-1] + room, ticks=_ticks(strengths))
    y = chart.around(_way(study, metric), values, zero=True)
    says = [f"alpha {alpha_of(r['alpha'])}: {signed(r['mean'])} {between(r['ci_lo'], r['ci_hi'])}" for r in known]
    marks = [
        chart.crossing(y=0),
        chart.crossing(x=0),
        *([chart.band(random)] if random else []),
        chart.whiskers(ends),
        chart.line(line),
        chart.dots(line, says),
    ]
    meaning = study.legend.get(metric, metric)
    unit = ", nats" if in_nats(metric) else ""
    caption = joined(tag("b", metric), f": larger means it {meaning}. " if metric in study.legend else ". ")
    counted = f"{some(first['n'], 'unit')}, {first['protocol']}{unit}."
    return figure(chart.plot(metric, "; ".join(says), x, y, marks), joined(caption, counted))


def _ticks(strengths: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """The strengths below a picture: the ends and 0, and of the others those for which there is room."""
    span = strengths[-1] - strengths[0]
    shown: list[float] = []
    for a in sorted(strengths, key=lambda a: a not in (strengths[0], 0.0, strengths[-1])):
        if all(abs(a - b) > 0.13 * span for b in shown):
            shown.append(a)
    return tuple((a, f"{a:+.3g}" if a else "0") for a in sorted(shown))


def _random(study: Study, group: Sequence[Fields]) -> list[tuple[float, float, float]]:
    """(alpha, low, high) of random directions, from the base's number; nothing where none was measured by this."""
    key = ("eval", "protocol", "metric")
    r = next((r for r in study.random if all(r[k] == group[0][k] for k in key)), None)
    base = next((row["mean"] for row in group if row["alpha"] == 0), None)
    if r is None or base is None or not finite(base):
        return []
    ends = sorted([(0.0, [0.0]), *zip(r["alphas"], zip(*r["each"]))])
    return [(a, base + min(changes), base + max(changes)) for a, changes in ends]


def _way(study: Study, metric: str) -> str:
    """Which way is which, where the behavior says so."""
    side = side_of(metric, study.intent)
    pos, neg = study.poles
    up, down = (pos, neg) if side > 0 else (neg, pos)
    both = f"← {down}\N{NO-BREAK SPACE}\N{NO-BREAK SPACE} {up} →"
    return both if side and len(both) < 44 else f"{metric}"


def _legend(study: Study) -> Html:
    keys = [(chart.key(0), "this direction, with its 95 % interval")]
    draws = next((len(r["each"]) for r in study.random), 0)
    if draws:
        keys.append((chart.key(shape="area"), f"range of {some(draws, 'random direction')} of the same norm"))
    return chart.legend(keys)


def costs(study: Study) -> Html | None:
    """What steering costs on questions that have nothing to do with the behavior."""
    rows = [r for r in study.shown if r["eval"] == COST]
    if not rows:
        return None
    sheet = alphas.sheet(rows, "on neutral questions and texts")
    lines = [x for x in (side_effect(study.rows), *_larger(study.legend, rows)) if x]
    return section("Side effects", points(lines), table(sheet, meanings=meanings(sheet)))


def _larger(legend: Mapping[str, str], rows: Sequence[Fields]) -> list[str]:
    names = dict.fromkeys(r["metric"] for r in rows)
    return [f"{m}: larger means it {legend[m]}." for m in names if m in legend]


def tables(study: Study) -> Html | None:
    """Every table, as `ws table` prints it, and every metric at every strength."""
    if not study.evaluations:
        return None
    made, notes = sheets(study.evaluations)
    whole = alphas.sheet(study.rows, "every metric at every strength")
    return section(
        "Every table",
        *(table(s, meanings=meanings(s)) for s in made),
        points(notes),
        folded("Every metric at every strength", table(whole, meanings=meanings(whole))),
        name="tables",
    )
