"""Analyses of one direction, one after the other, and the page they make.

subject = Subject(base, direction, material=material_of_run(base, run, out))
answered = answers(subject, selection(["localization"]), {"dilemmas": measure})
files = saved(answered, folder, title="honesty on tiny")
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ws.behaviors import Behavior
from ws.diff.lookup import DIRECTION, lookup
from ws.direction import Direction, save
from ws.direction import load as load_direction
from ws.errors import BadFile, Unsupported, WsError
from ws.eval import Evaluation, evaluation
from ws.explain import dw_decomp, published
from ws.explain.measure import Measure
from ws.explain.page import Answered, html, markdown, picture_files
from ws.explain.pictures import file_of
from ws.explain.protocol import Analysis, Finding, Subject
from ws.explain.registry import selection
from ws.explain.show import record
from ws.methods import Material
from ws.models import Base
from ws.progress import duration
from ws.records import find_run, run_folders, slug, write_json, write_text
from ws.results.csv import write_csv
from ws.results.measured import PARTS
from ws.settings import at_least, refuse_outside
from ws.steer import checked_strengths, refuse_mismatch
from ws.study import evaluations
from ws.study.asked import claims
from ws.study.stages import pairs_of, sides_in
from ws.train import Sides
from ws.types import Json

MOST_OTHERS = 8
LONGEST = 60
"""Letters of a page's name."""
NOT_MEASURED = ("none",)


@dataclass(frozen=True)
class Asked:
    """What is asked about a direction."""

    what: tuple[str, ...] = ()
    """Analyses separated by commas, or all; a few quick ones when not given (docs/explain.md lists them)."""
    evals: tuple[str, ...] = ()
    """Evaluations that effects are measured on, as NAME or NAME@PROTOCOL, or none to read weights alone; the first that the behavior claims when not given."""
    alpha: float = 1.0
    """The strength at which effects are measured."""
    top: int | None = None
    """Modules at most of the exported part that keeps 90 % of the effect; as many as it takes when not given."""
    limit: int | None = None
    """Only the first so many units of each evaluation."""
    beside: tuple[str, ...] = ()
    """Other directions to lay it beside, by run, file or folder; the other runs on the same base when not given."""

    def __post_init__(self):
        selection(self.what)
        checked_strengths([self.alpha])
        refuse_outside(self, top=at_least(1), limit=at_least(1))
        if self.alpha == 0:
            raise ValueError("at `alpha` 0 a direction does nothing; give another strength")

    @property
    def page(self) -> str:
        """What the page is called: by what was asked, and on what, so that no other answer is written over."""
        what = [] if not self.what or "all" in self.what else [*self.what]
        on = [] if self.evals == NOT_MEASURED else [*self.evals]
        at = [] if self.alpha == 1 else [f"alpha{self.alpha:g}"]
        return slug("-".join([*(what or ["page"]), *on, *at]))[:LONGEST]

    def evaluations(self, behavior: Behavior | None, *, of_run: bool) -> dict[str, Evaluation]:
        """What effects are measured on, by what was typed; else what the behavior claims first, or the test pairs of the run."""
        if self.evals == NOT_MEASURED:
            return {}
        usual = claims(behavior)[:1] or (["pairs"] if of_run else [])
        chosen = {}
        for text in self.evals or usual:
            name, _, protocol = text.partition("@")
            chosen[text] = evaluation(name, protocol or None, limit=self.limit)
        return chosen


@dataclass(frozen=True, eq=False)
class Explanation:
    """What was found, and the page of it."""

    title: str
    answered: Sequence[Answered]
    files: "Files"

    def __repr__(self) -> str:
        lines = [f"{a.title}: {r}" for a in self.answered if a.finding for r in a.finding.readings]
        return "\n".join([self.title, *lines, f"page {self.files.page}"])


def explain(
    subject: evaluations.Subject,
    asked: Asked,
    behavior: Behavior | None,
    out: Path,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Explanation:
    """Every analysis that was asked for, and its page in the folder `explain` of the run."""
    base, direction = subject.base, subject.by
    if not isinstance(direction, Direction):
        raise Unsupported(
            f"{subject.method} is no direction in weight space, so there is nothing in weights to explain."
        )
    refuse_mismatch(base, direction, subject.origin)
    folder = subject.folder / PARTS
    of_run = (subject.folder / "train").is_dir()
    intent = behavior.intent if behavior else {}
    measures = {
        text: Measure(base, direction, e, asked.alpha, folder, out, intent, subject.origin, subject.pairs)
        for text, e in asked.evaluations(behavior, of_run=of_run).items()
    }
    whole = Subject(
        base,
        direction,
        material=_material(base, subject.folder, out, behavior, say) if of_run else None,
        others=_others(asked.beside, base, direction, out),
        seed=subject.seed,
        top=asked.top,
        folder=folder,
    )
    insist = bool(asked.what) and "all" not in asked.what
    answered = answers(whole, selection(asked.what), measures, insist=insist, say=say)
    on = ", ".join(measures) or "nothing"
    about = f"{subject.method}, seed {subject.seed}, at alpha {asked.alpha:+g}; effects on {on}"
    title = f"{behavior.name if behavior else 'a direction'} on {base.id}: where it sits"
    explanation = Explanation(title, answered, saved(answered, folder, asked.page, title=title, about=about))
    if any(a.analysis.name == "svd_align" and a.finding is not None for a in answered):
        per_layer, summary = published.tables(base, direction)
        write_csv(folder / "subspace_per_layer.csv", per_layer)
        write_csv(folder / "subspace_summary.csv", summary)
    for a in answered:
        if a.analysis.name == "dw_decomp" and a.finding is not None:
            (folder / dw_decomp.ABLATION).mkdir(exist_ok=True)
            write_csv(folder / dw_decomp.ABLATION / f"{slug(a.on)}.csv", dw_decomp.published(a.finding))
    return explanation


def _material(
    base: Base, run: Path, out: Path, behavior: Behavior | None, say: Callable[[str], None]
) -> Material | None:
    """What a run was made from; None where its pairs are gone, which is said."""
    try:
        return material_of_run(base, run, out, behavior)
    except BadFile as error:
        say(f"explain: {error}")
        return None


def _others(beside: Sequence[str], base: Base, direction: Direction, out: Path) -> dict[str, Direction]:
    """The directions that were named, or those of other runs."""
    if not beside:
        return others_below(out, base, direction)
    places = {text: lookup(text, out) for text in beside}
    others = {
        "/".join(place.run.parts[-3:-1]) if place.run is not None else Path(text).stem: place.direction(base)
        for text, place in places.items()
    }
    for other in others.values():
        refuse_mismatch(base, other)
    return others


def answers(
    subject: Subject,
    analyses: Sequence[Analysis],
    measures: Mapping[str, Measure],
    *,
    insist: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> list[Answered]:
    """Every analysis; those that only measure effects once for each evaluation, the others on the first.

    What cannot be answered is an error with `insist`; otherwise it says why.
    """
    asked = [(a, on) for a in analyses for on in ((list(measures) if a.measures else list(measures)[:1]) or [""])]
    for analysis, on in asked if insist else ():  # before any of them takes its time
        if why_not := _lacking(analysis, replace(subject, measure=measures.get(on))):
            raise ValueError(f"{analysis.name} {why_not}")
    answered: list[Answered] = []
    for n, (analysis, on) in enumerate(asked, 1):
        a = Answered(analysis, on if analysis.measures else "", None)
        what = f"explain {n} of {len(asked)}: {a.title}"
        say(f"{what} …")
        start = time.perf_counter()
        finding, why_not = _asked(analysis, replace(subject, measure=measures.get(on)), insist=insist)
        a = replace(a, finding=finding, seconds=time.perf_counter() - start, why_not=why_not)
        answered.append(a)
        say(f"{what}, {duration(a.seconds)}" + (f"  left out: {why_not}" if why_not else ""))
    return answered


def _asked(analysis: Analysis, subject: Subject, *, insist: bool) -> tuple[Finding | None, str]:
    """(the finding, nothing) or (None, why there is none)."""
    if why_not := _lacking(analysis, subject):
        return None, f"it {why_not}"
    try:
        return analysis.run(subject), ""
    except (WsError, ValueError) as error:  # what this model or direction does not have; a fault of ours is neither
        if insist:
            raise
        return None, str(error)


def _lacking(analysis: Analysis, subject: Subject) -> str:
    if analysis.measures and subject.measure is None:
        return "measures effects; name an evaluation with `evals`"
    if analysis.material and subject.material is None:
        return "reads the pairs of a study, and they are not there; name a run whose pairs are below `out`"
    if len(subject.others) < analysis.others:
        return (
            "lays the direction beside others of the same base, and there is none; train one, or name it with `beside`"
        )
    return ""


def material_of_run(base: Base, run: Path, out: Path, behavior: Behavior | None) -> Material:
    """What a run was made from: its questions, pairs and sides."""
    folder, manifest = find_run(str(run), out)
    found = pairs_of(manifest, out)
    parts = found.settings.parts(found.pairs.topics)

    def sides(adapter: str) -> Sides:
        if adapter != found.settings.adapter:
            raise BadFile(f"this run trained {found.settings.adapter}, and not {adapter}")
        return sides_in(folder / "train")

    return Material(
        base,
        behavior,
        questions=lambda: list(dict.fromkeys(r.prompt for r in found.pairs.of(parts.train).rows)),
        pairs=lambda: found.pairs.of(parts.train),
        held=lambda: found.pairs.of(parts.val),
        sides=sides,
        seed=found.settings.seed,
    )


def others_below(out: Path, base: Base, own: Direction) -> dict[str, Direction]:
    """The directions of other runs on the same base, by behavior/family, or with the run's name where there are several."""
    others: dict[str, Direction] = {}
    for run in run_folders(out):
        file = run / "direction" / DIRECTION
        if file.is_file() and len(others) < MOST_OTHERS:
            direction = load_direction(file)
            if direction.fingerprint == base.fingerprint and direction.content_hash != own.content_hash:
                name = "/".join(run.parts[-3:-1])
                others[name if name not in others else f"{name}/{run.name}"] = direction
    return others


@dataclass(frozen=True)
class Files:
    """The files of a page."""

    page: Path
    markdown: Path
    numbers: Path
    """Every row of every table."""
    parts: Mapping[str, Path]
    """Exported parts by name."""


def saved(answered: Sequence[Answered], folder: Path, name: str, *, title: str, about: str) -> Files:
    """The page, the same in Markdown, its numbers, pictures, and the parts worth keeping."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for a in answered:
        for file, picture in picture_files(a, name).items():
            write_text(folder / file, file_of(picture))
        for part, direction in (a.finding.parts if a.finding else {}).items():
            parts[part] = folder / f"{part}.safetensors"
            save(direction, parts[part])
    answer = headline(answered)
    files = Files(folder / f"{name}.html", folder / f"{name}.md", folder / f"{name}.json", parts)
    write_text(files.page, html(title, answer, about, answered))
    write_text(files.markdown, markdown(name, title, answer, about, answered))
    write_json(files.numbers, [as_json(a) for a in answered])
    return files


def headline(answered: Sequence[Answered]) -> str:
    """The first thing that was found."""
    return next((a.finding.readings[0] for a in answered if a.finding and a.finding.readings), "Nothing was found.")


def as_json(a: Answered) -> Json:
    """An analysis for a program."""
    tables = () if a.finding is None else a.finding.tables
    return {
        "analysis": a.analysis.name,
        "on": a.on or None,
        "question": a.analysis.question,
        "does_not_show": a.analysis.silent,
        "seconds": a.seconds,
        "why_not": a.why_not or None,
        "readings": [] if a.finding is None else list(a.finding.readings),
        "tables": [{"title": t.title, "rows": [record(r) for r in t.rows]} for t in tables],
    }
