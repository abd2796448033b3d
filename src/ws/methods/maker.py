"""Makers of methods: each line of the registry is one `Maker`, which makes the methods of one name and says what they need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ws.methods.activation.method import Activation, Add, Edit
from ws.methods.activation.vectors import States, Vector
from ws.methods.material import Material
from ws.methods.method import Method


@dataclass(frozen=True)
class Needs:
    """The needs of a method: what of a study it is made from, what another seed changes about it, and where it acts."""

    kin: str = ""
    """Its name without its draw; the name itself where nothing else is said."""
    adapter: str | None = None
    """The family whose two trained sides it is made from."""
    answers: bool = False
    """Whether it is made from the answers of both personas."""
    personas: bool = False
    """Whether it is made from the personas themselves, which a behavior with a data set has not."""
    trains: bool = False
    """Whether it trains two sides of its own instead of those that all methods of the family share."""
    checkpoint: int = 0
    """Which checkpoint of that training it is; 0 is its result."""
    seed: str = "study"
    """`study`: pairs, training or sampling; `draw`: the number in its name; `none`: it is the same for all."""
    places: str = "activations"
    """Where it acts; it is compared with the random controls of the same places only."""
    control: bool = False
    """Whether it is a draw of something random."""


PERSONAS = Needs(personas=True)
"""What most activation methods need: the same questions under both personas."""


@dataclass(frozen=True)
class Maker:
    """The maker of one name, or of all names with one head: `svd` makes `svd:8`, and `8` goes to `make` as text."""

    make: Callable[..., Method]
    """(material, *the parts of the ending) -> the method."""
    needs: Needs | Callable[..., Needs] = PERSONAS
    """What it is made from; a function of the parts of the ending where that decides it."""
    endings: Callable[[], Sequence[str]] | None = None
    """The endings that are listed, where a name has one; files and further draws are not listed."""
    check: Callable[..., None] = lambda *ending: None
    """Refuses an ending that stands for no method, before any work."""

    def needs_of(self, name: str, ending: Sequence[str]) -> Needs:
        """The needs of the method of this name."""
        needs = self.needs(*ending) if callable(self.needs) else self.needs
        return needs if needs.kin else replace(needs, kin=name)


def added(name: str, fit: Callable[[States, States], Vector]) -> Maker:
    """A method that adds one vector per block, fitted to that block's states."""
    return edited(name, lambda pos, neg: Add(fit(pos, neg)))


def edited(name: str, fit: Callable[[States, States], Edit]) -> Maker:
    """A method with one edit per block, fitted to that block's states."""

    def make(material: Material) -> Method:
        states = material.states(material.block_names)
        edits = {n: fit(states.pos[n], states.neg[n]) for n in material.block_names}
        return Activation(name, edits, provenance=material.made("train", pool="last"))

    return Maker(make)
