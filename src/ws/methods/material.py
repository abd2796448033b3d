"""The material of methods: a base, a behavior, and what a study has of it. Each part is made when first asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ws.behaviors import Behavior
from ws.errors import Unsupported
from ws.methods.activation.method import block_name
from ws.methods.activation.states import ITEMS, Contrast, Text, answer_texts, contrast, persona_texts
from ws.methods.method import Method
from ws.models.load import Base
from ws.models.modules import layer_slice
from ws.pairs import Pair, Pairs, question_hashes
from ws.train import Sides, TrainSettings, default_train
from ws.types import Json

LAYERS = "0.3-0.8"


@dataclass(frozen=True, eq=False)
class Material:
    """One study, as far as methods need it."""

    base: Base
    behavior: Behavior | None = None
    questions: Callable[[], Sequence[str]] | None = None
    """The study's training questions."""
    pairs: Callable[[], Pairs] | None = None
    """The answers of both personas to them."""
    held: Callable[[], Pairs] | None = None
    """The answers to the validation questions: layers are chosen on them."""
    sides: Callable[[str], Sides] | None = None
    """Adapter family to its two trained sides."""
    controls: Callable[[str, int], Sides] | None = None
    """The same of pairs whose sides are swapped at random: adapter family and draw to two sides of their own training."""
    settings: Callable[[str], TrainSettings] | None = None
    """Adapter family to how it is trained here; its defaults when not given."""
    once: Callable[[str, Json, Callable[[], Method]], Method] = lambda name, settings, make: make()
    """(name, settings, how to make it) -> a method that takes a training, or as long: a study makes it once and finds it again."""
    seed: int = 0
    layers: str = LAYERS
    items: int = ITEMS

    @property
    def known(self) -> Behavior:
        """The behavior; refused in one sentence where there is none."""
        if self.behavior is None:
            raise ValueError("this method is made from a behavior's personas; give `behavior`")
        return self.behavior

    @property
    def blocks(self) -> list[int]:
        """The block numbers that are steered."""
        return layer_slice(self.layers, self.base.depth)

    @property
    def block_names(self) -> list[str]:
        """The modules that are steered."""
        return [block_name(self.base, at) for at in self.blocks]

    @cached_property
    def personas(self) -> tuple[list[Text], list[Text]]:
        """The same questions under both personas."""
        questions = _given(self.questions, "questions")()
        return persona_texts(self.base, self.known, questions, n=self.items, seed=self.seed)

    @cached_property
    def answers(self) -> tuple[list[Text], list[Text]]:
        """The answers of both personas, with the persona in context."""
        return answer_texts(self.base, _given(self.pairs, "pairs")(), n=self.items, seed=self.seed)

    def states(self, names: Sequence[str], pool: str = "last") -> Contrast:
        """The states of both sides at some modules; what has been read is not read again."""
        cache: dict[tuple[str, str], Contrast] = self._kept
        missing = [n for n in names if (n, pool) not in cache]
        if missing:
            new = contrast(self.base, self.personas if pool == "last" else self.answers, missing)
            cache.update({(n, pool): Contrast({n: new.pos[n]}, {n: new.neg[n]}) for n in missing})
        parts = [cache[n, pool] for n in names]
        return Contrast(
            {k: v for p in parts for k, v in p.pos.items()}, {k: v for p in parts for k, v in p.neg.items()}
        )

    @cached_property
    def _kept(self) -> dict[tuple[str, str], Contrast]:
        return {}

    def held_pairs(self) -> Sequence[Pair]:
        """Pairs that nothing is learnt from, to choose on."""
        return self.validation_pairs().rows

    def validation_pairs(self) -> Pairs:
        """The same with where they come from."""
        return _given(self.held, "validation pairs")()

    def sides_of(self, adapter: str) -> Sides:
        """Both trained sides of one adapter family."""
        return _given(self.sides, "a study to train sides in")(adapter)

    def controls_of(self, adapter: str, draw: int) -> Sides:
        """Both sides of one adapter family, trained on pairs whose sides are swapped at random."""
        return _given(self.controls, "a study to train sides in")(adapter, draw)

    def settings_of(self, adapter: str) -> TrainSettings:
        """How an adapter family is trained here."""
        if self.settings is not None:
            return self.settings(adapter)
        return replace(default_train(self.base, adapter), seed=self.seed)

    def training_pairs(self) -> Pairs:
        """The answers of both personas to the training questions."""
        return _given(self.pairs, "pairs")()

    def made(self, *parts: str, **more: Any) -> Json:
        """The provenance of a method made from this, and from the questions of some parts: train, val."""
        behavior = None if self.behavior is None else {"name": self.behavior.name, "hash": self.behavior.content_hash}
        used = [_given(self.questions, "questions")()] if "train" in parts else []
        used += [[r.prompt for r in self.held_pairs()]] if "val" in parts else []
        return {
            "base": self.base.described(),
            "behavior": behavior,
            "layers": self.layers,
            "items": self.items,
            "seed": self.seed,
            "questions": question_hashes(text for part in used for text in part),
            **more,
        }


def _given(part: Callable | None, what: str) -> Callable:
    if part is None:
        raise Unsupported(f"this method needs {what}; make it with `behavior`, or from a study.")
    return part
