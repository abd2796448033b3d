"""What a study is measured by: evaluations by name, from a person's own files where they are given, in part or whole.

evaluations_named(behavior, ["dilemmas", "perplexity@neutral-nll/1"], data={"dilemmas": "mine.parquet"}, limit=8)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ws.behaviors import Behavior
from ws.eval import EVALS, Evaluation, evaluation, protocol, providing
from ws.eval.protocol import Protocol


def claims(behavior: Behavior | None) -> list[str]:
    """The evaluations that measure what a behavior claims to change."""
    intent = behavior.intent if behavior is not None else {}
    return list(dict.fromkeys(e for metric, sign in intent.items() if sign and (e := providing(metric))))


def usual(behavior: Behavior | None) -> list[str]:
    """What a whole study asks by itself: what the behavior claims to change, held-out pairs, and what steering costs."""
    return [*dict.fromkeys([*claims(behavior), "pairs", "perplexity"])]  # a pack may claim pairs itself


def own_questions(protocol: Protocol) -> str:
    """Why an evaluation cannot be asked of many studies: it asks what a person names for it. Nothing where it can."""
    return f"it asks questions of your own; run `ws eval {protocol.eval} --run RUN` for it" if protocol.needs else ""


def evaluations_named(
    behavior: Behavior | None,
    names: Iterable[str] = (),
    *,
    also: Iterable[Protocol] = (),
    protocols: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    limit: int | None = None,
    refused: Callable[[Protocol], str] = own_questions,
) -> tuple[Evaluation, ...]:
    """What is measured: evaluations by name or NAME@PROTOCOL, what the behavior claims when none is named; and others always.

    `limit` takes the first units of each that can be asked in part.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}")
    here = [n for n in claims(behavior) if not refused(protocol(n, (protocols or {}).get(n)))]
    words = list(names) or here
    if not words:
        raise ValueError(
            f"{behavior.name if behavior else 'a study'} claims nothing that is measured here; name `evals`"
        )
    if twice := [n for n, k in Counter(words).items() if k > 1]:
        raise ValueError(f"`evals` names {twice[0]!r} twice")
    chosen = []
    for word in words:
        name, _, protocol_id = word.partition("@")
        one = protocol(name, protocol_id or (protocols or {}).get(name))
        if why := refused(one):
            others = ", ".join(sorted(n for n, p in EVALS.items() if not refused(p)))
            raise ValueError(f"{name} has no place here: {why}; there are {others}")
        chosen.append((name, one))
    asked = [*chosen, *((p.eval, p) for p in also)]
    refuse_unmeasured(data or {}, [name for name, _ in asked])
    every = [evaluation(name, p.id, data=(data or {}).get(name)).of_first(limit) for name, p in asked]
    return tuple(dict.fromkeys(every))


def named_files(parts: Sequence[str]) -> dict[str, str]:
    """Evaluation to its file, from NAME=FILE."""
    if odd := [part for part in parts if not all(part.partition("="))]:
        raise ValueError(f"`data` takes NAME=FILE, e.g. dilemmas=mine.parquet; got {odd[0]!r}")
    return {name: file for name, _, file in (part.partition("=") for part in parts)}


def refuse_unmeasured(data: Iterable[str], evals: Iterable[str]) -> None:
    """Refuse files of evaluations that are not asked."""
    asked = list(dict.fromkeys(evals))
    if unknown := sorted(set(data) - set(asked)):
        raise ValueError(f"`data` names {unknown[0]}, which is not among the evaluations {', '.join(asked)}")
