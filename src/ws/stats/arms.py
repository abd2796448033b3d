"""Rows of one method side by side: what every item scored at strength 0 and at either side of it.

Joined by row key and never by order. A key that occurs twice, or on one side only, is an error: either would be a silent
change of what is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("protocol", "metric", "unit_id", "row_key", "method", "alpha", "arm", "y", "pmass", "label")


@dataclass(frozen=True, eq=False)
class Arms:
    """One line per item, sorted by unit and key. Masses are those of all rows, also of the ones whose y is NaN."""

    table: "pd.DataFrame"
    """row_key, unit_id, ref, fwd, rev, mass_fwd, mass_rev; the last is NaN throughout where there is one arm."""
    method: str
    protocol: str
    fwd: float
    rev: float | None

    @property
    def valid(self) -> np.ndarray:
        """Items that were scored in every arm there is."""
        scored = ["ref", "fwd"] + (["rev"] if self.rev is not None else [])
        return np.isfinite(self.table[scored].to_numpy(float)).all(axis=1)


def join_arms(rows: "pd.DataFrame", *, sign: int = 1, pos: float | None = None, neg: float | None = None) -> Arms:
    """The arms of one method. `sign = -1` takes the neg arm for the forward one; `pos`, `neg` choose among strengths."""
    if sign not in (1, -1):
        raise ValueError(f"a sign is 1 or -1, got {sign}")
    if missing := [c for c in NEEDED if c not in rows.columns]:
        raise ValueError(f"rows lack the columns {missing}; they need {list(NEEDED)}")
    for column in ("protocol", "metric"):
        if len(ids := sorted(rows[column].unique())) != 1:
            raise ValueError(f"rows of different {column}s are not joined: {ids}")
    if len(methods := sorted(rows.loc[rows["arm"] != "ref", "method"].unique())) != 1:
        raise ValueError(f"one steered method at a time; these rows have {methods or 'none'}")

    parts = {"ref": _part(rows, "ref", None), "pos": _part(rows, "pos", pos), "neg": _part(rows, "neg", neg)}
    forward, reverse = ("pos", "neg") if sign == 1 else ("neg", "pos")
    if parts["ref"].empty or parts[forward].empty:
        absent = "ref" if parts["ref"].empty else forward
        raise ValueError(f"no rows of the {absent} arm; score strength 0 and the {forward} side, same items")
    two = not parts[reverse].empty
    ref, fwd = parts["ref"], parts[forward]
    rev = parts[reverse] if two else ref.assign(y=np.nan, pmass=np.nan)
    _same_items(ref, {forward: fwd, reverse: rev})

    ref, fwd, rev = (p.set_index("row_key").loc[sorted(ref["row_key"])] for p in (ref, fwd, rev))
    table = ref[["unit_id"]].assign(
        ref=ref["y"], fwd=fwd["y"], rev=rev["y"], mass_fwd=fwd["pmass"], mass_rev=rev["pmass"]
    )
    table = table.reset_index().sort_values(["unit_id", "row_key"], ignore_index=True)
    strengths = [float(p["alpha"].iloc[0]) for p in (fwd, rev)]
    return Arms(table, methods[0], str(rows["protocol"].iloc[0]), strengths[0], strengths[1] if two else None)


def folded(rows: "pd.DataFrame", parts: int = 1) -> "pd.DataFrame":
    """Rows whose keys differ in their last parts only (answer orders) as one: the mean of y, NaN if one of them is."""
    whole = rows.assign(row_key=rows["row_key"].str.rsplit("/", n=parts).str[0])
    by = [c for c in whole.columns if c not in ("y", "logratio", "pmass", "forced_close", "text")]
    grouped = whole.groupby(by, sort=False, dropna=False)
    folds = grouped.agg(
        y=("y", "mean"),
        scored=("y", "count"),
        size=("y", "size"),
        logratio=("logratio", "mean"),
        pmass=("pmass", "mean"),
        forced_close=("forced_close", "max"),
        text=("text", "first"),
    ).reset_index()
    if folds["size"].nunique() > 1:
        odd = folds.loc[folds["size"] != folds["size"].mode()[0], "row_key"].tolist()
        raise ValueError(
            f"{len(odd)} items have more or fewer rows than the others, e.g. {odd[:3]}; score them all alike"
        )
    folds["y"] = folds["y"].where(folds["scored"] == folds["size"])
    return folds[list(rows.columns)]


def decided(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Answer orders folded into one decision: a swapped order has the other label, and y has its sign already."""
    return folded(rows.assign(label=1, kind="", logratio=rows["y"]))


def _part(rows: "pd.DataFrame", arm: str, strength: float | None) -> "pd.DataFrame":
    """The rows of one arm at one strength, each key once."""
    part = rows[rows["arm"] == arm]
    if strength is not None:
        part = part[np.isclose(part["alpha"].to_numpy(float), strength)]
        if part.empty:
            raise ValueError(f"no rows of the {arm} arm at {strength:g}; there are {_strengths(rows, arm)}")
    if part["alpha"].nunique() > 1:
        raise ValueError(f"the {arm} arm has the strengths {_strengths(rows, arm)}; say which, as {arm}=...")
    twice = part.loc[part["row_key"].duplicated(), "row_key"].unique().tolist()
    if twice:
        raise ValueError(
            f"{len(twice)} row keys occur twice in the {arm} arm, e.g. {twice[:3]}; give one method and one seed at a time"
        )
    return part


def _strengths(rows: "pd.DataFrame", arm: str) -> list[float]:
    return sorted(float(a) for a in rows.loc[rows["arm"] == arm, "alpha"].unique())


def _same_items(ref: "pd.DataFrame", others: "dict[str, pd.DataFrame]") -> None:
    keys = set(ref["row_key"])
    for arm, part in others.items():
        if lone := sorted(keys ^ set(part["row_key"])):
            raise ValueError(
                f"{len(lone)} row keys stand in only one of the arms ref and {arm}, e.g. {lone[:3]}; score the same items in both"
            )
        both = ref.merge(part, on="row_key", suffixes=("", "_"))
        differ = (both["unit_id"] != both["unit_id_"]) | (both["label"] != both["label_"])
        if differ.any():
            at: Sequence[str] = both.loc[differ, "row_key"].tolist()
            raise ValueError(
                f"{len(at)} rows have another unit or label in the {arm} arm, e.g. {at[:3]}; these are different data"
            )
