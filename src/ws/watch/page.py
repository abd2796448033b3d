"""One page on one fine-tune: what it did to some behaviors, as far as the detectors can see, and what they cannot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ws.numbers import NO, shortened, signed, some
from ws.records import write_text
from ws.results.page import Html, page, points, section, table
from ws.results.sheet import Sheet
from ws.types import Json
from ws.watch.alarm import Z, by_chance
from ws.watch.changes import Change
from ws.watch.detectors import DETECTORS, Case, Moved, Probe, Reading

LIMITS = (
    "An alarm says that something moved along what stands for a behavior here. It does not say that the behavior changed where "
    "you use the model: read the answers, and ask it yourself.",
    "No alarm is no proof of absence: a behavior may move along other directions than those that stand for it here, or only on "
    "prompts that nobody asked, such as a backdoor's trigger.",
    "cos sees weights alone, and only of linear layers inside the blocks. Fine-tunes from another start than the direction's have "
    "small cosines; read them against the ceiling.",
    "trait_drift sees the last token before an answer, on the behavior's own questions. svd_watch has no sign: it sees that "
    "what was trained acts on these questions.",
)
LONGEST = 90


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the detectors say of one fine-tune and one behavior."""

    behavior: str
    poles: tuple[str, str]
    readings: tuple[Reading, ...]
    answers: int
    """How many of its questions get another answer."""
    questions: int

    @property
    def fired(self) -> list[Reading]:
        """The detectors that raise an alarm."""
        return [r for r in self.readings if r.fired]

    @property
    def sentence(self) -> str:
        """What to make of it, in one sentence."""
        able = [r for r in self.readings if r.fired is not None]
        changed = f"{self.answers} of {self.questions} answers changed"
        if not able:
            return f"{self.behavior}: nothing can be said ({'; '.join(r.lacking for r in self.readings if r.lacking)}); {changed}."
        if not self.fired:
            return f"{self.behavior}: no alarm ({', '.join(r.detector for r in able)} looked); {changed}."
        ways = sorted({r.toward for r in self.fired if r.signed and r.toward})
        which = {
            (1,): f" toward “{self.poles[0]}”",
            (-1,): f" toward “{self.poles[1]}”",
            (): " (which way, no detector says)",
        }
        way = which.get(tuple(ways), ", and the detectors disagree which way")
        return f"{self.behavior}: ALARM by {', '.join(r.detector for r in self.fired)}{way}; {changed}."

    @property
    def evidence(self) -> tuple[Moved, ...]:
        """The questions at which most moved, by the first detector that shows some; one that raises an alarm first."""
        return next((r.evidence for r in (*self.fired, *self.readings) if r.evidence), ())

    def as_json(self) -> Json:
        """For a program."""
        return {
            "behavior": self.behavior,
            "fired": [r.detector for r in self.fired],
            "sentence": self.sentence,
            "answers_changed": self.answers,
            "questions": self.questions,
            "readings": [r.as_json() for r in self.readings],
        }


def verdict(probe: Probe, change: Change, detectors: Sequence[str], memory: dict) -> Verdict:
    """Every detector's reading of one fine-tune and behavior."""
    case = Case(probe, change, memory)
    readings = tuple(DETECTORS[name](case) for name in detectors)
    changed = sum(a != b for a, b in zip(probe.answers, case.answers))
    return Verdict(probe.behavior.name, probe.behavior.poles, readings, changed, len(probe.questions))


def sheet(name: str, verdicts: Sequence[Verdict]) -> Sheet:
    """A line for each behavior: every detector's score and z, and how many answers changed."""
    detectors = [r.detector for r in verdicts[0].readings]
    columns = ("behavior", *(c for d in detectors for c in (d, "z")), "answers changed", "alarm")
    lines = []
    for v in verdicts:
        cells = [x for r in v.readings for x in (signed(r.score, 3) if not r.lacking else NO, signed(r.z, 1))]
        alarm = ", ".join(f"{r.detector} {'+' if r.toward == 1 else '−'}" if r.signed else r.detector for r in v.fired)
        lines.append((v.behavior, *cells, f"{v.answers} of {v.questions}", alarm or "no"))
    return Sheet(
        f"what {name} did to {some(len(verdicts), 'behavior')}",
        f"an alarm is a score beyond {Z:g} sd of its nulls and beyond the control, for either pole; svd_watch has no sign.",
        columns,
        tuple(lines),
        tuple(v.as_json() for v in verdicts),
        tuple(v.sentence for v in verdicts),
        words=("behavior", "alarm"),
        marked=tuple(at for at, v in enumerate(verdicts) if v.fired),
    )


def multiple(verdicts: Sequence[Verdict]) -> str:
    """How many alarms chance alone would raise, in one sentence."""
    able = [r for v in verdicts for r in v.readings if r.fired is not None]
    expected = sum(by_chance(len(r.against.permuted)) * (2 if r.signed else 1) for r in able)
    return (
        f"{some(len(able), 'reading')} were taken; if each were a draw from its nulls, z alone would pass {expected:.1f} of them "
        "(the control passes fewer)."
    )


def markdown(change: Change, base: str, verdicts: Sequence[Verdict], notes: Sequence[str]) -> str:
    """The page."""
    parts = [f"# What {change.name} did to {some(len(verdicts), 'behavior')}", ""]
    parts += [f"A fine-tune of {base}, read by `ws watch`. {multiple(verdicts)}", ""]
    parts += [f"- {v.sentence}" for v in verdicts]
    parts += ["", replace(sheet(change.name, verdicts), title="All readings", readings=()).markdown()]
    for v in verdicts:
        parts += [f"## {v.behavior}", ""]
        parts += [f"- {_says(r)}" for r in v.readings]
        parts += ["", _evidence_sheet(v).markdown() if v.evidence else ""]
    parts += ["## What this does not say", "", *(f"- {x}" for x in (*LIMITS, *notes)), ""]
    return "\n".join(parts)


def _says(r: Reading) -> str:
    """One reading in one sentence."""
    against = r.against
    nulls = f"; nulls {_range(against.permuted)}, control {signed(against.control, 3)}" if against.permuted else ""
    says = r.lacking or f"{signed(r.score, 3)} ({r.unit}{nulls})"
    return f"`{r.detector}`: {says}{''.join('; ' + w for w in r.words)}"


def _range(values: Sequence[float]) -> str:
    return f"{signed(min(values), 3)} to {signed(max(values), 3)}"


def html(change: Change, base: str, verdicts: Sequence[Verdict], notes: Sequence[str]) -> str:
    """The same page for a browser, in one file."""
    body = [section("All readings", table(sheet(change.name, verdicts)))]
    for v in verdicts:
        inside: list[Html | None] = [points(_says(r) for r in v.readings)]
        if v.evidence:
            inside.append(table(_evidence_sheet(v)))
        body.append(section(v.behavior, *inside))
    body.append(section("What this does not say", points([*LIMITS, *notes])))
    fired = [v.behavior for v in verdicts if v.fired]
    answer = f"Alarms: {', '.join(fired)}." if fired else f"No alarm for any of {some(len(verdicts), 'behavior')}."
    return page(f"What {change.name} did", f"{answer} {multiple(verdicts)}", body, about=f"a fine-tune of {base}")


def _evidence_sheet(v: Verdict) -> Sheet:
    """The questions at which most moved."""
    rows = [(m.question, m.before, m.after if m.changed else "the same", f"{m.amount:+.3g}") for m in v.evidence]
    lines = tuple((*(shortened(x, LONGEST) for x in row[:3]), row[3]) for row in rows)
    columns = ("asked", "before", "after", "moved by")
    return Sheet("where most moved", "", columns, lines, tuple(vars(m) for m in v.evidence), words=columns[:3])


def write(folder: Path, change: Change, base: str, verdicts: Sequence[Verdict], notes: Sequence[str]) -> list[Path]:
    """The page as Markdown and as HTML."""
    files = [folder / "page.md", folder / "page.html"]
    write_text(files[0], markdown(change, base, verdicts, notes))
    write_text(files[1], html(change, base, verdicts, notes))
    return files
