"""The searches for strengths of a comparison: the published calibration table, and its files for all cells."""

import math
from collections.abc import Sequence

from ws.numbers import nats
from ws.results.sheet import Sheet
from ws.types import Fields, Json

SIDES = ("pos", "neg")
EXPECTED = (
    "expected: p95 at the budget, status ok, and at both signs an audit that shows it: its 90 % interval within a factor of 1.25 of "
    "the budget, unless the settings say otherwise. If not, the row is unmatched, and its effects are those of another "
    "strength. mean and max are of the pos side."
)


def sheet(calibrations: Sequence[Fields], title: str) -> Sheet:
    """One line per method, the largest strength first."""
    ranked = sorted(calibrations, key=lambda t: (-_known(t["pos"]["alpha"]), t["method"]))
    lines = []
    for search in ranked:
        pos, neg = search["pos"], search["neg"]
        status = pos["status"] if pos["status"] == neg["status"] else f"{pos['status']} / {neg['status']}"
        evaluations = f"{pos['evaluations']} / {neg['evaluations']}"
        numbers = (pos["p95"], neg["p95"], pos["mean"], pos["largest"])
        audits = (pos["audit"], neg["audit"])
        lines.append(
            (
                search["method"],
                f"{pos['alpha']:+.4g}",
                f"{neg['alpha']:+.4g}",
                *map(nats, numbers),
                evaluations,
                status,
                *map(nats, audits),
                "matched" if search["matched"] else "unmatched",
            )
        )
    columns = (
        "method",
        "alpha_pos",
        "alpha_neg",
        "p95_pos",
        "p95_neg",
        "mean",
        "max",
        "n_eval",
        "status",
        "audit_pos",
        "audit_neg",
        "verdict",
    )
    records = tuple(summary(t, seed=None) for t in ranked)
    return Sheet(title, EXPECTED, columns, tuple(lines), records, words=("method", "status", "verdict"))


def summary(search: Fields, *, seed: int | None) -> Json:
    """One search in the published columns, and ours behind them."""
    record: Json = {
        "method": search["method"],
        **({} if seed is None else {"seed": seed}),
        "alpha_pos": search["pos"]["alpha"],
        "alpha_neg": search["neg"]["alpha"],
        "calibrated_alpha": search["pos"]["alpha"],
    }
    for s in SIDES:
        side = search[s]
        record |= {
            f"p95_at_{s}": side["p95"],
            f"mean_at_{s}": side["mean"],
            f"max_at_{s}": side["largest"],
            f"ratio_at_{s}": _ratio(side["p95"], side["target"]),
            f"iterations_{s}": side["evaluations"],
            f"converged_{s}": side["status"] == "ok",
            f"status_{s}": side["status"],
            f"audit_{s}": side["audit"],
            f"verdict_{s}": side["verdict"],
        }
    return record | {"target_p95": search["pos"]["target"]}


def audits(search: Fields, *, seed: int) -> list[Json]:
    """The KL on other prompts, a line per sign."""
    return [
        {
            "method": search["method"],
            "seed": seed,
            "sign": s,
            "alpha": search[s]["alpha"],
            "alpha_mag": abs(search[s]["alpha"]),
            "p95_calib": search[s]["p95"],
            "p95_calib_lo": search[s]["ci_lo"],
            "p95_calib_hi": search[s]["ci_hi"],
            "mean_calib": search[s]["mean"],
            "p95_audit": search[s]["audit"],
            "p95_audit_lo": search[s]["audit_lo"],
            "p95_audit_hi": search[s]["audit_hi"],
            "calib_audit_ratio": _ratio(search[s]["p95"], search[s]["audit"]),
            "passed": search[s]["passed"],
        }
        for s in SIDES
    ]


def histories(search: Fields, *, seed: int) -> list[Json]:
    """Every strength that was tried, in order; those of the rough ladder first."""
    return [
        {"method": search["method"], "seed": seed, "sign": s, "stage": stage, "step": step, "alpha": a, "p95": kl}
        for s in SIDES
        for stage in ("ladder", "history")
        for step, (a, kl) in enumerate(search[s][stage])
    ]


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def _known(x: float | None) -> float:
    return x if x is not None and math.isfinite(x) else -math.inf
