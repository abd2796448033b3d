"""What is written on the card of a run's direction: the command that makes it, and what was measured of it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ws.behaviors import names
from ws.calibrate import Calibration
from ws.data import default_data
from ws.direction import Direction
from ws.direction import load as load_direction
from ws.direction.card import merged
from ws.direction.file import write_with_card
from ws.models.load import Base
from ws.numbers import finite
from ws.records import amend, canonical, read
from ws.results.sentences import side_of
from ws.study.plan import Plan
from ws.train import default_train
from ws.types import Fields, Json

DIRECTION = "direction.safetensors"


def command_of(plan: Plan) -> str:
    """The command that makes a study's direction again, with what differs from the defaults; files by their names alone."""
    base, behavior, train = plan.base, plan.behavior, plan.train
    options: Json = {"model": None if base.tiny else f"{base.id}@{base.revision}" if base.revision else base.id}
    if plan.pairs_file is not None:
        options["pairs"] = plan.pairs_file.name
    if behavior is not None:
        options["behavior"] = behavior.name if behavior.name in names() else f"{behavior.name}.yaml"
    options["adapter"] = train.adapter
    usual = {**asdict(default_data(base)), **asdict(default_train(base, train.adapter))}
    own = {**({} if plan.has_answers else asdict(plan.data)), **asdict(train)}
    # as text, because a run's key tells 2 from 2.0
    options |= {n: value for n, value in own.items() if n != "adapter" and canonical(value) != canonical(usual[n])}
    options["mode"] = None if plan.mode == "contrastive" else plan.mode
    words = [_option(name, value) for name, value in options.items() if value is not None and value is not False]
    return " ".join(["ws diff", *words])


def _option(name: str, value: object) -> str:
    flag = "--" + name.replace("_", "-")
    if value is True:
        return flag
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return f"{flag}={text}" if text.startswith("-") else f"{flag} {shlex.quote(text)}"


def effects(rows: Sequence[Fields], intent: Mapping[str, int]) -> list[Json]:
    """The change of each metric that the behavior claims, between the ends of the dial, with its interval."""
    result: list[Json] = []
    for metric in dict.fromkeys(r["metric"] for r in rows if side_of(r["metric"], intent)):
        group = sorted((r for r in rows if r["metric"] == metric), key=lambda r: r["alpha"])
        first, last = group[0], group[-1]
        if first["alpha"] < last["alpha"] and finite(last["ends"]):
            bounds = {name: last[f"ends_{name}"] if finite(last[f"ends_{name}"]) else None for name in ("lo", "hi")}
            what = {name: last[name] for name in ("eval", "protocol", "metric")}
            ends = {"from": first["alpha"], "to": last["alpha"], "change": last["ends"], "units": last["n"]}
            result.append({**what, **ends, **bounds})
    return result


def strengths(calibration: Calibration) -> list[Json]:
    """The strengths of both signs at a budget."""
    sides = {"neg": calibration.alpha_neg, "pos": calibration.alpha_pos, "matched": calibration.matched}
    return [{"budget": calibration.settings.budget, **sides}]


def note(run: Path, direction: Direction, measured_on: Base, **more: Sequence[Json]) -> None:
    """Write on the card of a run's direction what is newly known of it: `effects`, `strengths` or `answers`.

    Only what was measured on the base it was made on: on a fine-tune of that base, the same strength does something else.
    """
    if direction.fingerprint not in (None, measured_on.fingerprint):
        return
    more = {part: entries for part, entries in more.items() if entries}
    for folder in run.glob("direction*"):
        manifest = read(folder)
        if manifest is None or manifest["content"] not in direction.content_hashes:
            continue
        card = dict(load_direction(folder / DIRECTION).card)
        if (grown := merged(card, more)) != card:
            amend(folder, DIRECTION, partial(write_with_card, folder / DIRECTION, grown))
