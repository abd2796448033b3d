"""Sentences on the questions of an evaluation: whether they are new to a method, and which were left out."""

from collections.abc import Sequence

from ws.results.measured import Measured


def pairs_left_out(evaluations: Sequence[Measured]) -> list[str]:
    """A sentence per evaluation of pairs that left some out: how many, why, and which."""
    lines: dict[str, None] = {}
    for m in evaluations:
        note = m.manifest.get("note", {})
        if m.protocol.eval == "pairs" and (reasons := note.get("left_out")):
            whys = "; ".join(f"{n['n']} because {why} (e.g. {', '.join(n['rows'][:3])})" for why, n in reasons.items())
            lines[f"{note['n_items']} of {note['n_pairs']} pairs were scored; left out: {whys}."] = None
    return list(lines)


def not_held_out(evaluations: Sequence[Measured]) -> list[str]:
    """Sentences on questions that were used before, and on methods that do not say what they were made from."""
    lines: dict[str, None] = {}
    for m in evaluations:
        of = m.rows["unit_id"].nunique()
        for why, units in m.seen.items():
            what = m.method if why == "to make" else f"the strength of {m.method}"
            purpose = why if why == "to make" else "to find"
            lines[f"NOT HELD OUT: {len(units)} of {of} questions of {m.protocol.id} were used {purpose} {what}."] = None
    silent = dict.fromkeys(m.method for m in evaluations if "used" in m.manifest and m.held_out is None)
    if silent:
        verb = "does not say what it was" if len(silent) == 1 else "do not say what they were"
        lines[f"{', '.join(silent)} {verb} made from, so whether these questions are new to it is not known."] = None
    return list(lines)
