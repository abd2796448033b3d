"""What detectors look at: a behavior with its questions and the model's states on them, and one fine-tune beside it.

States are read at the last token of a question and a short neutral opening, at the blocks that activation methods steer.
Whatever belongs to the behavior alone is read once for all fine-tunes.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ws.behaviors import Behavior, neutral_prompts
from ws.direction import Direction
from ws.generate import generate
from ws.methods.activation.method import block_name
from ws.methods.activation.states import OPENING, Contrast, Text, contrast, persona_texts, states
from ws.methods.material import LAYERS
from ws.models.chat import Chat, encode, render
from ws.models.load import Base
from ws.models.modules import layer_slice
from ws.steer import steer
from ws.watch.changes import Change
from ws.watch.nulls import FEWEST_PERMUTED, Watched

QUESTIONS, ORDINARY, PERSONA_ITEMS = 48, 96, 128
ANSWER = 48
"""Most new tokens of an answer that is shown."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A behavior as detectors ask about it."""

    base: Base
    behavior: Behavior
    control: Behavior
    """One that has nothing to do with it."""
    watched: Watched | None = None
    """Its direction with nulls, where there is one."""
    n: int = QUESTIONS
    seed: int = 0

    @cached_property
    def questions(self) -> list[str]:
        """Some of the behavior's own questions, evenly spread."""
        return _spread([p.text for p in self.behavior.train], self.n)

    @cached_property
    def ordinary(self) -> list[str]:
        """Questions that have nothing to do with any behavior."""
        return _spread([p.text for p in neutral_prompts(self.base.tiny)], 2 * self.n)

    @cached_property
    def blocks(self) -> list[str]:
        """The blocks whose outputs are read."""
        return [block_name(self.base, at) for at in layer_slice(LAYERS, self.base.depth)]

    @cached_property
    def before(self) -> dict[str, Float[Tensor, "n d"]]:
        """The base's states: first on the behavior's questions, then on the ordinary ones."""
        return states(self.base, self.texts, self.blocks)

    @cached_property
    def texts(self) -> list[Text]:
        """The questions as they are read."""
        return [_text(self.base, question) for question in (*self.questions, *self.ordinary)]

    @cached_property
    def personas(self) -> Contrast:
        """The base's states under the behavior's personas."""
        return self._personas_of(self.behavior)

    @cached_property
    def control_personas(self) -> Contrast:
        """The same under those of the control."""
        return self._personas_of(self.control)

    def _personas_of(self, behavior: Behavior) -> Contrast:
        questions = _spread([p.text for p in behavior.train], self.n)
        sides = persona_texts(self.base, behavior, questions, n=PERSONA_ITEMS, seed=self.seed)
        return contrast(self.base, sides, self.blocks)

    @cached_property
    def by_chance(self) -> list[dict[str, Float[Tensor, " d"]]]:
        """How trainings on the direction's own pairs, sides swapped by a coin, move the mean state on its questions, by block.

        Two entries a training, one for each of its sides; none where fewer of them are there than a rule needs.
        """
        permuted = self.watched.permuted if self.watched is not None else ()
        if len(permuted) < FEWEST_PERMUTED:
            return []
        n, shifts = len(self.questions), []
        for change, half in ((c, half) for c in permuted for half in (0.5, -0.5)):
            with steer(self.base, change.direction(self.base), half):
                after = states(self.base, self.texts[:n], self.blocks)
            shifts.append({b: (after[b] - self.before[b][:n]).double().mean(0) for b in self.blocks})
        return shifts

    @cached_property
    def answers(self) -> list[str]:
        """The base's answers to the behavior's questions."""
        return _answers(self.base, self.questions)


@dataclass(frozen=True, eq=False)
class Case:
    """One fine-tune, and the behavior that it may have drifted toward."""

    probe: Probe
    change: Change
    memory: dict[str, Direction] = field(default_factory=dict, repr=False)

    @cached_property
    def tau(self) -> Direction:
        """The whole change, read once for all behaviors that share a memory."""
        if self.change.name not in self.memory:
            self.memory.clear()  # one fine-tune at a time
            self.memory[self.change.name] = self.change.direction(self.probe.base)
        return self.memory[self.change.name]

    @property
    def still(self) -> bool:
        """Whether nothing that is compared has changed at all."""
        return not self.tau.forms

    @cached_property
    def after(self) -> dict[str, Float[Tensor, "n d"]]:
        """The fine-tune's states on the same questions."""
        if self.still:
            return self.probe.before
        with steer(self.probe.base, self.tau, 1.0):
            return states(self.probe.base, self.probe.texts, self.probe.blocks)

    @cached_property
    def shifts(self) -> dict[str, Float[Tensor, "n d"]]:
        """How the states moved, by block: questions of the behavior first, then the ordinary ones."""
        return {name: (self.after[name] - self.probe.before[name]).double() for name in self.probe.blocks}

    @cached_property
    def answers(self) -> list[str]:
        """The fine-tune's answers to the behavior's questions."""
        if self.still:
            return self.probe.answers
        with steer(self.probe.base, self.tau, 1.0):
            return _answers(self.probe.base, self.probe.questions)


def _answers(base: Base, questions: list[str]) -> list[str]:
    texts = generate(base, questions, max_new_tokens=ANSWER)
    return [" ".join(t.split()) for t in texts]


def _text(base: Base, question: str) -> Text:
    ids = encode(base.tokenizer, render(base.tokenizer, Chat(question)) + OPENING)
    return tuple(ids), len(ids) - 1


def _spread(texts: list[str], n: int) -> list[str]:
    """`n` of some texts, evenly spread over them."""
    n = min(n, len(texts))
    return [texts[len(texts) * (2 * i + 1) // (2 * n)] for i in range(n)]


def unit_columns(m: Float[Tensor, "d k"]) -> Float[Tensor, "d k"]:
    """Every column at length 1."""
    return torch.nn.functional.normalize(m.double(), dim=0)
