"""Panels that several evaluations share: what a shift is made of, and how surgical it is."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ws.eval.protocol import Panel
from ws.stats.arms import decided
from ws.stats.informedness import Informedness, informedness
from ws.stats.shift import decomposition

if TYPE_CHECKING:
    import pandas as pd


def arms_panels(rows: "pd.DataFrame", intent: Mapping[str, int]) -> list[Panel]:
    """The shift of every strength, and surgical informedness of the widest pair of them; answer orders are one item."""
    alphas = sorted(float(a) for a in rows["alpha"].unique() if a)
    if not alphas or rows["method"].nunique() != 1 or rows["unit_id"].nunique() < 2:
        return []
    items = decided(rows)
    return [shift_panel(items, alphas), *surgical_panel(items, alphas)]


def shift_panel(items: "pd.DataFrame", alphas: list[float]) -> Panel:
    """y(alpha) = a + b y(0), for every alpha."""
    lines, records = [], []
    for alpha in alphas:
        strength: dict[str, Any] = {"pos": alpha} if alpha > 0 else {"sign": -1, "neg": alpha}
        one_side = items[items["alpha"].isin([0.0, alpha])]
        found = decomposition(one_side, **strength)
        records.append({"alpha": alpha} | {k: vars(getattr(found, k)) for k in "ab"})
        lines.append({"alpha": f"{alpha:+g}", "a": with_interval(found.a), "b": with_interval(found.b)})
    title = "shift: y(alpha) = a + b y(0); a moves an undecided item, b above 1 only sharpens"
    return Panel(title, lines, records)


def surgical_panel(items: "pd.DataFrame", alphas: list[float]) -> list[Panel]:
    """Surgical informedness of the lowest and the highest strength, beside its null; nothing where there is one arm."""
    if not alphas[0] < 0 < alphas[-1]:
        return []
    arms = items[items["alpha"].isin([alphas[0], 0.0, alphas[-1]])]
    found = informedness(arms, ks=(1, 2))
    small = "; a class is too small to say" if found.too_small else ""
    return [
        Panel(
            f"surgical informedness of {alphas[0]:+g} and {alphas[-1]:+g}{small}",
            [surgical_line(found)],
            [found.record()],
        )
    ]


def surgical_line(found: Informedness) -> dict[str, str]:
    """A score beside its null, and what it is made of."""
    r = found.record()
    return {
        "SI_2": f"{number(r['SI_2'])} [{number(r['SI_2_lo'])}, {number(r['SI_2_hi'])}]",
        "its null": number(r["SI_2_null"]),
        "SI_1": f"{number(r['SI_1'])} [{number(r['SI_1_lo'])}, {number(r['SI_1_hi'])}]",
        "p": f"{r['SI_1_p']:.3g}" if math.isfinite(r["SI_1_p"]) else "–",
        **{k: _rate(r[k]) for k in ("fix", "broke", "flip", "counter")},
        "wrong / right": f"{r['n_wrong']} / {r['n_right']}",
    }


def with_interval(e: Any) -> str:
    """An estimate with its interval."""
    return f"{number(e.mean, 2)} [{number(e.ci_lo, 2)}, {number(e.ci_hi, 2)}]"


def number(x: float | None, digits: int = 1) -> str:
    """A number with its sign; what is missing is a dash."""
    return f"{x:+.{digits}f}" if x is not None and math.isfinite(x) else "–"


def _rate(x: float) -> str:
    return f"{100 * x:.0f} %" if math.isfinite(x) else "–"
