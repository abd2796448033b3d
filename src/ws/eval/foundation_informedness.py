"""Surgical informedness of moral foundations: cells of a vignette, weighted by how much they are about a foundation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ws.errors import not_known
from ws.eval.tinymfv import FOUNDATIONS, FRAMES, cells
from ws.eval.tinymfv import loadings as shares_of
from ws.stats import RESAMPLES
from ws.stats.arms import Arms, join_arms
from ws.stats.informedness import Informedness, sign_as_number, weighted_informedness
from ws.stats.sign import Sign

if TYPE_CHECKING:
    import pandas as pd


def foundation_informedness(
    rows: "pd.DataFrame",
    foundation: str,
    *,
    intent: int,
    loadings: Mapping[str, float] | None = None,
    sign: int | Sign = 1,
    pos: float | None = None,
    neg: float | None = None,
    ks: Sequence[float] = (1, 2),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Informedness:
    """The foundation form: cells (vignette, condition), wanted where `intent` times (judged wrong) is positive.

    `loadings` gives each unit's weight for the foundation (`loadings_of`); without it a vignette counts for its own
    foundation and for no other.
    """
    if intent not in (1, -1):
        raise ValueError(f"no claim is made about {foundation} (intent {intent}), so nothing can be surgical about it")
    if foundation not in FOUNDATIONS:
        raise ValueError(not_known("foundation", foundation, FOUNDATIONS))
    plain = sign_as_number(sign, rows)
    found = cell_rows(rows, intent=intent, sign=plain, pos=pos, neg=neg)
    joined, kinds = join_arms(found, sign=plain), dict(zip(found["unit_id"], found["kind"]))
    units = joined.table["unit_id"]
    if loadings is None:
        weight = np.array([float(kinds[u] == foundation) for u in units])
    elif lacking := sorted(set(units) - loadings.keys()):
        raise ValueError(f"{len(lacking)} vignettes have no loading on {foundation}, e.g. {lacking[:3]}")
    else:
        weight = np.array([loadings[u] for u in units], float)
    if not (np.isfinite(weight).all() and (weight >= 0).all() and (weight > 0).any()):
        raise ValueError(f"weights on {foundation} must be finite, not negative and not all 0")
    about = joined.table[weight > 0].reset_index(drop=True)
    arms = Arms(about, joined.method, joined.protocol, joined.fwd, joined.rev)
    return weighted_informedness(arms, weight[weight > 0], sign=plain, ks=ks, seed=seed, resamples=resamples)


def cell_rows(
    rows: "pd.DataFrame", *, intent: int, sign: int = 1, pos: float | None = None, neg: float | None = None
) -> "pd.DataFrame":
    """Rows of cells: y = intent * logit(w) of the two frames together, with the smaller of their answer masses.

    The sign of a direction on a foundation is `choose_sign` of the cells of that `kind` on calibration units.
    """
    # frames are merged below, where a doubled row would not be seen
    arms = join_arms(rows, sign=sign, pos=pos, neg=neg)
    strengths = {0.0, arms.fwd, *([] if arms.rev is None else [arms.rev])}
    rows = rows[rows["alpha"].isin(strengths)].assign(cell=lambda r: r["row_key"].str.rsplit("/", n=1).str[0])
    by = ["alpha", "cell"]
    frames = rows.groupby(by).agg(pmass=("pmass", "min"), n=("y", "size"), arm=("arm", "first")).reset_index()
    if (frames["n"] != len(FRAMES)).any():
        odd = frames.loc[frames["n"] != len(FRAMES), "cell"].unique().tolist()
        raise ValueError(f"{len(odd)} cells were not asked in both frames {list(FRAMES)}, e.g. {odd[:3]}")
    merged = cells(rows).merge(frames, on=by)
    return merged.assign(
        row_key=merged["cell"],
        y=intent * merged["logit"],
        label=intent,
        method=arms.method,
        protocol=arms.protocol,
        metric=rows["metric"].iloc[0],
    )


def loadings_of(vignettes: Sequence[Mapping[str, Any]], foundation: str) -> dict[str, float]:
    """How much each vignette is about a foundation: its share of the vignette's ratings."""
    loadings = {}
    for v in vignettes:
        shares = shares_of(v)
        if foundation not in shares:
            raise ValueError(
                f"vignette {v['id']} has no rating on {foundation}; leave loadings out to weigh by foundation"
            )
        loadings[f"{v['id']}/{v['foundation_coarse']}"] = shares[foundation]
    return loadings
