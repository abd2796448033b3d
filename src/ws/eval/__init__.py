"""The evaluations, one file each. To add one, write its file and its line here."""

from collections.abc import Mapping, Sequence
from typing import Any

from ws.eval import airisk, dilemmas, file, foundations, harness, pairs, perplexity, sycophancy, tinymfv
from ws.eval.protocol import Items as Items
from ws.eval.protocol import Panel as Panel
from ws.eval.protocol import Protocol as Protocol
from ws.eval.protocol import Result as Result
from ws.eval.protocol import run as run
from ws.eval.protocol import summarize as summarize

MODULES = (sycophancy, dilemmas, airisk, tinymfv, foundations, perplexity, pairs, file)
PROTOCOLS: dict[tuple[str, str], Protocol] = {(p.eval, p.id): p for m in MODULES for p in m.PROTOCOLS}
"""By evaluation and id: the same vignettes, asked the same way, are read by two evaluations."""
EVALS: dict[str, Protocol] = {p.eval: p for p in reversed(PROTOCOLS.values())}
"""The default protocol of every evaluation: the first its file lists."""
RESOLVE = {"airisk": airisk.resolve}
"""Evaluations whose ids hold a part of their own, such as a value class."""


def protocol(name: str, protocol_id: str | None = None, n_think: int | None = None) -> Protocol:
    """The protocol of an evaluation, by name and optionally by id; `ID~t32`, or `n_think`, is ID with another budget of thought."""
    if n_think is not None:
        return protocol(name, protocol_id).thinking(n_think)
    if name not in EVALS:
        raise ValueError(f"evaluation {name!r} is not known; there are {', '.join(sorted([*EVALS, harness.NAME]))}")
    if protocol_id is None:
        return EVALS[name]
    bare, mark, budget = protocol_id.partition("~t")
    found = PROTOCOLS.get((name, bare)) or RESOLVE.get(name, lambda _: None)(bare)
    if found is None or (mark and not budget.isdigit()):
        known = [p.id for p in PROTOCOLS.values() if p.eval == name]
        raise ValueError(f"{name} has no protocol {protocol_id!r}; there are {', '.join(known)}")
    return found.thinking(int(budget)) if budget else found


def providing(metric: str) -> str | None:
    """The evaluation without thought that measures a metric, or None; `replicate` runs these by itself."""
    homes = {
        "logratio_honesty": "dilemmas",
        "logratio": "sycophancy",
        "logratio_claims": "sycophancy",
        "axis_trad_care": "foundations",
        "axis_authority": "foundations",
        "logratio_pairs": "pairs",
    }
    return homes.get(metric)


def shown(rows: Sequence[Mapping[str, Any]], intent: Mapping[str, int]) -> list[Mapping[str, Any]]:
    """The records of a table that a terminal shows, given the metrics a behavior makes a claim about.

    A metric that is another one on this data, number for number, is shown once.
    """
    kept: dict[tuple, str] = {}
    found = []
    for row in rows:
        choose = recorded(row["eval"], row["protocol"]).shown
        numbers = tuple(row[k] for k in ("eval", "protocol", "alpha", "mean", "ci_lo", "ci_hi", "n_total"))
        same = row["alpha"] != 0 and kept.setdefault(numbers, row["metric"]) != row["metric"]
        if not same and (choose is None or row["metric"] in choose(intent)):
            found.append(row)
    steered = {r["metric"] for r in found if r["alpha"] != 0} or {r["metric"] for r in found}
    return [r for r in found if r["metric"] in steered]


def recorded(name: str, protocol_id: str) -> Protocol:
    """The protocol that stands in a row, also with another budget of thought, also of a harness's task."""
    if name == harness.NAME:
        return harness.protocol_of(protocol_id)
    try:
        return protocol(name, protocol_id)
    except ValueError:
        raise ValueError(
            f"rows of the protocol {protocol_id!r} were written by another version; run the evaluation again"
        ) from None
