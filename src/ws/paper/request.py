"""What a person asks of a recipe."""

from dataclasses import dataclass

from ws.eval import Protocol
from ws.settings import Range, at_least, refuse_outside
from ws.study.asked import named_files

WORDS = ("raw", "kl")
OF_SIZE = "raw:"


@dataclass(frozen=True)
class RecipeRequest:
    """How much of a recipe is run."""

    arms: tuple[str, ...] = ()
    """Arms of the recipe by name, e.g. --arms weight,act_single; all of them when not given."""
    strengths: tuple[str, ...] = ()
    """raw (the recipe's own strengths), raw:1 (of these, those of that size), kl (its KL targets), or targets in nats, e.g. --strengths raw,0.25,1; raw,kl when not given."""
    limit: int | None = None
    """Only the first so many units of every evaluation; the tables say SMOKE."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of pairs and training, e.g. --seeds=0,1,2."""
    opt_in: tuple[str, ...] = ()
    """Data sets with harmful texts that you want to be used, by the names that --check gives."""

    data: tuple[str, ...] = ()
    """Files in the place of data sets, or of an evaluation's questions: NAME=FILE, separated by commas."""

    judge: str | None = None
    """Who judges written answers where no exact rule does: URL#MODEL, or a model by name; rules that come near when not given."""
    answer_tokens: int | None = None
    """Most tokens of a written answer, where an evaluation's own cap is too dear; its numbers are then those of another protocol."""
    temperature: float | None = None
    """Written answers are drawn at it, e.g. at 1 as the paper's code does; the likeliest words when not given. Another protocol too."""
    task_rows: int | None = None
    """Fine-tunes of a task learn only so many rows: the first, of each of its data sets as many; the tables say REDUCED."""

    def __post_init__(self):
        refuse_outside(self, **dict.fromkeys(("limit", "answer_tokens", "task_rows"), at_least(1)), seeds=at_least(0))
        refuse_outside(self, temperature=Range(0, 2))
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds` are different whole numbers from 0 on, got {list(self.seeds)}")
        self.targets(())
        named_files(self.data)

    @property
    def files(self) -> dict[str, str]:
        """Data set or evaluation to its file."""
        return named_files(self.data)

    def answered(self, chosen: Protocol) -> Protocol:
        """A protocol with its written answers as long, and drawn, as a person asked."""
        if not chosen.n_write:
            return chosen
        cut = chosen if self.answer_tokens is None else chosen.cut(self.answer_tokens)
        return cut if self.temperature is None else cut.drawn_at(self.temperature)

    @property
    def reduced(self) -> str:
        """For the title of a table: in what its numbers are those of a part."""
        smoke = "" if self.limit is None else f" · SMOKE: the first {self.limit} units"
        return smoke + ("" if self.task_rows is None else f" · REDUCED: {self.task_rows} rows of a task")

    @property
    def raw(self) -> bool:
        """Whether the recipe's own strengths are measured."""
        return not self.strengths or any(word.partition(":")[0] == "raw" for word in self.strengths)

    def own(self, strengths: tuple[float, ...]) -> tuple[float, ...]:
        """Those of a recipe's own strengths that are asked for."""
        sizes = {_size(word[len(OF_SIZE) :], word) for word in self.strengths if word.startswith(OF_SIZE)}
        return strengths if not sizes or "raw" in self.strengths else tuple(a for a in strengths if abs(a) in sizes)

    def targets(self, own: tuple[float, ...]) -> tuple[float, ...]:
        """The KL targets in nats; `own` are the recipe's."""
        chosen: list[float] = list(own) if not self.strengths or "kl" in self.strengths else []
        for word in self.strengths:
            if word.startswith(OF_SIZE):
                _size(word[len(OF_SIZE) :], word)
            elif word not in WORDS:
                chosen.append(_size(word, word))
        return tuple(dict.fromkeys(chosen))


def _size(text: str, word: str) -> float:
    """A number above 0, as a part of a word."""
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size <= 100:
        raise ValueError(f"`strengths` are raw, raw:SIZE, kl, or KL targets in nats above 0; got {word!r}")
    return size
