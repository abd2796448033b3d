"""One screen of everything that was measured: a line per run or method, the newest first, a table per model."""

from collections.abc import Sequence

from ws import methods
from ws.numbers import NO, flat, signed, with_interval
from ws.results.overview import Entry
from ws.results.sheet import Sheet
from ws.types import Json

LINES = 20
"""Most lines of a table on the screen."""
WORDS = {
    "intended": "as intended",
    "reversed": "REVERSED",
    "unclear": "unclear",
    "unclaimed": "clear",
    "unknown": "no interval",
    "unscored": "no number",
    "random": "random",
}
EXPECTED = (
    "effect: the change from the lower to the upper alpha with its 95 % interval over units, above 0 where it is the way the "
    "behavior wants. cost: the rise of the loss on neutral text at the worse end, nats per token; near 0 is good."
)


def sheets(entries: Sequence[Entry]) -> list[Sheet]:
    """A table per model."""
    by_model: dict[str, list[Entry]] = {}
    for e in entries:
        by_model.setdefault(e.of.model, []).append(e)
    return [_sheet(model, own) for model, own in by_model.items()]


def _sheet(model: str, entries: Sequence[Entry]) -> Sheet:
    dated = len({e.finished[:4] for e in entries}) > 1
    groups = _with_draws_together(entries)
    lines = [_cells(own, dated=dated) for own in groups[:LINES]]
    older = len(groups) - len(lines)
    readings = [f"{older} older of {len(groups)} are not shown; --json has all."] if older else []
    return Sheet(
        model,
        EXPECTED,
        tuple(lines[0]),
        tuple(tuple(line.values()) for line in lines),
        tuple(record(e) for e in entries),
        tuple(readings),
        spare=4,
        words=("date", "behavior", "method", "verdict", "by", "run"),
        faint=tuple(at for at, own in enumerate(groups[:LINES]) if own[0].line.control),
        marked=tuple(at for at, line in enumerate(lines) if line["verdict"] not in (*WORDS.values(), "slight")),
    )


def _with_draws_together(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Every method alone, but the draws of one random control in one line, at the place of the newest."""
    groups: dict[tuple, list[Entry]] = {}
    for at, e in enumerate(entries):
        kin = (e.behavior, methods.needs(e.of.method).kin, e.metric, e.of.budget) if e.line.control else (at,)
        groups.setdefault(kin, []).append(e)
    return list(groups.values())


def _cells(own: Sequence[Entry], *, dated: bool) -> dict[str, str]:
    """The line of a method, or of several draws of a random one, with their range."""
    e = own[0]
    draws = [x.effect.mean for x in own]
    return {
        "date": e.finished[:10] if dated else e.finished[5:10],
        "behavior": e.behavior or NO,
        "method": e.of.method if len(own) == 1 else f"{methods.needs(e.of.method).kin} x{len(own)}",
        "seed": str(e.of.seed) if len(own) == 1 else NO,
        "effect": with_interval(e.effect) if len(own) == 1 else f"{signed(min(draws))}…{signed(max(draws))}",
        "verdict": word(e) if len(own) == 1 else WORDS["random"],
        "cost": signed(max((x.cost for x in own if x.cost is not None), default=None), 3),
        "alpha": strengths(e) if len(own) == 1 else NO,
        "by": e.of.protocol.eval,
        "run": e.of.run if len(own) == 1 else NO,
    }


def word(e: Entry) -> str:
    """The verdict in a word or two; what makes a number unfit to be set beside others goes first."""
    if e.of.smoke:
        return "SMOKE"
    if e.line.matched is False:
        return "unmatched"
    if e.of.seen:
        return "not held out"
    return "slight" if e.verdict.slight else WORDS[e.verdict.word]


def strengths(e: Entry) -> str:
    """The two strengths, shorter where they are alike."""
    low, high = e.line.neg or 0.0, e.line.pos
    return f"±{high:.3g}" if low == -high else " / ".join(f"{x:+.3g}" if x else "0" for x in (low, high))


def record(e: Entry) -> Json:
    """A line for a program."""
    return {
        "finished": e.finished,
        "model": e.of.model,
        "behavior": e.behavior,
        "method": e.of.method,
        "seed": e.of.seed,
        "run": e.of.run,
        "eval": e.of.protocol.eval,
        "protocol": e.of.protocol.id,
        "metric": e.metric,
        "side": e.side,
        "alpha_neg": e.line.neg,
        "alpha_pos": e.line.pos,
        **flat("effect", e.effect),
        "n": e.effect.n,
        "cost": e.cost,
        "verdict": e.verdict.word,
        "slight": e.verdict.slight,
        "matched": e.line.matched,
        "smoke": e.of.smoke,
        "folder": str(e.of.folder),
    }
