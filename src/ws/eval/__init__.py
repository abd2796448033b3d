"""The evaluations, one file each. To add one, write its file and its name here, or an entry point of another distribution.

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
from ws.extensions import Extension, extensions

NAMES = ("sycophancy", "dilemmas", "airisk", "tinymfv", "foundations", "perplexity", "pairs", "file")
PROTOCOLS: dict[tuple[str, str], Protocol]
"""By evaluation and id: the same vignettes, asked the same way, are read by two evaluations."""
EVALS: dict[str, Protocol]
"""The default protocol of every evaluation: the first its file lists."""


def __getattr__(name: str) -> Any:
    if name == "PROTOCOLS":
        return {(p.eval, p.id): p for name in names() for p in protocols_of(name)}
    if name == "EVALS":
        return {name: protocols_of(name)[0] for name in names()}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def names() -> list[str]:
    """Every evaluation that has protocols of its own: those that ship, then those that other distributions add."""
    return [*NAMES, *_added()]


def _added() -> Mapping[str, Extension]:
    return extensions("ws.evals", frozenset((*NAMES, harness.NAME)))


@cache
def protocols_of(name: str) -> tuple[Protocol, ...]:
    """The protocols of one evaluation, the default first."""
    if name in NAMES:
        return tuple(import_module(f"{__name__}.{name}").PROTOCOLS)
    protocols = _added()[name].load(tuple)
    if not protocols or any(not isinstance(p, Protocol) or p.eval != name for p in protocols):
        raise _added()[name].unusable(f"is no tuple of protocols whose `eval` is {name!r}")
    return protocols


def _resolved(name: str, protocol_id: str) -> Protocol | None:
    """The protocol whose id holds a part of its own, such as a value class."""
    return import_module(f"{__name__}.airisk").resolve(protocol_id) if name == "airisk" else None


def protocol(name: str, protocol_id: str | None = None, n_think: int | None = None) -> Protocol:
    """The protocol of an evaluation, by name and optionally by id; `ID~t32`, or `n_think`, is ID with another budget of thought."""
    if n_think is not None:
        return protocol(name, protocol_id).thinking(n_think)
    if name not in names():
        raise ValueError(f"evaluation {name!r} is not known; there are {', '.join(sorted([*names(), harness.NAME]))}")
    protocols = protocols_of(name)
    if protocol_id is None:
        return protocols[0]
    bare, mark, budget = protocol_id.partition("~t")
    chosen = next((p for p in protocols if p.id == bare), None) or _resolved(name, bare)
    if chosen is None or (mark and not budget.isdigit()):
        raise ValueError(f"{name} has no protocol {protocol_id!r}; there are {', '.join(p.id for p in protocols)}")
    return chosen.thinking(int(budget)) if budget else chosen


def providing(metric: str) -> str | None:
    """The evaluation without thought that measures a metric, or None; `replicate` runs these by itself."""
    return next((name for name in names() if metric in protocols_of(name)[0].claims), None)


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
