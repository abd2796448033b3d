"""Panels that several evaluations share: what a shift is made of, and how surgical it is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ws.eval.protocol import Panel
from ws.numbers import NO, alpha_of, between, finite, p_value, percent, signed, with_interval
from ws.stats.arms import decided
from ws.stats.informedness import Informedness, informedness
from ws.stats.shift import decomposition
from ws.types import Json

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
        strength: Json = {"pos": alpha} if alpha > 0 else {"sign": -1, "neg": alpha}
        one_side = items[items["alpha"].isin([0.0, alpha])]
        split = decomposition(one_side, **strength)
        records.append({"alpha": alpha} | {k: vars(getattr(split, k)) for k in "ab"} | {"fits": split.fits})
        parts = {k: with_interval(getattr(split, k)) if split.fits else NO for k in "ab"}
        lines.append({"alpha": alpha_of(alpha), **parts})
    title = "shift: y(alpha) = a + b y(0); a moves an undecided item, b above 1 only sharpens"
    unknown = (
        f"{NO}: the rows at alpha 0 span too little to tell a and b apart."
        if not all(r["fits"] for r in records)
        else ""
    )
    return Panel(title, lines, records, unknown)


def surgical_panel(items: "pd.DataFrame", alphas: list[float]) -> list[Panel]:
    """Surgical informedness of the lowest and the highest strength, beside its null; nothing where there is one arm."""
    if not alphas[0] < 0 < alphas[-1]:
        return []
    arms = items[items["alpha"].isin([alphas[0], 0.0, alphas[-1]])]
    score = informedness(arms, ks=(1, 2))
    small = "; a class is too small to say" if score.too_small else ""
    return [
        Panel(
            f"surgical informedness of {alphas[0]:+g} and {alphas[-1]:+g}{small}",
            [surgical_line(score)],
            [score.record()],
        )
    ]


def surgical_line(surgical: Informedness) -> dict[str, str]:
    """A score beside its null, and what it is made of."""
    r = surgical.record()
    score = {k: f"{signed(r[k], 1)} {between(r[f'{k}_lo'], r[f'{k}_hi'], 1)}" for k in ("SI_2", "SI_1")}
    return {
        "SI_2": score["SI_2"],
        "its null": signed(r["SI_2_null"], 1),
        "SI_1": score["SI_1"],
        "p": p_value(r["SI_1_p"]) if finite(r["SI_1_p"]) else NO,
        **{k: percent(r[k]) for k in ("fix", "broke", "flip", "counter")},
        "wrong / right": f"{r['n_wrong']} / {r['n_right']}",
    }
