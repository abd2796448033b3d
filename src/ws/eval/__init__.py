"""The evaluations, one file each. To add one, write its file and its line here."""

from ws.eval import dilemmas, file, foundations, harness, pairs, perplexity, sycophancy
from ws.eval.protocol import Protocol as Protocol
from ws.eval.protocol import Result as Result
from ws.eval.protocol import run as run
from ws.eval.protocol import summarize as summarize

PROTOCOLS: dict[str, Protocol] = {
    p.id: p for m in (sycophancy, dilemmas, foundations, perplexity, pairs, file) for p in m.PROTOCOLS
}
EVALS: dict[str, Protocol] = {p.eval: p for p in reversed(PROTOCOLS.values())}
"""The default protocol of every evaluation: the first its file lists."""


def protocol(name: str, protocol_id: str | None = None) -> Protocol:
    """The protocol of an evaluation, by name and optionally by id."""
    if name not in EVALS:
        raise ValueError(f"evaluation {name!r} is not known; there are {', '.join(sorted([*EVALS, harness.NAME]))}")
    if protocol_id is None:
        return EVALS[name]
    known = [p.id for p in PROTOCOLS.values() if p.eval == name]
    if protocol_id not in known:
        raise ValueError(f"{name} has no protocol {protocol_id!r}; there are {', '.join(known)}")
    return PROTOCOLS[protocol_id]


def providing(metric: str) -> str | None:
    """The evaluation that measures a metric, or None."""
    homes = {
        "logratio_honesty": "dilemmas",
        "logratio": "sycophancy",
        "logratio_claims": "sycophancy",
        "axis_trad_care": "foundations",
        "axis_authority": "foundations",
        "logratio_pairs": "pairs",
    }
    return homes.get(metric)


def recorded(protocol_id: str) -> Protocol:
    """The protocol whose id stands in a row, also with another budget of thought, also of a harness's task."""
    if protocol_id.startswith(f"{harness.NAME}/"):
        return harness.protocol_of(protocol_id)
    plain, _, budget = protocol_id.partition("~t")
    if plain not in PROTOCOLS or (budget and not budget.isdigit()):
        raise ValueError(
            f"rows of the protocol {protocol_id!r} were written by another version; run the evaluation again"
        )
    return PROTOCOLS[plain].thinking(int(budget)) if budget else PROTOCOLS[plain]
