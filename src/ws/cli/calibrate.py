"""`ws calibrate`: the strength of each sign at which a method moves the model by a budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ws import methods
from ws.calibrate import CalibrateSettings, Calibration, how_many
from ws.calibrate.prompts import prompt_sets
from ws.cli.named import DIRECTION, PLACE, RUN, WAYS, name_of
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, say, say_stage
from ws.cli.study import ADAPTER, SEED, made_on, rooted
from ws.cli.tables import calibration_table
from ws.diff import lookup
from ws.methods.file import is_method
from ws.models import Base
from ws.models.locate import refuse_nowhere
from ws.pairs import marks_in
from ws.presets import preset
from ws.records import Record, refuse_unwritable
from ws.results.sentences.calibration import reading
from ws.study.card import note, strengths
from ws.study.options import Common
from ws.study.planning import load_base, plan_of, refuse_unreadable
from ws.study.stages import make_calibration, material


@dataclass(frozen=True)
class Calibrated:
    """What `ws calibrate` finds the strengths of."""

    method: str | None = None
    """A method by name, made from --behavior: ws:lora, repe, sl:mean_diff, paper:all, prompt:simple, random:act:0, vectors:FILE."""
    like: str | None = None
    """Instead of a budget: as much as this prompt does, e.g. prompt:engineered; needs --behavior."""
    save: str | None = None
    """Also write the method itself to this .safetensors file."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it, or it quantised."""


@dataclass(frozen=True, eq=False)
class Strengths(VerbResult):
    """The strengths of a method."""

    base: Base
    calibration: Calibration
    record: Record
    file: Path | None
    """Where the method itself was written."""
    unmarked: bool
    """Whether nothing says what the method was trained on."""
    subject: Sequence[str]
    """The words that name what was calibrated."""

    def as_json(self) -> Mapping[str, object]:
        return {
            "model": self.base.id,
            **self.calibration.as_json(),
            "folder": str(self.record.folder.resolve()),
            "plot": self._plot,
            "file": self.file and str(self.file.resolve()),
        }

    def show(self, screen: Screen) -> None:
        screen.show(calibration_table([self.calibration.as_json()]))
        screen.show("")
        screen.points(
            reading(side, self.calibration.settings, how_many(self.base.tiny))
            for side in (self.calibration.neg, self.calibration.pos)
        )
        if self.unmarked:
            screen.points(
                [
                    "note: the file does not say what it was trained on, so that was not compared with the prompts used here."
                ]
            )
        screen.show(f"\n{self._plot}" + (f"\n{self.file.resolve()}" if self.file else ""))
        strengths = f"--alphas={self.calibration.alpha_neg:.4g},0,{self.calibration.alpha_pos:.4g}"
        screen.next(["eval", "dilemmas", *self.subject, strengths])

    @property
    def _plot(self) -> str:
        return str((self.record.folder / "history.png").resolve())


@verb(Calibrated, CalibrateSettings, Common, place=PLACE, direction=DIRECTION, run=RUN, adapter=ADAPTER, seed=SEED)
def calibrate(options: Options) -> VerbResult:
    """The strengths of a direction or a method by name."""
    common, subject, name = rooted(options, options.of(Common)), options.of(Calibrated), name_of(options)
    settings = CalibrateSettings(**{**preset(common.preset, "calibrate"), **options.typed(CalibrateSettings)})
    _refuse_contradictions(options, subject, name)
    place = lookup(name, common.out) if name else None
    if place is not None and not options.has("model") and not is_method(place.path):
        common = made_on(common, place, origin=subject.origin)
    prompt_sets(common.model == "tiny", settings.n_calib, settings.n_audit)  # whether there are so many
    refuse_unreadable(common)
    for model in filter(None, (common.model, subject.origin)):
        refuse_nowhere(model)
    plan = None
    if subject.method or subject.like or common.behavior:
        plan = plan_of(common, options.only("adapter", "seed"))
    base = plan.base if plan else load_base(common)
    stuff = material(plan) if plan else methods.Material(base)
    origin = load_base(replace(common, model=subject.origin, quantize=None)) if subject.origin else None
    if name:
        method = methods.as_method(methods.load_named(name, origin or base, out=common.out))
    else:
        method = methods.make(subject.method or "", stuff)
    if origin is not None:
        method = methods.with_origin(method, origin)
    like = methods.make(subject.like, stuff) if subject.like else None
    behavior = plan.behavior if plan else None
    calibration, record = make_calibration(
        base, method, settings, Path(common.out), behavior=behavior, like=like, say=say
    )
    say_stage("calibrate", record)
    if place is not None and place.run is not None and like is None:
        note(place.run, place.direction(), base, strengths=strengths(calibration))
    return Strengths(
        base,
        calibration,
        record,
        file=methods.save(method, subject.save) if subject.save else None,
        unmarked=bool(name) and plan is None and marks_in(method.provenance) is None,
        subject=options.words_for("", without={"like", "save", *(f.name for f in fields(CalibrateSettings))})[1:],
    )


def _refuse_contradictions(options: Options, subject: Calibrated, name: str | None) -> None:
    if bool(name) == bool(subject.method):
        raise ValueError(f"ws calibrate needs a direction ({WAYS}) or --method NAME with --behavior, one of the two")
    if subject.like and not options.text("behavior"):
        raise ValueError("--like names a prompt of a behavior; say which with --behavior")
    if subject.save and Path(subject.save).suffix != ".safetensors":
        raise ValueError(f"--save names the file to write, which ends in .safetensors; got {subject.save}")
    if subject.like and options.has("budget"):
        raise ValueError("give --budget or --like, not both")
    if subject.save:
        refuse_unwritable(Path(subject.save).expanduser().parent, "save")
        if Path(subject.save).expanduser().is_dir():
            raise ValueError(f"--save names the file to write, and {subject.save} is a folder")
    for name in filter(None, (subject.method, subject.like)):
        methods.check(name)
