"""How the strengths of a comparison were found: the published calibration table, and its files for all cells."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ws.numbers import nats
from ws.results.sheet import Sheet

SIDES = ("pos", "neg")
EXPECTED = (
    "expected: p95 at the budget, status ok, and an audit within a factor of 1.5 of it at both signs. Otherwise: the row is "
    "unmatched, and its effects are those of another strength. mean and max are of the pos side."
)


def sheet(calibrations: Sequence[Mapping[str, Any]], title: str) -> Sheet:
    """One line per method, the largest strength first."""
    ranked = sorted(calibrations, key=lambda t: (-_known(t["pos"]["alpha"]), t["method"]))
    lines = []
    for told in ranked:
        pos, neg = told["pos"], told["neg"]
        status = pos["status"] if pos["status"] == neg["status"] else f"{pos['status']} / {neg['status']}"
        evaluations = f"{pos['evaluations']} / {neg['evaluations']}"
        numbers = (pos["p95"], neg["p95"], pos["mean"], pos["largest"])
        audits = (pos["audit"], neg["audit"])
        lines.append(
            (
                told["method"], f"{pos['alpha']:+.4g}", f"{neg['alpha']:+.4g}", *map(nats, numbers), evaluations, status,
                *map(nats, audits), "matched" if told["matched"] else "unmatched",
            )
        )  # fmt: skip
    columns = (
        "method", "alpha_pos", "alpha_neg", "p95_pos", "p95_neg", "mean", "max", "n_eval", "status", "audit_pos",
        "audit_neg", "verdict",
    )  # fmt: skip
    records = tuple(summary(t, seed=None) for t in ranked)
    return Sheet(title, EXPECTED, columns, tuple(lines), records, words=("method", "status", "verdict"))


def summary(told: Mapping[str, Any], *, seed: int | None) -> dict[str, Any]:
    """One search in the published columns, and ours behind them."""
    found: dict[str, Any] = {
        "method": told["method"], **({} if seed is None else {"seed": seed}),
        "alpha_pos": told["pos"]["alpha"], "alpha_neg": told["neg"]["alpha"], "calibrated_alpha": told["pos"]["alpha"],
    }  # fmt: skip
    for s in SIDES:
        side = told[s]
        found |= {
            f"p95_at_{s}": side["p95"], f"mean_at_{s}": side["mean"], f"max_at_{s}": side["largest"],
            f"ratio_at_{s}": _ratio(side["p95"], side["target"]), f"iterations_{s}": side["evaluations"],
            f"converged_{s}": side["status"] == "ok", f"status_{s}": side["status"], f"audit_{s}": side["audit"],
            f"verdict_{s}": side["verdict"],
        }  # fmt: skip
    return found | {"target_p95": told["pos"]["target"]}


def audits(told: Mapping[str, Any], *, seed: int) -> list[dict[str, Any]]:
    """What other prompts said, a line per sign."""
    return [
        {
            "method": told["method"], "seed": seed, "sign": s, "alpha": told[s]["alpha"],
            "alpha_mag": abs(told[s]["alpha"]), "p95_calib": told[s]["p95"], "p95_calib_lo": told[s]["ci_lo"],
            "p95_calib_hi": told[s]["ci_hi"], "mean_calib": told[s]["mean"], "p95_audit": told[s]["audit"],
            "p95_audit_lo": told[s]["audit_lo"], "p95_audit_hi": told[s]["audit_hi"],
            "calib_audit_ratio": _ratio(told[s]["p95"], told[s]["audit"]), "passed": told[s]["passed"],
        }
        for s in SIDES
    ]  # fmt: skip


def histories(told: Mapping[str, Any], *, seed: int) -> list[dict[str, Any]]:
    """Every strength that was tried, in order; those of the rough ladder first."""
    return [
        {"method": told["method"], "seed": seed, "sign": s, "stage": stage, "step": step, "alpha": a, "p95": kl}
        for s in SIDES
        for stage in ("ladder", "history")
        for step, (a, kl) in enumerate(told[s][stage])
    ]


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def _known(x: float | None) -> float:
    return x if x is not None and math.isfinite(x) else -math.inf
