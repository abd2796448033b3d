"""`ws watch`: whether fine-tunes drift toward a behavior."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say_stage
from ws.cli.watch_behaviors import Look, chosen, pages_of
from ws.diff import lookup
from ws.errors import BadFile
from ws.models import open_checkpoint
from ws.models.checkpoint import Theta
from ws.models.locate import refuse_nowhere
from ws.numbers import some
from ws.records import Record, canonical, key_of, refuse_unwritable, slug, write_json
from ws.results.csv import write_csv
from ws.results.sheet import Sheet
from ws.settings import at_least, refuse_outside
from ws.study.options import Loading
from ws.study.planning import load_base
from ws.study.runs import behavior_of
from ws.types import Json
from ws.watch import make_nulls, opened, pictures, watched
from ws.watch.changes import without_folder
from ws.watch.checkpoints import Training, trainings
from ws.watch.matrix import Angle, matrix
from ws.watch.nulls import FEWEST_PERMUTED, PERMUTED, RANDOM, Watched
from ws.watch.tables import angle_sheet, labelled_sheet, parts_sheets

NAMES = ("cos", "svd_watch", "trait_drift")
PLACES: Declared = (
    list[str] | None,
    typer.Argument(
        metavar="[FINE-TUNE ...]",
        help="What is watched: adapters, checkpoints, runs, hub ids, BASE+ADAPTER, folders of these, or a training's output folder.",
    ),
)


@dataclass(frozen=True)
class Watching:
    """What fine-tunes are watched for."""

    directions: tuple[str, ...] = ()
    """Directions: runs by name or the beginning of one, files, adapters, hub ids; several separated by commas."""
    model: str | None = None
    """The base of everything; when not given, the one that the first direction was made on. With --base, the fine-tune to look at."""
    base: str | None = None
    """The base of a fine-tune that is named by --model: `ws watch --model FT --base BASE --behaviors all`."""
    behaviors: tuple[str, ...] = ()
    """One page on what a fine-tune did to these behaviors, or to all of them, by every detector."""
    n_questions: int = 48
    """Questions of each behavior that detectors read; twice as many ordinary ones."""
    detectors: tuple[str, ...] = ()
    """cos, svd_watch, trait_drift or all; cos alone when not given, and all with --behaviors."""
    permuted: tuple[str, ...] = ()
    """Directions of trainings with swapped labels; when not given, those that --make-nulls left beside the direction's run."""
    control: str | None = None
    """A direction, or a behavior with a run, that has nothing to do with what is watched for."""
    draws: int = RANDOM
    """Random directions like each direction."""
    make_nulls: bool = False
    """First train what is lacking: swapped labels, the same data twice, a control behavior."""
    n_permuted: int = PERMUTED
    """How many trainings with swapped labels --make-nulls makes."""
    labels: str | None = None
    """A CSV file (name,label) that says which fine-tunes drift (1) and which do not (0), for AUROC and false positives."""
    out: str = "out"
    """Output folder, below which runs are found and results are kept."""

    def __post_init__(self):
        refuse_outside(self, draws=at_least(2), n_permuted=at_least(FEWEST_PERMUTED), n_questions=at_least(4))
        if odd := [d for d in self.detectors if d not in (*NAMES, "all")]:
            raise ValueError(f"a detector is {', '.join(NAMES)} or all; got {odd[0]!r}")


@dataclass(frozen=True, eq=False)
class WatchedAngles(VerbResult):
    """Angles of fine-tunes, or of the steps of trainings."""

    angles: Sequence[Angle]
    sheets: Sequence[Sheet]
    notes: Sequence[str]
    folder: Path
    picture: Path
    more: Sequence[Sequence[str]]
    """Commands that may come next."""

    def as_json(self) -> Mapping[str, object]:
        return {
            "angles": [a.as_json() for a in self.angles],
            "tables": [{"title": s.title, "rows": s.records, "readings": s.readings} for s in self.sheets],
            "notes": self.notes,
            "folder": str(self.folder.resolve()),
            "picture": str(self.picture.resolve()),
        }

    def show(self, screen: Screen) -> None:
        for s in self.sheets:
            screen.sheet(s)
        for n in self.notes:
            screen.show(f"note: {screen.text(n)}")
        screen.show(safe_text(f"\npicture  {self.picture.resolve()}"))
        screen.show(safe_text(f"numbers  {self.folder.resolve()}/report.json, angles.csv"))
        if self.more:
            screen.next(*self.more)


@verb(Watching, Loading, places=PLACES)
def watch(options: Options) -> VerbResult:
    """Fine-tunes against directions, each cosine beside its nulls."""
    request, places = options.of(Watching), options.texts("places")
    if request.behaviors or request.base or {*request.detectors} - {"cos"}:
        return watch_behaviors(options, request, places)
    if not request.directions:
        raise ValueError("name what is watched for: --directions with a run, a direction file or an adapter")
    if not places and not request.make_nulls:
        raise ValueError(
            "name what is watched: adapters, checkpoints, runs or folders of these; or give --make-nulls alone"
        )
    refuse_unwritable(out := Path(request.out))
    labels = _labels(request.labels)
    model = request.model or lookup(request.directions[0], out).base_model()
    refuse_nowhere(model)
    if request.make_nulls:
        train_nulls(options, request, model)
    base = open_checkpoint(model)
    directions = [
        watched(text, base, out, permuted=request.permuted, control=request.control) for text in request.directions
    ]
    if not places:
        return NullsMade(directions, options.words_for("watch", without={"make_nulls", "n_permuted"}))
    steps = {place: trainings(place, base, out) for place in places}
    if any(steps.values()) and not all(steps.values()):
        odd = next(place for place in places if not steps[place])
        raise ValueError(
            f"{odd} holds no checkpoint-N folders, and the others do; watch trainings and fine-tunes apart"
        )
    if all(steps.values()):
        return _of_trainings(options, [t for several in steps.values() for t in several], directions, base, request)
    return _of_fine_tunes(options, places, directions, base, request, labels)


def watch_behaviors(options: Options, request: Watching, places: Sequence[str]) -> VerbResult:
    """One page for each fine-tune, with every detector's reading for every behavior."""
    out = Path(request.out)
    if request.base is not None:
        if places or not request.model:
            raise ValueError("with --base the fine-tune is named by --model, and by nothing else")
        places = [request.model]
    if not places:
        raise ValueError("name the fine-tune: ws watch --model FT --base BASE --behaviors all")
    if request.labels is not None or request.make_nulls:
        raise ValueError(
            "--labels and --make-nulls belong to --directions; leave out --behaviors, --base and --detectors"
        )
    runs = [lookup(text, out).run for text in request.directions]
    behaviors = request.behaviors or tuple(behavior_of(run) for run in runs if run is not None) or ("all",)
    base = request.base or request.model or (lookup(request.directions[0], out).base_model() if runs else None)
    if base is None:
        raise ValueError("name the base of the fine-tune: --model BASE, or --model FT --base BASE")
    refuse_nowhere(base)
    refuse_unwritable(out)
    look = Look(
        base, out, behaviors, chosen(request.detectors), request.directions, request.control, request.n_questions
    )
    return pages_of(options, look, places)


@dataclass(frozen=True, eq=False)
class NullsMade(VerbResult):
    """The nulls of directions."""

    directions: Sequence[Watched]
    command: Sequence[str]

    def as_json(self) -> Mapping[str, object]:
        return {"nulls": self._names}

    def show(self, screen: Screen) -> None:
        for direction, nulls in self._names.items():
            screen.show(safe_text(f"{direction}: {', '.join(nulls)}"))
        screen.next([*self.command, "FINE-TUNE"])

    @property
    def _names(self) -> dict[str, list[str]]:
        """Every direction with the names of its nulls, each once."""
        return {w.direction.name: list(dict.fromkeys(c.name for c in w.everything)) for w in self.directions}


def train_nulls(options: Options, request: Watching, model: str) -> None:
    """Train the nulls of every direction that is a run."""
    base = load_base(Loading(**{**options.typed(Loading), "model": model}))
    for text in request.directions:
        run = lookup(text, request.out).run
        if run is None:
            raise ValueError(f"--make-nulls trains on the pairs of a run, and {text} is none; name its run")
        make_nulls(run, base, permuted=request.n_permuted, control=request.control, say=_say_null)


def _say_null(record: Record) -> None:
    """One training that is done, called by what it is a null of, or as the control that it is."""
    behavior, name = record.folder.parents[2].name, record.folder.parents[1].name
    say_stage(f"control {record.folder.parents[2].name}" if behavior != "controls" else name, record)


def _of_trainings(
    options: Options, several: Sequence[Training], directions: Sequence[Watched], base: Theta, request: Watching
) -> VerbResult:
    """A curve for each training and direction."""
    sheets, curves, angles = [], [], []
    changes = [c for t in several for _, c in t.steps]
    every = matrix(changes, directions, base, draws=request.draws)
    by_direction = {
        w.direction.name: every[k * len(changes) : (k + 1) * len(changes)] for k, w in enumerate(directions)
    }
    at = 0
    for t in several:
        numbers, name = [s for s, _ in t.steps], t.steps[0][1].name
        own = []
        for direction, whole in by_direction.items():
            part = whole[at : at + len(numbers)]
            sheets.append(angle_sheet(part, f"{name} against {direction}, by step", numbers))
            own += part
        curves.append((name, numbers * len(directions), own))
        angles += own
        at += len(numbers)
    notes = [*dict.fromkeys(n for t in several for n in t.notes), *_notes(changes, directions, base)]
    folder = _folder(request, angles)
    title = f"drift over the steps of {', '.join(name for name, _, _ in curves)}"
    picture = pictures.curves(curves, title, folder / "curves")[0]
    return _kept(WatchedAngles(angles, sheets, notes, folder, picture, _next(options, directions)), angles)


def _of_fine_tunes(
    options: Options,
    places: Sequence[str],
    directions: Sequence[Watched],
    base: Theta,
    request: Watching,
    labels: Mapping[str, bool],
) -> VerbResult:
    """A line for each fine-tune and direction."""
    changes = without_folder([change for place in places for change in opened(place, base, Path(request.out))])
    labels = {
        name.rpartition("/")[2] if name not in {c.name for c in changes} else name: x for name, x in labels.items()
    }
    angles = matrix(changes, directions, base, draws=request.draws)
    title = f"{some(len(changes), 'fine-tune')} of {base.id} against {', '.join(w.direction.name for w in directions)}"
    sheets = [angle_sheet(angles, title)]
    if labels:
        sheets.append(labelled_sheet(_scores(angles, labels), "told apart by label"))
    sheets += [s for scope in ("layer", "kind") for s in parts_sheets(angles, scope)]
    folder = _folder(request, angles)
    picture = pictures.lines(angles, title, folder / "angles")[0]
    notes = _notes(changes, directions, base)
    return _kept(WatchedAngles(angles, sheets, notes, folder, picture, _next(options, directions)), angles)


def _scores(angles: Sequence[Angle], labels: Mapping[str, bool]) -> dict[str, tuple[list[float], list[float]]]:
    """Of every direction the cosines of the fine-tunes that drift and of those that do not."""
    names = {a.name for a in angles}
    if odd := sorted(labels.keys() - names):
        raise BadFile(
            f"--labels names {odd[0]!r}, which is not watched here; there are {', '.join(sorted(names)[:5])}."
        )
    scores: dict[str, tuple[list[float], list[float]]] = {}
    for a in angles:
        if a.name in labels:
            scores.setdefault(f"cos with {a.direction}", ([], []))[not labels[a.name]].append(a.cos)
    return scores


def _labels(path: str | None) -> dict[str, bool]:
    """Fine-tune to whether it drifts."""
    if path is None:
        return {}
    try:
        with open(path, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        labels = {row["name"]: {"1": True, "0": False}[row["label"].strip()] for row in rows}
    except (OSError, KeyError, AttributeError, UnicodeDecodeError) as e:
        raise BadFile(
            f"--labels {path} is no CSV file with the columns name and label, 1 or 0 ({type(e).__name__})."
        ) from None
    if len(set(labels.values())) < 2:
        raise BadFile(f"--labels {path} has no fine-tunes of both kinds, 1 and 0, so there is nothing to tell apart.")
    return labels


def _notes(changes: Sequence, directions: Sequence[Watched], base: Theta) -> list[str]:
    """What the numbers leave out, and which nulls are missing."""
    notes = [n for c in changes for n in c.notes]
    for w in directions:
        if lacking := w.missing():
            ceiling_alone = lacking == ["ceiling"]
            named = "" if ceiling_alone else "name them with --permuted and --control, or "
            how = (
                f"`ws watch --directions {w.run.name} --make-nulls` trains what is lacking"
                if w.run is not None
                else f"{named}give the direction's run and --make-nulls"
            )
            alarm = "" if ceiling_alone else "no alarm can be raised without; "
            notes.append(f"{w.direction.name} has no {', no '.join(lacking)}: {alarm}{how}.")
    return list(dict.fromkeys(notes))


def _next(options: Options, directions: Sequence[Watched]) -> list[list[str]]:
    if any(w.missing() and w.run is not None for w in directions) and not options.flag("make_nulls"):
        return [[*options.words_for("watch"), "--make-nulls"]]
    return []


def _folder(request: Watching, angles: Sequence[Angle]) -> Path:
    """A folder named by what is in it, so that other watches do not overwrite it."""
    key = key_of("watch", {}, {"angles": [a.as_json() for a in angles]})[:8]
    first = slug(angles[0].direction)
    folder = Path(request.out) / "watch" / f"{first}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _kept(result: WatchedAngles, angles: Sequence[Angle]) -> WatchedAngles:
    """The result, with its numbers as files."""
    report: Json = json.loads(canonical(result.as_json()))
    write_json(result.folder / "report.json", report)
    write_csv(result.folder / "angles.csv", [r for s in result.sheets if "cos" in s.columns for r in s.records])
    return result
