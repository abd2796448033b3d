"""What an analysis of a direction is: a question, an answer in tables and one picture, and what that does not show.

A new analysis is one file beside this one, which ends with its `Analysis`, and one line in `registry.py`. It reads a `Subject`
and gives a `Finding`. Two kinds of rows are common: an `Energy` is a share of the direction's squared norm beside what chance
gives, an `Effect` is what a variant of the direction does beside the whole. An analysis may have rows of a class of its own: any
dataclass will do, a column per field.

    def run(subject: Subject) -> Finding:
        rows = [Energy(...) for name in subject.direction.forms]
        return Finding((Table("energy in the top singular space of W", rows),), Bars(...))

    SVD_ALIGN = Analysis("svd_align", "Does the change lie in W's top singular space?", "...", run)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.direction import Direction
from ws.direction.variants import PLAIN, Flags
from ws.methods import Material
from ws.models import Base
from ws.stats import Estimate

if TYPE_CHECKING:
    from ws.explain.measure import Measure

DRAWS = {"energy": 20, "effect": 5}
"""Random controls that stand beside a number, at least."""


@dataclass(frozen=True, eq=False)
class Variant:
    """A part of a direction, or the direction with one thing changed, and what is to be known of it."""

    name: str
    """complement:act32, only:layer7, random:top:3."""
    direction: Direction | None = None
    """The variant itself; or `scales`, which are cheaper where many are measured together."""
    scales: Mapping[str, float] | None = None
    """Module name to the factor it keeps of the subject's direction; a module that is not named keeps nothing."""
    flags: Flags = PLAIN
    control: str = ""
    """For a random draw, the name of the variant it is a control of."""

    def __post_init__(self):
        assert (self.direction is None) != (self.scales is None), "a variant is a direction or scales, one of the two"


@dataclass(frozen=True, eq=False)
class Subject:
    """What is explained: a direction on a base, what its study has, and how the effect of a variant is measured."""

    base: Base
    direction: Direction
    measure: "Measure | None" = None
    """Variants to their effects, on the questions and at the strength that were asked for; None where weights alone are read."""
    material: Material | None = None
    """The personas, pairs and questions of its study, where it has one: held-out prompts come from there."""
    others: Mapping[str, Direction] = field(default_factory=dict)
    """Directions that it is laid beside, by name: of other families, or of other behaviors."""
    seed: int = 0
    """Of random controls."""
    top: int | None = None
    """Modules at most of the part that keeps most of the effect; as many as it takes when not given."""
    folder: Path | None = None
    """Where files of an analysis go, such as an exported part; None where none are written."""


def measured(subject: Subject) -> "Measure":
    """What measures the effects of a subject's variants; a subject without is refused."""
    if subject.measure is None:
        raise ValueError("this analysis measures effects; name an evaluation for it with `evals`")
    return subject.measure


@dataclass(frozen=True)
class Energy:
    """The share of a direction's squared norm that lies in a space, beside chance."""

    where: str
    """The modules it is about: all, layer 3, o_proj, a module's name."""
    space: str
    """The name of the basis."""
    energy: float
    null: float
    """What a random space of the same rank holds: K/d."""
    ratio: float
    """energy / null."""
    z: float
    """Its distance from random spaces of the same rank, in their standard deviations; NaN where none were drawn."""
    flags: Flags = PLAIN


@dataclass(frozen=True)
class Effect:
    """What a variant does, beside the whole direction, on the same rows at the same strength."""

    variant: str
    metric: str
    alpha: float
    delta: Estimate
    """The change of the metric from strength 0 to alpha."""
    retained: Estimate
    """R, the change as a share of the whole direction's; nothing where the interval of the whole's holds 0."""
    size: float
    """Its norm, as a share of the whole's."""
    flags: Flags = PLAIN
    """What its basis was made from, whether it is circular or a tautology, and ranks."""
    control: str = ""


Row = Any
"""An `Energy`, an `Effect`, or any other frozen dataclass: a column per field."""


@dataclass(frozen=True)
class Table:
    """Rows of one class under a heading."""

    title: str
    rows: Sequence[Row]
    columns: tuple[str, ...] = ()
    """The fields that are shown, in order; all of them without any. Programs get all."""
    note: str = ""
    most: int | None = None
    """Rows that are shown; programs get all."""


@dataclass(frozen=True)
class Bars:
    """A picture: a line per name with its interval, and where chance lies."""

    title: str
    label: str
    """What the axis counts."""
    names: Sequence[str]
    values: Sequence[float]
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()
    chance: Sequence[float] = ()
    """What chance gives, per name."""
    band: tuple[float, float] | None = None
    """The lowest and the highest of random draws, where they are the same for all names."""


@dataclass(frozen=True)
class Heat:
    """A picture: a number per row and column, such as layer and kind of matrix."""

    title: str
    label: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    """NaN where there is nothing."""


@dataclass(frozen=True)
class Curves:
    """A picture: lines against one number, such as the rank of a basis or the strength."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]


Picture = Bars | Heat | Curves


@dataclass(frozen=True, eq=False)
class Finding:
    """The answer of one analysis."""

    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...] = ()
    readings: tuple[str, ...] = ()
    """What the numbers say, computed from them, a sentence each."""
    parts: Mapping[str, Direction] = field(default_factory=dict)
    """Variants worth keeping, by the name of their file."""


def together(findings: Sequence[Finding]) -> Finding:
    """Several findings as one, in their order."""
    return Finding(
        tuple(t for f in findings for t in f.tables),
        tuple(p for f in findings for p in f.pictures),
        tuple(r for f in findings for r in f.readings),
        {name: part for f in findings for name, part in f.parts.items()},
    )


@dataclass(frozen=True, eq=False)
class Analysis:
    """One question about a direction, and how it is answered."""

    name: str
    question: str
    silent: str
    """What the answer does not show."""
    run: Callable[[Subject], Finding]
    measures: bool = False
    """Whether it measures effects, which takes an evaluation; others read weights and prompts."""
    material: bool = False
    """Whether it reads the personas or pairs of a study."""
    others: int = 0
    """How many other directions it needs beside this one."""
