"""Angles as tables: each cosine beside its nulls, with what a reader should make of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from ws.numbers import NO, finite, mean_sd, percent, signed, some, with_interval
from ws.results.sheet import Sheet
from ws.stats import Interval
from ws.watch.alarm import Z, auroc, by_chance, fpr_at
from ws.watch.matrix import Angle

EXPECTED = (
    f"a fine-tune that drifts toward a direction has a cos above its control and more than {Z:g} sd above the permuted "
    "labels (the rule was fixed before); one that does not lies among them."
)
CEILING = 0.05
CHANCE, SHARE = "random, sd", "share of |w|²"


def angle_sheet(angles: Sequence[Angle], title: str, steps: Sequence[int] | None = None) -> Sheet:
    """A line per fine-tune and direction, or per step of a training."""
    several = len({a.direction for a in angles}) > 1
    columns = ["step" if steps is not None else "fine-tune", *(["direction"] if several else [])]
    columns += ["cos", "permuted", "control", "z", "alarm", "of ceiling", "alphas", "|tau|", "random sd", "start"]
    lines = []
    for at, a in enumerate(angles):
        head = str(steps[at]) if steps is not None else a.name + (" *" if a.same_data else " †" if a.is_control else "")
        lines.append((head, *([a.direction] if several else []), *_cells(a)))
    return Sheet(
        title,
        EXPECTED,
        tuple(columns),
        tuple(lines),
        tuple({**({"step": steps[at]} if steps is not None else {}), **_flat(a)} for at, a in enumerate(angles)),
        tuple(readings(angles)),
        words=("fine-tune", "direction", "alarm", "start"),
        marked=tuple(at for at, a in enumerate(angles) if a.alarm),
        spare=3,
    )


def _cells(a: Angle) -> list[str]:
    against = a.against
    return [
        signed(a.cos, 3),
        mean_sd(against.permuted) if against.permuted else NO,
        signed(against.control, 3),
        signed(a.z, 1),
        {True: "ALARM", False: "no", None: NO}[a.alarm],
        percent(a.cos / a.ceiling) if a.ceiling is not None and a.ceiling > CEILING else NO,
        signed(a.alphas, 3),
        f"{a.norm:.3g}" if finite(a.norm) else NO,
        f"{sd:.4f}" if len(against.random) > 1 and finite(sd := float(np.std(against.random, ddof=1))) else NO,
        a.start,
    ]


def _flat(a: Angle) -> dict[str, object]:
    """The numbers of a line without its groups, for a CSV."""
    return {k: v for k, v in a.as_json().items() if not isinstance(v, (list, Mapping))} | {
        "permuted_mean": float(np.mean(a.against.permuted)) if a.against.permuted else None,
        "permuted_sd": float(np.std(a.against.permuted, ddof=1)) if len(a.against.permuted) > 1 else None,
        "n_permuted": len(a.against.permuted),
        "random_sd": float(np.std(a.against.random, ddof=1)) if len(a.against.random) > 1 else None,
        "n_random": len(a.against.random),
    }


def readings(angles: Sequence[Angle]) -> list[str]:
    """What the lines say together."""
    fired = [a for a in angles if a.alarm]
    judged = [a for a in angles if a.alarm is not None]
    lines = []
    if judged:
        n = min(len(a.against.permuted) for a in judged)
        lines.append(
            f"alarms: {len(fired)} of {some(len(judged), 'line')}; by chance alone z > {Z:g} comes in "
            f"{100 * by_chance(n):.1g} % of cases, for mean and sd are those of {n} permuted trainings."
        )
    if still := list(dict.fromkeys(a.name for a in angles if a.norm == 0)):
        lines.append(f"{', '.join(still)}: every matrix that is compared is the base's, so there is no angle.")
    if len(judged) < len(angles):
        lines.append(
            f"{some(len(angles) - len(judged), 'line')} without a verdict: a null of the same start is missing."
        )
    if any(a.is_control for a in angles):
        lines.append(
            "† trained on the pairs of the control, so there is none to hold it against: name another behavior by `control`."
        )
    if any(a.ceiling is not None and a.ceiling > CEILING and a.cos > a.ceiling for a in angles):
        lines.append(
            "`of ceiling` above 100 %: as near to the direction as a second training on its own data comes, or nearer; what is "
            "above is the luck of one training."
        )
    if any(a.z is not None and a.z < -Z for a in angles):
        lines.append(
            f"z below -{Z:g}: it moved toward the other pole. The alarm looks at the direction's own pole; `behaviors` looks at both."
        )
    if any(a.same_data for a in angles):
        lines.append("* trained on the very pairs of the direction: no test of anything but the arithmetic.")
    if any(a.start == "independent" for a in angles):
        lines.append(
            "independent starts make every cosine small: read `of ceiling`, against the same data trained twice from two starts."
        )
    return lines


def parts_sheets(angles: Sequence[Angle], scope: str) -> list[Sheet]:
    """For each direction its cosines by layer or by kind of matrix, beside the spread of random ones and where it lies itself."""
    return [
        _parts_sheet([a for a in angles if a.direction == direction], direction, scope)
        for direction in dict.fromkeys(a.direction for a in angles)
    ]


def _parts_sheet(own: Sequence[Angle], direction: str, scope: str) -> Sheet:
    """A line for each fine-tune and a column for each group; the other way round where there are more groups."""
    groups, by = list(own[0].parts[scope]), "layer" if scope == "layer" else "kind of matrix"
    parts = {g: [a.parts[scope][g] for a in own] for g in groups}
    spread = {g: [p["random_sd"] for p in some if p["random_sd"] is not None] for g, some in parts.items()}
    table = [("fine-tune", *_labels(groups))]
    table += [(a.name, *(signed(a.parts[scope][g]["cos"], 3) for g in groups)) for a in own]
    table.append((CHANCE, *(f"{max(spread[g]):.4f}" if spread[g] else NO for g in groups)))
    table.append((SHARE, *(percent(parts[g][0]["share_of_direction"]) for g in groups)))
    down = len(groups) > len(own)
    if down:
        table = list(zip(*table))
        table[0] = (by, *_labels([a.name for a in own], "/"), CHANCE, SHARE)
    records = [{"name": a.name, "direction": direction, "group": g, **a.parts[scope][g]} for a in own for g in groups]
    faint = () if down else (len(own), len(own) + 1)
    title = f"cos with {direction}, by {by}"
    return Sheet(title, "", table[0], tuple(table[1:]), tuple(records), words=(table[0][0],), faint=faint)


def _labels(names: Sequence[str], mark: str = ".") -> list[str]:
    """The last part of every name, where that tells them apart."""
    short = [name.rpartition(mark)[2] for name in names]
    return short if len(set(short)) == len(names) else list(names)


def labelled_sheet(scores: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str) -> Sheet:
    """AUROC and false-positive rate of each score, by the labels that were given."""
    lines, records = [], []
    for name, (pos, neg) in scores.items():
        area, rate = auroc(pos, neg), fpr_at(pos, neg)
        lines.append((name, str(len(pos)), str(len(neg)), _unsigned(area), _unsigned(rate)))
        records.append(
            {"score": name, "n_pos": len(pos), "n_neg": len(neg), **_ends("auroc", area), **_ends("fpr95", rate)}
        )
    return Sheet(
        title,
        "AUROC 1 tells all labelled fine-tunes apart, .5 none; intervals hold the fine-tunes that happened to be trained.",
        ("score", "drifting", "benign", "AUROC", "FPR at 95 % TPR"),
        tuple(lines),
        tuple(records),
        words=("score",),
    )


def _ends(name: str, e: Interval) -> dict[str, float]:
    return {name: e.value, f"{name}_lo": e.low, f"{name}_hi": e.high}


def _unsigned(e: Interval) -> str:
    return with_interval(e).replace("+", "")
