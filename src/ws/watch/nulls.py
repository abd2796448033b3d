"""What a cosine is read against: directions that mean nothing, another behavior, and the same data trained twice.

| null       | is                                                                                       | comes from        |
|------------|------------------------------------------------------------------------------------------|-------------------|
| random     | directions with the singular values of the watched one and random singular vectors       | drawn on the spot |
| permuted   | trainings on the watched direction's own pairs, the sides of each swapped by a coin      | `--make-nulls`    |
| control    | a behavior that has nothing to do with it, trained in the same way                       | `--make-nulls`    |
| ceiling    | its own pairs in another order, from the same start and from another one                 | `--make-nulls`    |

Two LoRA trainings that begin at one A have a cosine for that reason alone. A null is therefore used only where it shares
its start with what is watched just as the direction does.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ws.behaviors import Behavior, load_behavior
from ws.data import DataSettings, default_data
from ws.diff import lookup
from ws.models.checkpoint import Theta
from ws.models.load import Base
from ws.pairs import Pairs
from ws.progress import progress
from ws.records import Place, Record, read, run_folders
from ws.settings import coerced
from ws.study.keys import beside
from ws.study.plan import Plan, training_place
from ws.study.stages import make_direction, make_pairs, make_sides, pairs_of, written_sides
from ws.train import TrainSettings, train
from ws.types import Json
from ws.watch.changes import Change, direction_named, of_adapter, of_sides

PERMUTED = 5
"""Trainings with swapped labels that `--make-nulls` makes."""
FEWEST_PERMUTED = 3
"""Below so many there is no spread to speak of, and no alarm."""
RANDOM = 20
CONTROLS = ("trad_care", "honesty")
"""What is taken as a control where none is named: the first of these that is another behavior."""
STARTS = ("shared", "independent")
TWIN_SEED = 7_001
"""Added to the seed of the start where a twin has one of its own."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A direction, and what its cosines are read against."""

    direction: Change
    permuted: tuple[Change, ...] = ()
    controls: tuple[Change, ...] = ()
    twins: Mapping[str, tuple[Change, Change]] = field(default_factory=dict)
    """Start to the pos side of a second training on the same pairs, and to its direction."""
    run: Path | None = None

    @property
    def everything(self) -> list[Change]:
        """All nulls, in one order."""
        return [*self.permuted, *self.controls, *self.twin_changes]

    @property
    def twin_changes(self) -> list[Change]:
        """Of each twin its pos side and its direction."""
        return [change for pair in self.twins.values() for change in pair]

    def missing(self) -> list[str]:
        """The nulls that are lacking, in words."""
        lacking = []
        if len(self.permuted) < FEWEST_PERMUTED:
            lacking.append(f"permuted labels ({len(self.permuted)} of at least {FEWEST_PERMUTED})")
        lacking += ["control behavior"] if not self.controls else []
        return lacking + (["ceiling"] if not self.twins else [])


def watched(
    text: str,
    base: Theta,
    out: Path,
    *,
    permuted: Sequence[str] = (),
    control: str | None = None,
) -> Watched:
    """A direction by name, with the nulls that are named, or else those that lie below the output folder."""
    direction, run = direction_named(text, base, out), lookup(text, out).run
    named = tuple(replace(direction_named(p, base, out), name=f"permuted {k}") for k, p in enumerate(permuted))
    if len({text, *permuted}) <= len(permuted):
        raise ValueError(
            f"`permuted` names a direction twice, or {text} itself; each is a training of its own on swapped labels"
        )
    there = _there(run, base) if run is not None else Watched(direction)
    controls = there.controls if control is None else (_control_named(control, run, base, out),)
    return Watched(direction, named or there.permuted, controls, there.twins, run)


def _control_named(control: str, run: Path | None, base: Theta, out: Path) -> Change:
    """A control by its run or file, or by the behavior of a run like the watched one."""
    if run is not None and (like := _run_of_behavior(run, control)) is not None:
        return direction_named(str(like), base, out)
    return direction_named(control, base, out)


# ---------------------------------------------------------------- what there is


def _there(run: Path, base: Theta) -> Watched:
    """The nulls of a run that lie beside it."""
    permuted = []
    for k in range(100):
        folder = _permuted_place(run, k).folder
        if read(folder) is None:
            break
        permuted.append(of_sides(f"permuted {k}", folder, base))
    controls = []
    for behavior in _controls_of(run):
        if (like := _run_of_behavior(run, behavior)) is not None:
            controls = [direction_named(str(like), base, _out(run))]
            break
    twins = {}
    for start in STARTS:
        folder = _twin_place(run, start).folder
        if read(folder) is not None:
            pos = of_adapter(f"same data, {start} start", folder / "pos", base)
            twins[start] = (pos, of_sides(f"same data, {start} start", folder, base))
    empty = Change("", {})
    return Watched(empty, tuple(permuted), tuple(controls), twins, run)


def _manifest(run: Path) -> Mapping[str, Any]:
    manifest = read(run / "train")
    assert manifest is not None, f"{run} is a run"
    return manifest


def _out(run: Path) -> Path:
    return run.parents[2]


def _place(run: Path, **null: object) -> Place:
    """Where a training lies that differs from the run's in one thing."""
    manifest = _manifest(run)
    return training_place(
        _out(run), run.parents[1].name, manifest["model"]["id"], manifest["settings"], {**manifest["inputs"], **null}
    )


def _permuted_place(run: Path, draw: int) -> Place:
    return _place(run, labels=draw)


def _twin_place(run: Path, start: str) -> Place:
    return _place(run, twin=start)


def _controls_of(run: Path) -> list[str]:
    return [name for name in CONTROLS if name != run.parents[1].name]


def _run_of_behavior(run: Path, behavior: str) -> Path | None:
    """A run of another behavior that was trained on the same base in the same way."""
    own = _manifest(run)
    for other in run_folders(_out(run)):
        manifest = _manifest(other)
        same_base = all(manifest["inputs"].get(k) == own["inputs"].get(k) for k in ("fingerprint", "weights"))
        if other.parents[1].name == behavior and same_base and manifest["settings"] == own["settings"]:
            return other
    return None


# ---------------------------------------------------------------- making what there is not


def make_nulls(
    run: Path,
    base: Base,
    *,
    permuted: int = PERMUTED,
    starts: Sequence[str] = STARTS,
    control: str | None = None,
    say: Callable[[Record], object] = lambda record: None,
) -> list[Record]:
    """Train the nulls of a run, each once: `permuted` swapped trainings, the same data again from `starts`, a control behavior."""
    manifest, out = _manifest(run), _out(run)
    material = pairs_of(manifest, out)
    # as they stand there: 2 and 2.0 epochs would be two trainings
    fields: Json = {k: tuple(v) if isinstance(v, list) else v for k, v in manifest["settings"].items()}
    settings = TrainSettings(**fields)
    trainings: list[Callable[[], Record]] = []
    for k in range(permuted):
        trainings.append(partial(_trained, _permuted_place(run, k), base, material.pairs.shuffled(k), settings))
    for start in starts:
        seed = settings.seed + TWIN_SEED if start == "independent" else None
        pairs = reordered(material.pairs)
        trainings.append(partial(_trained, _twin_place(run, start), base, pairs, settings, start_seed=seed))
    if control is None or _run_of_behavior(run, control) is None:
        trainings.append(partial(_made_control, run, base, control or _controls_of(run)[0], material.pairs, settings))
    records = []
    with progress(len(trainings), f"nulls of {run.parents[1].name}") as done:
        for train_one in trainings:
            records.append(train_one())
            say(records[-1])
            done(1)
    return records


def reordered(pairs: Pairs, seed: int = 0) -> Pairs:
    """The same pairs in another order, which is another order of training."""
    rows = list(pairs.rows)
    random.Random(f"reordered/{seed}").shuffle(rows)
    return Pairs(tuple(rows), {**pairs.provenance, "reordered": seed})


def _trained(
    place: Place, base: Base, pairs: Pairs, settings: TrainSettings, *, start_seed: int | None = None
) -> Record:
    def make(work: Path) -> Mapping[str, Any]:
        return written_sides(work, train(base, pairs, settings, work=work, start_seed=start_seed), base)

    return place.once(make, beside=beside(base))


def _made_control(run: Path, base: Base, behavior: str, pairs: Pairs, settings: TrainSettings) -> Record:
    """The direction of a behavior that has nothing to do with the watched one, asked and trained as the run was."""
    control = load_behavior(behavior, tiny=base.tiny)
    plan = Plan(base, control, data_like(base, pairs, control), settings, out=_out(run))
    own, _ = make_pairs(plan)
    sides, record = make_sides(plan, own)
    make_direction(plan, sides)
    return record


def data_like(base: Base, pairs: Pairs, behavior: Behavior) -> DataSettings:
    """How another behavior is asked as often as some pairs were: by their own settings, or, where their answers were there
    already, with about as many answers that are no longer than theirs."""
    if pairs.provenance.get("source") in ("generated", "endpoint"):
        return DataSettings(**coerced(DataSettings, pairs.provenance["settings"], source="the run's "))
    n, longest = len(pairs.rows), max(max(r.n_tok_pos, r.n_tok_neg) for r in pairs.rows)
    topics = min(len(behavior.train), len({r.topic_idx for r in pairs.rows}))
    personas = min(len(behavior.pairs), max(1, round(n / topics))) or 1
    samples = max(1, round(n / (topics * personas)))
    return replace(default_data(base), n_topics=topics, n_personas=personas, n_samples=samples, max_new_tokens=longest)
