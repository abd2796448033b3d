"""Rows with planted scores, as an evaluation would write them."""

import numpy as np
import pandas as pd

from ws.eval.protocol import COLUMNS
from ws.stats import estimate

ARMS = (("neg", -1.0), ("ref", 0.0), ("pos", 1.0))


def rows_of(ref, pos, neg=None, *, units=None, labels=None, pmass=(1.0, 1.0, 1.0), method="ws:lora"):
    """One row per item and arm; y of the reference, pos and neg arms as given."""
    n, parts = len(ref), []
    units = [f"u{i:04d}" for i in range(n)] if units is None else units
    labels = np.ones(n, int) if labels is None else labels
    for (arm, alpha), y, mass in zip(ARMS, (neg, ref, pos), pmass):
        if y is not None:
            part = pd.DataFrame({"unit_id": units, "row_key": [f"{u}/{i}" for i, u in enumerate(units)]})
            part = part.assign(alpha=alpha, arm=arm, y=np.asarray(y, float), pmass=mass, label=labels, method=method)
            parts.append(part.assign(logratio=part["y"] * part["label"]))
    fixed = {
        "eval": "dilemmas",
        "protocol": "dd-1f/1",
        "metric": "m",
        "seed": 0,
        "forced_close": False,
        "text": "",
        "kind": "",
    }
    return pd.concat(parts, ignore_index=True).assign(**fixed)


def flipped(rng, y, share):
    """y with the sign of a random share of rows changed."""
    return np.where(rng.random(len(y)) < share, -y, y)


def moved(rng, ref, *, up, down):
    """y that leaves the wrong side with probability `up` and the right side with probability `down`."""
    return np.where(rng.random(len(ref)) < np.where(ref < 0, up, down), -ref, ref)


def pairs_of(n):
    """Unit names of n rows, two rows a unit."""
    return [f"u{i // 2:04d}" for i in range(n)]


def planted(chosen, items, score, alphas=(-1.0, 0.0, 1.0), pmass=1.0):
    """Rows as a protocol would write them, with log-ratios from `score(item, alpha)`."""
    records = []
    for item in items:
        for alpha in alphas:
            lr = float(score(item, alpha))
            mass = pmass(item, alpha) if callable(pmass) else pmass
            y = item.label * lr if mass >= chosen.gate else float("nan")
            records.append(
                dict.fromkeys(COLUMNS, "")
                | dict(
                    eval=chosen.eval,
                    protocol=chosen.id,
                    metric=chosen.metric,
                    unit_id=item.unit_id,
                    row_key=item.row_key,
                )
                | dict(method="stub", alpha=alpha, y=y, logratio=lr, pmass=mass, label=item.label, kind=item.kind)
            )
    return pd.DataFrame.from_records(records, columns=list(COLUMNS))


def means(chosen, rows, alpha=1.0):
    """Metric to its number at one strength; no intervals, which take time."""
    made = {name: per_alpha[alpha] for name, per_alpha in chosen.metrics(rows).items()}
    return {name: estimate(m, resamples=2).mean for name, m in made.items()}
