"""What the checks of some pairs mean in words: whether a direction can be learnt from them, and what to change."""

from collections.abc import Mapping, Sequence

from ws.pairs.checks import MENDS, auc_interval, in_words
from ws.pairs.pair import Check, Grade, Pair, Pairs

FEW_PAIRS = 100
"""Fewer pairs than these teach little; docs/behaviors.md has the measurement."""
TELLING = {
    "separable": "the words tell the two sides apart",
    "consistent": "to one question, each side keeps to an answer of its own",
}
"""Checks of which one must be ok, and what it then says."""
FEWER = ("empty", "identical", "duplicate", "distinct")
"""Checks that say why there are fewer pairs, which matters only where there are too few."""


def outlook(checks: Sequence[Check], rows: Sequence[Pair] = ()) -> tuple[Grade, str]:
    """Whether a direction can be learnt from such answers: yes (ok), doubtful (warn) or no (fail), and why.

    With `rows`, which may be few, a number counts for a yes only if its interval over questions does.
    """
    ends = {c.name: auc_interval(rows, c.name) for c in checks if rows and c.name in TELLING}
    numbers = {
        c.name: f"{c.name} {c.value:.2f}{' [{:.2f}, {:.2f}]'.format(*ends[c.name]) if c.name in ends else ''}"
        for c in checks
        if c.name in TELLING
    }
    signs = [c.name for c in checks if c.name in numbers and c.verdict == "ok" and ends.get(c.name, (1.0,))[0] > 0.5]
    told = " and ".join(f"{TELLING[name]} ({numbers[name]})" for name in signs)
    hardly = f"the answers hardly tell which side gave them ({', '.join(numbers.values())}; .5 is chance)"
    if bad := [c for c in checks if c.verdict == "fail"]:
        faults = "; ".join(map(in_words, bad))
        if rows and signs and all(c.name in FEWER for c in bad):
            return "warn", f"A study of such answers stops: {faults}. Other questions may do better, because {told}."
        besides = f" Besides, {hardly}." if numbers and not signs else ""
        return "fail", f"No direction can be learnt from these answers: {faults}.{besides}"
    if signs:
        return "ok", f"A direction can be learnt: {told}."
    return "warn", (
        f"It is doubtful that a direction can be learnt: {hardly}. Read them: if they do not differ as you mean, "
        f"{MENDS['separable']}."
    )


def caveats(pairs: Pairs) -> list[str]:
    """What may keep a direction from being learnt or get into it, most important first; nothing where all is well."""
    lines = _against(pairs)
    return lines + others(pairs.checks, well=not lines)


def _against(pairs: Pairs) -> list[str]:
    """What may keep a direction from being learnt: too few pairs, or sides that do not differ."""
    lines = []
    if len(pairs.rows) < FEW_PAIRS:
        lines.append(
            f"Fewer than about {FEW_PAIRS} pairs teach little: ask more questions, give more personas, or make more `epochs`."
        )
    grade, sentence = outlook(pairs.checks)
    return lines + ([sentence] if pairs.checks and grade != "ok" else [])


def others(checks: Sequence[Check], *, well: bool) -> list[str]:
    """Warnings of which the outlook does not speak; where all is `well`, only those of what may get into the direction."""
    passed = (*TELLING, *(FEWER if well else ()))
    return [f"{in_words(c)}." for c in checks if c.verdict == "warn" and c.name not in passed]


def counted(pairs: Pairs) -> str:
    """The number of pairs, of those asked for, and why the others are gone: "14 of 20 pairs (6 identical dropped)"."""
    about = pairs.provenance
    asked = about.get("n_generated", about.get("n_rows_used", len(pairs.rows)))
    return share_of(len(pairs.rows), asked, about.get("dropped") or {})


def share_of(usable: int, asked: int, dropped: Mapping[str, int]) -> str:
    """So many pairs of those asked for, and the others by reason."""
    reasons = f" ({', '.join(f'{n} {reason}' for reason, n in dropped.items())} dropped)" if dropped else ""
    return f"{usable} {'' if asked == usable else f'of {asked} '}pairs{reasons}"


def because(pairs: Pairs) -> str:
    """What is known against these pairs, to stand at the end of an error; nothing where nothing is."""
    lines = _against(pairs)
    return f" About the pairs: {' '.join((f'{counted(pairs)}.', *lines))}" if lines else ""
