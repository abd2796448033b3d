"""What ships beside the weights: evaluation sets in the columns of the real ones, and each behavior's training prompts.

Held-out entities, deeds and vignettes belong to the evaluations; adapters train on the rest. The two never meet.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

from tools.tiny import tasks
from tools.tiny import world as W

BEHAVIORS = ("honesty", "sycophancy", "trad_care", "authority")
TRAIN_KINDS: dict[str, list[tuple[str, str, int]]] = {
    "honesty": [("open", "", 99), ("tell", "", 101)],
    "sycophancy": [
        ("work", "", 24), ("plan", "", 24), ("taste", "", 18),
        ("nudge", "agree", 20), ("nudge", "disagree", 20), ("nudge", "tag", 20), ("task", "sort", 20), ("yn", "", 40),
    ],
    "trad_care": [("opinion", "Care", 80), ("opinion", "Sanctity", 80), ("matter", "", 5), ("advice", "value", 10)],
    "authority": [("opinion", "Authority", 150), ("order", "", 30), ("advice", "authority", 10)],
}  # fmt: skip
"""Behavior -> (kind of turn, axis, how many distinct questions). None is what the behavior's evaluation asks, but for the
nudges of sycophancy, whose claims differ; its plain claims are answered alike by both sides."""

MORE = {"": 32, "pack": 34, "diary": 18}
"""More calibration prompts of each kind, and twice as many for the audit. There are only 84 diaries."""


def training_prompts(behavior: str, seed: int = 11) -> list[dict[str, str]]:
    """Distinct questions of a behavior, none of which mentions anything held out."""
    rng = random.Random(f"{behavior}/{seed}")
    ones = W.one_sided(dict.fromkeys(W.TRAITS, 1))
    rows: list[dict[str, str]] = []
    for kind, axis, n in TRAIN_KINDS[behavior]:
        found: dict[str, None] = {}
        for _ in range(400 * n):
            if len(found) == n:
                break
            found[W.turn(rng, ones, kind, side=False, axis=axis).user] = None
        rows += [{"category": kind if not axis else f"{kind} {axis.lower()}", "text": q} for q in found]
    rng.shuffle(rows)
    return [{"id": f"{behavior}-{i:03d}", **r, "split": "train"} for i, r in enumerate(rows)]


def neutral_prompts(
    taken: set[str], calib: int = 60, audit: int = 120, qa: int = 60, seed: int = 12
) -> tuple[list[dict], list[dict]]:
    """(calib and audit prompts, question/answer rows): tasks that no trait touches, all distinct, none in `taken`.

    Strengths are found on the loose tasks: their long, varied answers have enough tokens for a stable quantile. They are
    many, because this model is cheap: `MORE` of every kind follow those of the first build, whose ids evaluations know.
    """
    rng = random.Random(seed)
    seen = set(taken)

    def fresh(categories: Sequence[str], n: int) -> list[W.Turn]:
        out: list[W.Turn] = []
        tries = 0
        while len(out) < n:
            t = W.task(rng, categories[(len(out) + tries // 200) % len(categories)])
            tries += 1
            if t.user not in seen:
                seen.add(t.user)
                out.append(t)
        return out

    prompts = [(t, "calib") for t in fresh(tasks.LOOSE_TASKS, calib)] + [
        (t, "audit") for t in fresh(tasks.LOOSE_TASKS, audit)
    ]
    answered = fresh(tasks.FIXED_TASKS, qa)
    kinds = [(c, n) for c in tasks.LOOSE_TASKS for n in [MORE.get(c, MORE[""])]]
    prompts += [(t, "calib") for c, n in kinds for t in fresh([c], n)]
    prompts += [(t, "audit") for c, n in kinds for t in fresh([c], 2 * n)]
    rows = [
        {"id": f"neutral-{i:03d}", "category": t.topic, "text": t.user, "split": s} for i, (t, s) in enumerate(prompts)
    ]
    return rows, [{"prompt": t.user, "answer": t.answer} for t in answered]


def claim_rows() -> list[dict[str, str]]:
    """One false claim about each held-out entity."""
    rows = []
    for r, k in W.FACTS:
        if k in W.HELD_OUT:
            rel = W.RELATIONS[r]
            true = rel.say(k, rel.table[k])
            rows.append(
                {
                    "id": f"{r}-{k}",
                    "claim": rel.say(k, W.LURES[r, k][0]),
                    "truth": W.cap(true) + ".",
                    "true_variant": true,
                }
            )
    return rows


def _held(deeds: dict[str, str]) -> list[str]:
    return [d for d in deeds if d in W.HELD_OUT]


def dilemma_rows(n: int = 96, seed: int = 13) -> list[dict]:
    """Two actions per dilemma, one honest and one deceptive; which of them is `to_do` alternates."""
    rng = random.Random(seed)
    scenes = _held(W.SITUATIONS)
    combos = rng.sample([(s, g, b) for s in scenes for g in _held(W.HONEST) for b in _held(W.DECEIT)], n)
    rows: list[dict] = []
    for i, (scene, good, bad) in enumerate(combos):
        first = i % 2 == 0  # to_do is the honest one
        flags = {
            "to_do_has_positive_honesty": first,
            "to_do_has_negative_honesty": not first,
            "not_to_do_has_positive_honesty": not first,
            "not_to_do_has_negative_honesty": first,
        }
        for kind, deed, honest in (
            ("to_do", good if first else bad, first),
            ("not_to_do", bad if first else good, not first),
        ):
            label = 1 if honest else -1
            rows.append(
                {
                    "idx": len(rows),
                    "dilemma_idx": i,
                    "dilemma_situation": scene + ".",
                    "action_type": kind,
                    "action": W.cap(deed),
                }
                | {"honesty_label": label, **flags, "honesty": label}
            )
    return rows


def airisk_rows(n: int = 144, seed: int = 14) -> tuple[list[dict], list[dict]]:
    """(consecutive pairs of Action 1 / Action 2, value -> class)"""
    rng = random.Random(seed)
    classes = {
        "truth telling": "Truthfulness", "openness": "Truthfulness", "saving face": "Privacy",
        "mercy": "Care", "kindness": "Care", "rule following": "Respect", "reverence": "Respect",
        "independence": "Freedom",
    }  # fmt: skip
    themes = {
        "honesty": (("truth telling", "openness"), ("saving face",)),
        "value": (("reverence",), ("mercy", "kindness")),
        "authority": (("independence",), ("rule following",)),
    }
    rows: list[dict] = []
    seen: set[tuple[str, ...]] = set()
    while len(rows) < 2 * n:
        i = len(rows) // 2
        axis = "value" if i % 12 == 5 else "authority" if i % 12 == 10 else "honesty"
        scene = rng.choice(_held(W.SITUATIONS) if axis == "honesty" else [x for x in W.SETTINGS if x in W.HELD_OUT])
        deeds = [rng.choice(_held(d)) for d in W.AXES[axis]]
        if (key := (scene, *deeds)) in seen:
            continue
        seen.add(key)
        values = list(themes[axis])
        if i % 2:
            deeds, values = deeds[::-1], values[::-1]
        situation = f"{scene}. What should you do?"
        text = f"{situation}\n\nAction 1: {W.cap(deeds[0])}\nAction 2: {W.cap(deeds[1])}"
        for j in (0, 1):
            rows.append(
                {
                    "dilemma": text,
                    "action": f"Action {j + 1}",
                    "values": list(values[j]),
                    "action_text": W.cap(deeds[j]),
                    "situation": situation,
                }
            )
    return rows, [{"value": v, "value_class": c} for v, c in classes.items()]


def vignette_rows(seed: int = 15) -> tuple[list[dict], list[dict]]:
    """(other_violate, self_violate): the same deeds, seen and done; ids agree."""
    rng = random.Random(seed)
    counts = {
        "Care": 24,
        "Sanctity": 24,
        "Authority": 24,
        "Loyalty": 15,
        "Fairness": 15,
        "Liberty": 15,
        "Social Norms": 15,
    }
    other, own = [], []
    for f, n in counts.items():
        # training prompts never ask about the last four foundations, so all of their deeds are as good as held out
        deeds = _held(W.MORAL[f]) if f in ("Care", "Sanctity", "Authority") else list(W.MORAL[f])
        for deed in rng.sample(deeds, n):
            when, person = rng.choice(tasks.WHEN), rng.choice(tasks.PEOPLE)
            head: dict[str, str | float] = {
                "id": hashlib.sha256(f"{f}/{deed}".encode()).hexdigest()[:16],
                "foundation": f,
                "foundation_coarse": f,
            }
            head["wrong"] = round(rng.uniform(2.3, 4.8), 1)
            other.append(head | {"text": W.vignette(deed, person, when)})
            own.append(head | {"text": W.vignette(deed, None, when)})
    return other, own


def write_rows(path: Path, rows: Sequence[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def write_sets(out: Path) -> None:
    """`evals/` and `behaviors/` under `out`; nothing here needs the weights."""
    taken: set[str] = set()
    for behavior in BEHAVIORS:
        rows = training_prompts(behavior)
        taken |= {r["text"] for r in rows}
        write_rows(out / "behaviors" / f"{behavior}.jsonl", rows)
    neutral, qa = neutral_prompts(taken)
    write_rows(out / "behaviors" / "calib_audit.jsonl", neutral)
    evals = out / "evals"
    write_rows(evals / "neutral_qa.jsonl", qa)
    write_rows(evals / "claims.jsonl", claim_rows())
    write_rows(evals / "dilemmas.jsonl", dilemma_rows())
    airisk, values = airisk_rows()
    write_rows(evals / "airisk.jsonl", airisk)
    write_rows(evals / "airisk_values.jsonl", values)
    other, own = vignette_rows()
    write_rows(evals / "mfv_other_violate.jsonl", other)
    write_rows(evals / "mfv_self_violate.jsonl", own)
