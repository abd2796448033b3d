"""The change of each metric from the lowest to the highest strength: a line per family over its seeds."""

from collections.abc import Sequence

from ws.numbers import NO, alpha_of, between, digits_for, finite, signed
from ws.results.sheet import Sheet
from ws.types import Fields

CALIBRATED = "calibrated"


def sheet(effects: Sequence[Fields]) -> Sheet:
    """The effects of a sweep, by behavior and metric; a family is marked where a seed moves the other way."""
    order = sorted(effects, key=lambda e: (str(e["behavior"]), str(e["metric"]), str(e["model"])))
    several = [k for k in ("model", "lr") if len({e[k] for e in effects}) > 1]
    strengths = {_ends(e) for e in effects}
    each_its_own = len(strengths) > 1
    lines, last = [], None
    for e in order:
        head = (str(e["behavior"]), str(e["metric"]))
        over, each = e["over"]["found"], e["over"]["each"]
        digits = digits_for(*each, over["mean"])
        change = signed(over["mean"], digits)
        agree = f"{e['agree']}/{len(e['seeds'])}"
        lines.append(
            (
                *("" if head == last else h for h in head),
                *(str(e[k]) if k == "model" else "" if e[k] is None else f"{e[k]:g}" for k in several),
                str(e["adapter"]),
                *((_ends(e),) if each_its_own else ()),
                f"{change} {between(over['ci_lo'], over['ci_hi'], digits)}" if finite(over["ci_lo"]) else change,
                f"{e['spread']:.{digits}f}" if finite(e["spread"]) else NO,
                agree if e["sign"] else f"({agree})",
                " ".join(signed(x, digits) for x in each),
            )
        )
        last = head
    words = ("behavior", "metric", *several, "adapter", "by seed")
    return Sheet(
        "" if each_its_own else f"change from alpha {strengths.pop()}",
        "",
        (
            "behavior",
            "metric",
            *several,
            "adapter",
            *(("alpha",) if each_its_own else ()),
            "change",
            "spread",
            "as wanted",
            "by seed",
        ),
        tuple(lines),
        tuple(order),
        words=words,
        marked=tuple(at for at, e in enumerate(order) if e["sign"] and e["agree"] < len(e["seeds"])),
    )


def _ends(e: Fields) -> str:
    """The strengths an effect lies between, where all seeds share them."""
    ends = {tuple(a) for a in e["alphas"]}
    return "{} to {}".format(*map(alpha_of, ends.pop())) if len(ends) == 1 else CALIBRATED
