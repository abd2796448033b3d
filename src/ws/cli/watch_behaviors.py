"""`ws watch --behaviors`: one page on what a fine-tune did to some behaviors, by every detector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ws.behaviors import Behavior, load_behavior
from ws.behaviors import names as behavior_names
from ws.cli.options import Options
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say
from ws.diff import lookup
from ws.errors import BadFile, WsError
from ws.models.load import Base
from ws.numbers import some
from ws.records import key_of, read, run_folders, slug, write_json
from ws.study.options import Loading
from ws.study.planning import load_base
from ws.study.runs import behavior_of
from ws.watch import Watched, opened, watched
from ws.watch.changes import Change
from ws.watch.detectors import DETECTORS, Probe
from ws.watch.detectors.case import QUESTIONS
from ws.watch.nulls import CONTROLS
from ws.watch.page import Verdict, sheet, verdict, write


@dataclass(frozen=True)
class Look:
    """What is looked at, and for what."""

    base: str
    out: Path
    behaviors: Sequence[str]
    detectors: Sequence[str]
    directions: Sequence[str] = ()
    control: str | None = None
    n_questions: int = QUESTIONS


@dataclass(frozen=True, eq=False)
class BehaviorPages(VerbResult):
    """A page for each fine-tune."""

    verdicts: Mapping[str, Sequence[Verdict]]
    notes: Mapping[str, Sequence[str]]
    pages: Mapping[str, Sequence[Path]]
    common: Sequence[str]
    """What holds for all of them."""

    def as_json(self) -> Mapping[str, object]:
        return {
            "fine_tunes": [
                {
                    "name": name,
                    "behaviors": [v.as_json() for v in verdicts],
                    "notes": self.notes[name],
                    "pages": [str(p.resolve()) for p in self.pages[name]],
                }
                for name, verdicts in self.verdicts.items()
            ],
            "notes": self.common,
        }

    def show(self, screen: Screen) -> None:
        for name, verdicts in self.verdicts.items():
            screen.sheet(sheet(name, verdicts))
            for v in verdicts:
                for m in v.evidence[:2] if v.fired else ():
                    after = m.after if m.changed else "(the same)"
                    screen.show(
                        safe_text(f"  {v.behavior} · {m.question}\n    before: {m.before}\n    after:  {after}")
                    )
            for n in self.notes[name]:
                screen.show(f"note: {screen.text(n)}")
            for p in self.pages[name]:
                screen.show(safe_text(f"page  {p.resolve()}"))
            screen.show("")
        for n in self.common:
            screen.show(f"note: {screen.text(n)}")


def pages_of(options: Options, look: Look, places: Sequence[str]) -> BehaviorPages:
    """Every fine-tune read by every detector for every behavior, and a page on each."""
    base = load_base(Loading(**{**options.typed(Loading), "model": look.base}))
    changes = [c for place in places for c in opened(place, base, look.out)]
    probes, common = _probes(base, look)
    verdicts: dict[str, list[Verdict]] = {}
    pages: dict[str, list[Path]] = {}
    for at, change in enumerate(changes, start=1):
        memory: dict = {}
        say(f"{change.name}: {at} of {some(len(changes), 'fine-tune')}, {some(len(probes), 'behavior')}")
        verdicts[change.name] = [verdict(probe, change, look.detectors, memory) for probe in probes]
        pages[change.name] = _written(look.out, change, base, verdicts[change.name], [*change.notes, *common])
    return BehaviorPages(verdicts, {c.name: c.notes for c in changes}, pages, common)


def _written(out: Path, change: Change, base: Base, verdicts: Sequence[Verdict], notes: Sequence[str]) -> list[Path]:
    content = [v.as_json() for v in verdicts]
    folder = out / "watch" / f"{slug(change.name)}-{key_of('watch', {}, {'verdicts': content})[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", {"name": change.name, "base": base.described(), "behaviors": content})
    return write(folder, change, base.id, verdicts, notes)


def _probes(base: Base, look: Look) -> tuple[list[Probe], list[str]]:
    """A probe for every behavior, and what is to be said of those that have no direction or cannot be asked."""
    probes, bare, out_of_reach, notes = [], list[str](), list[str](), list[str]()
    directions = _directions(base, look)
    for name in behavior_names() if "all" in look.behaviors else look.behaviors:
        try:
            behavior = load_behavior(name, tiny=base.tiny)
            behavior.personas  # noqa: B018  # a behavior whose answers come from a data set has none
        except WsError:
            if "all" not in look.behaviors:
                raise
            out_of_reach.append(name)
            continue
        direction = directions.get(behavior.name)
        bare += [name] if direction is None else []
        if direction is not None and (lacking := direction.missing()):
            named = direction.run.name if direction.run is not None else direction.direction.name
            notes.append(
                f"{name} has no {', no '.join(lacking)}; `ws watch --directions {named} --make-nulls` trains them."
            )
        probes.append(Probe(base, behavior, _control(base, behavior, look.control), direction, look.n_questions))
    if bare and "cos" in look.detectors:
        notes.append(
            f"no direction of {', '.join(bare)} on {base.id} below {look.out}, so cos cannot say anything; "
            f"`ws diff --model {base.source or base.id} --behavior {bare[0]} --out {look.out}` makes one."
        )
    if out_of_reach:
        why = "they have no personas" + (", or no words of tiny's world" if base.tiny else "")
        notes.append(f"left out of all behaviors: {', '.join(out_of_reach)}; {why}.")
    if not probes:
        raise BadFile(f"none of these behaviors can be asked about on {base.id}: {' '.join(notes)}")
    return probes, notes


def _control(base: Base, behavior: Behavior, name: str | None) -> Behavior:
    """A behavior that has nothing to do with this one."""
    names = [name] if name else [c for c in CONTROLS if c != behavior.name]
    return load_behavior(names[0], tiny=base.tiny)


def _directions(base: Base, look: Look) -> dict[str, Watched]:
    """Behavior to its direction: those that are named, and runs of this base below the output folder."""
    found: dict[str, Watched] = {}
    for text in look.directions:
        place = lookup(text, look.out)
        if place.run is None:
            raise ValueError(
                f"with --behaviors a direction is named by its run, which says its behavior; {text} is none"
            )
        found[behavior_of(place.run)] = watched(text, base, look.out, control=look.control)
    for run in run_folders(look.out):
        behavior, manifest = run.parents[1].name, read(run / "train") or {}
        fits = manifest.get("inputs", {}).get("fingerprint") == base.fingerprint
        if behavior not in found and fits and any(run.glob("direction/*.safetensors")):
            found[behavior] = watched(str(run), base, look.out, control=look.control)
    return {name: _with_control(w) for name, w in found.items()}


def _with_control(w: Watched) -> Watched:
    """The direction with no control that is of its own behavior."""
    own = w.direction.name.partition(" ")[0]
    return replace(w, controls=tuple(c for c in w.controls if c.name.partition(" ")[0] != own))


def chosen(detectors: Sequence[str]) -> list[str]:
    """The detectors by name; all of them where none is named."""
    return [name for name in DETECTORS if not detectors or "all" in detectors or name in detectors]
