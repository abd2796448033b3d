"""Numbers as text: the only place that says how many digits, which sign, and what stands where there is no number."""

import math
from collections.abc import Sequence

from ws.stats import Estimate, Interval

NO = "–"
"""Stands where there is no number."""


def finite(x: float | None) -> bool:
    """Whether it is a number at all."""
    return x is not None and math.isfinite(x)


def signed(x: float | None, digits: int = 2) -> str:
    """A number with its sign."""
    return f"{x:+.{digits}f}" if finite(x) else NO


def digits_for(*values: float | None) -> int:
    """Decimals for numbers that are read together: more where all of them are small."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    return 4 if 0 < largest < 0.05 else 2


def alpha_of(alpha: float) -> str:
    """A strength with its sign; 0 has none."""
    return f"{alpha:+g}" if alpha else "0"


def between(low: float | None, high: float | None, digits: int = 2) -> str:
    """The two ends of an interval in brackets."""
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def bounds(e: Estimate | Interval) -> tuple[float, float, float]:
    """(value, low, high) of what was estimated."""
    return (e.mean, e.ci_lo, e.ci_hi) if isinstance(e, Estimate) else (e.value, e.low, e.high)


def with_interval(e: Estimate | Interval | None) -> str:
    """A number with its 95 % interval, where it has one."""
    if e is None or not finite(bounds(e)[0]):
        return NO
    value, low, high = bounds(e)
    n = digits_for(value, low, high)
    return signed(value, n) + (f" {between(low, high, n)}" if finite(low) else "")


def flat(name: str, e: Estimate | Interval) -> dict[str, float]:
    """The same for a program: NAME, NAME_lo and NAME_hi."""
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), bounds(e)))


def mean_sd(values: Sequence[float]) -> str:
    """mean±sd: how much values differ among themselves, which is no interval."""
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return NO
    mean = sum(known) / len(known)
    sd = math.sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1)) if len(known) > 1 else math.nan
    return signed(mean) + (f"±{sd:.2f}" if finite(sd) else "")


def share(x: float | None) -> str:
    """A share of 1 with three decimals."""
    return f"{x:.3f}" if finite(x) else NO


def nats(x: float | None) -> str:
    """A divergence, which has no sign."""
    return share(x)


def percent(x: float | None) -> str:
    """A share in whole percent."""
    return f"{100 * x:.0f} %" if x is not None and finite(x) else NO


def p_value(p: float) -> str:
    """Three decimals; a p of many draws is never 0."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def bar(value: float | None, span: float, width: int = 11) -> str:
    """A small bar from the middle: left is negative."""
    if value is None or not finite(value) or span <= 0:
        return ""
    half = width // 2
    cells = min(half, round(abs(value) / span * half))
    empty, full = " " * half, "█" * cells
    return f"{full:>{half}}│{empty}" if value < 0 else f"{empty}│{full:<{half}}"


def some(n: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def on_one_line(text: str) -> str:
    """A text of several lines as one, with a mark where a line ends and its last word does not say so."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return (
        " ".join(x if x[-1] in ".:;?!" else f"{x} /" for x in lines[:-1])
        + (" " if lines[1:] else "")
        + "".join(lines[-1:])
    )


def shortened(text: str, most: int) -> str:
    """A text in one line of at most so many characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
