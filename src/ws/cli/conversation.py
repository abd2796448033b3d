"""What is said in a chat: dials, turns, and a transcript that says at which strengths each answer was given."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from ws.direction.card import beyond
from ws.generate import Answer, refuse_request
from ws.methods import Method
from ws.methods.weights import Weights
from ws.models import Base
from ws.models.chat import Chat
from ws.numbers import alpha_of
from ws.steer import checked_strengths
from ws.streaming import stream
from ws.types import Json

Strengths = Mapping[str, float]
"""Dial to strength."""


@dataclass(frozen=True)
class Chatting:
    """How a chat begins."""

    alpha: tuple[float, ...] = (1.0,)
    """Strength of the directions: one number for all of them, or one for each, e.g. --alpha=1.2,-0.5."""
    system: str | None = None
    """A system prompt; none when not given."""
    max_new_tokens: int = 256
    """Longest answer."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    seed: int = 0
    """Seed of sampling where the temperature is above 0."""
    thinking: str = "off"
    """off, on or forced."""
    out: str = "out"
    """Output folder, below which a run is found by its name."""

    def __post_init__(self):
        checked_strengths(self.alpha)
        refuse_request(
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, seed=self.seed, thinking=self.thinking
        )


@dataclass
class Dial:
    """A direction, or another method, and how far it is turned."""

    place: str
    """As it was typed."""
    method: Method
    alpha: float

    def beyond(self, alpha: float) -> str:
        """That a strength lies outside all that is known of the direction; nothing otherwise, or of another method."""
        return beyond(self.method.direction, alpha) if isinstance(self.method, Weights) else ""


@dataclass(frozen=True)
class Reply:
    """One answer, and the strengths it was given at."""

    strengths: Strengths
    answer: Answer
    stopped: bool
    """Whether Ctrl-C ended it."""

    @property
    def note(self) -> str:
        """What to know about its end; nothing where it came to its own."""
        if self.stopped:
            return "stopped"
        if not self.answer.text:
            return "an empty answer, which a strength that is too large may give"
        return "" if self.answer.ended else f"cut at {self.answer.n_tokens} tokens"


@dataclass(frozen=True)
class Exchange:
    """A message, the system prompt it was read under, and what was answered, at one strength or at several side by side."""

    message: str
    system: str | None
    replies: tuple[Reply, ...]


@dataclass(eq=False)
class Conversation:
    """A chat with a model: its dials, and all that was said."""

    base: Base
    settings: Chatting
    dials: dict[str, Dial]
    system: str | None
    turns: list[tuple[str, str]] = field(default_factory=list)
    """What the model remembers."""
    exchanges: list[Exchange] = field(default_factory=list)
    """What was said, also before the last /reset."""

    @property
    def strengths(self) -> Strengths:
        """How far each dial is turned now."""
        return {name: dial.alpha for name, dial in self.dials.items()}

    def stream(
        self, message: str, *, at: Sequence[Strengths], again: bool = False
    ) -> Generator[list[Answer], None, None]:
        """The answers to a message so far, one for each of the strengths, after every token; `again` for the last message."""
        chats = [Chat(message, self.system, tuple(self.turns[:-1] if again else self.turns)) for _ in at]
        with ExitStack() as steering:
            for name, dial in self.dials.items():
                alphas = [strengths[name] for strengths in at]
                steering.enter_context(dial.method.at(self.base, alphas if len(at) > 1 else alphas[0]))
                chats = [dial.method.chat(chat, alpha) for chat, alpha in zip(chats, alphas)]
            yield from stream(
                self.base,
                chats,
                max_new_tokens=self.settings.max_new_tokens,
                temperature=self.settings.temperature,
                seed=self.settings.seed,
                thinking=self.settings.thinking,
            )

    def remember(self, message: str, reply: Reply) -> None:
        """Keep an answer, without the thought before it, for what is said next."""
        self.turns.append((message, reply.answer.text.rpartition("</think>")[2].lstrip()))
        self.note(message, [reply])

    def note(self, message: str, replies: Sequence[Reply]) -> None:
        """Write answers into the transcript alone."""
        self.exchanges.append(Exchange(message, self.system, tuple(replies)))

    def as_json(self) -> Json:
        """The transcript for a program."""
        s = self.settings
        return {
            "model": self.base.id,
            "directions": [
                {"name": name, "place": dial.place, "hash": dial.method.content_hash}
                for name, dial in self.dials.items()
            ],
            "temperature": s.temperature,
            "seed": s.seed,
            "thinking": s.thinking,
            "exchanges": [
                {
                    "message": e.message,
                    "system": e.system,
                    "answers": [
                        {"strengths": r.strengths, "text": r.answer.text, "ended": r.answer.ended} for r in e.replies
                    ],
                }
                for e in self.exchanges
            ],
        }

    def as_markdown(self) -> str:
        """The transcript for people."""
        s = self.settings
        how = "the likeliest token" if s.temperature == 0 else f"temperature {s.temperature:g}, seed {s.seed}"
        lines = [f"# A chat with {self.base.id}", "", f"Decoding: {how}; thinking {s.thinking}.", ""]
        for name, dial in self.dials.items():
            lines += [f"- **{name}**: `{dial.place}` ({dial.method.content_hash[:12]})"]
        system = None
        for e in self.exchanges:
            if e.system != system:
                lines += _quoted("system", e.system or "(none)")
            system = e.system
            lines += _quoted("you", e.message)
            for r in e.replies:
                note = f" ({r.note})" if r.note else ""
                lines += _quoted(f"{self.base.id}, {spoken(r.strengths)}{note}", r.answer.text)
        return "\n".join(lines) + "\n"


def _quoted(speaker: str, text: str) -> list[str]:
    return ["", f"**{speaker}**", "", *(f"> {line}".rstrip() for line in text.split("\n"))]


def spoken(strengths: Strengths) -> str:
    """Strengths in words: `honesty +1, authority -0.5`."""
    return ", ".join(f"{name} {alpha_of(alpha)}" for name, alpha in strengths.items()) or "unsteered"
