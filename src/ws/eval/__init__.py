"""The evaluations, one file each. To add one, write its file and its line here.

They are imported when the first protocol is asked for: a module that its own package has imported cannot be run by
`python -m ws.eval.NAME` without a warning, and would run twice.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from ws.eval import harness
from ws.eval.protocol import Items as Items
from ws.eval.protocol import Panel as Panel
from ws.eval.protocol import Protocol as Protocol
from ws.eval.protocol import Result as Result
from ws.eval.protocol import run as run
from ws.eval.protocol import summarize as summarize

NAMES = ("sycophancy", "dilemmas", "airisk", "tinymfv", "foundations", "perplexity", "pairs", "file")
PROTOCOLS: dict[tuple[str, str], Protocol]
"""By evaluation and id: the same vignettes, asked the same way, are read by two evaluations."""
EVALS: dict[str, Protocol]
"""The default protocol of every evaluation: the first its file lists."""


def __getattr__(name: str) -> Any:
    if name == "PROTOCOLS":
        return _protocols()
    if name == "EVALS":
        return _defaults()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _protocols() -> dict[tuple[str, str], Protocol]:
    return {(p.eval, p.id): p for name in NAMES for p in import_module(f"{__name__}.{name}").PROTOCOLS}


@cache
def _defaults() -> dict[str, Protocol]:
    return {p.eval: p for p in reversed(_protocols().values())}


def _resolved(name: str, protocol_id: str) -> Protocol | None:
    """The protocol whose id holds a part of its own, such as a value class."""
    return import_module(f"{__name__}.airisk").resolve(protocol_id) if name == "airisk" else None


def protocol(name: str, protocol_id: str | None = None, n_think: int | None = None) -> Protocol:
    """The protocol of an evaluation, by name and optionally by id; `ID~t32`, or `n_think`, is ID with another budget of thought."""
    if n_think is not None:
        return protocol(name, protocol_id).thinking(n_think)
    defaults, protocols = _defaults(), _protocols()
    if name not in defaults:
        raise ValueError(f"evaluation {name!r} is not known; there are {', '.join(sorted([*defaults, harness.NAME]))}")
    if protocol_id is None:
        return defaults[name]
    bare, mark, budget = protocol_id.partition("~t")
    found = protocols.get((name, bare)) or _resolved(name, bare)
    if found is None or (mark and not budget.isdigit()):
        known = [p.id for p in protocols.values() if p.eval == name]
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
