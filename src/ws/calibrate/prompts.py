"""The prompts that strengths are calibrated on: neutral questions in two fixed sets, none of which any training saw.

The pool's splits `calib` and `audit` (for `tiny`, those of its own world), fixed in the files. That they are distinct
and apart is checked each time and not hoped for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ws.behaviors import Behavior, Prompt, neutral_prompts
from ws.pairs import marks_in, normal_form, question_hashes

CATEGORIES = 5


@dataclass(frozen=True)
class PromptSets:
    """Questions to find a strength on, and others to check it on."""

    calib: tuple[str, ...]
    audit: tuple[str, ...]
    calib_kinds: tuple[str, ...] = ()
    """The category of each question, where they have one; and below those of the others."""
    audit_kinds: tuple[str, ...] = ()

    def __post_init__(self):
        if both := {normal_form(t) for t in self.calib} & {normal_form(t) for t in self.audit}:
            raise ValueError(f"{min(both)[:60]!r} is among both the calibration and the audit prompts")


def prompt_sets(
    tiny: bool, n_calib: int | None = None, n_audit: int | None = None, *, trained_on: Sequence[str] = ()
) -> PromptSets:
    """The first so many questions of each set, or all; an error if a set is too small, or any question is in two."""
    pool = neutral_prompts(tiny)
    calib, audit = (_first(pool, split, n) for split, n in (("calib", n_calib), ("audit", n_audit)))
    owners = {normal_form(text): "training" for text in trained_on}
    for where, chosen in (("calibration", calib), ("audit", audit)):
        for p in chosen:
            if (other := owners.setdefault(normal_form(p.text), f"{where} {p.id}")) != f"{where} {p.id}":
                raise ValueError(
                    f"the {where} prompts share {p.text[:60]!r} with the {other.split()[0]} prompts; a strength would be "
                    "found or checked on what was seen before. Take that question out of your behavior pack."
                )
    texts, kinds = ([tuple(getattr(p, f) for p in chosen) for chosen in (calib, audit)] for f in ("text", "category"))
    return PromptSets(texts[0], texts[1], kinds[0], kinds[1])


def how_many(tiny: bool) -> dict[str, int]:
    """The questions there are, per set."""
    return {s: sum(p.split == s for p in neutral_prompts(tiny)) for s in ("calib", "audit")}


def refuse_overlap(sets: PromptSets, provenance: Mapping[str, Any]) -> None:
    """Refuse prompts that are among the questions a method was made from, as its provenance lists them."""
    marks = marks_in(provenance) or frozenset()
    for text in (*sets.calib, *sets.audit):
        if question_hashes([text]) in marks:
            raise ValueError(
                f"this method was made from the question {text[:60]!r}, which its strength would be found or checked on. Train "
                "it on other questions."
            )


def training_prompts(behavior: Behavior | None) -> list[str]:
    """The questions a behavior's pairs are made from."""
    return [p.text for p in behavior.train] if behavior else []


def _first(pool: Sequence[Prompt], split: str, n: int | None) -> list[Prompt]:
    # one category after the other, so that a few questions are already of many kinds
    groups: dict[str, list[Prompt]] = {}
    for p in pool:
        if p.split == split:
            groups.setdefault(p.category, []).append(p)
    ranked = sorted((at, c, p.id) for c, group in groups.items() for at, p in enumerate(group))
    by_id = {p.id: p for p in pool}
    n = len(ranked) if n is None else n
    chosen = [by_id[i] for _, _, i in ranked[:n]]
    if not 1 <= n <= len(ranked):
        raise ValueError(f"there are {len(ranked)} {split} prompts; asked for {n}")
    if len({p.category for p in chosen}) < min(CATEGORIES, n):
        raise ValueError(
            f"{n} {split} prompts come from fewer than {CATEGORIES} categories, which is too narrow; ask for more prompts"
        )
    return chosen
