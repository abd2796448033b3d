"""`ws generate`: one prompt, answered at several strengths."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import typer
from rich.table import Table

from ws.cli.named import DIRECTION, RUN, WAYS, name_of
from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say
from ws.cli.study import ADAPTER, SEED, made_on, pairs_and_direction, rooted
from ws.diff import NamedDirection, lookup
from ws.direction import Direction
from ws.direction.card import beyond
from ws.errors import Broken
from ws.generate import generate as answer
from ws.generate import refuse_request
from ws.models.locate import refuse_nowhere
from ws.numbers import shortened
from ws.records import named_runs
from ws.settings import value_of
from ws.steer import distinct_strengths, steer
from ws.study.options import Common
from ws.study.planning import load_base, plan_of, refuse_unreadable

WORDS: Declared = (
    list[str] | None,
    typer.Argument(metavar="[DIRECTION] [QUESTION]", help=f"What steers ({WAYS}), and the question, in quotes."),
)
ECHOED = 400  # characters of a question that are printed again

BEHAVIOR: Declared = (
    str | None,
    typer.Option(
        "--behavior", help="A behavior ({behaviors}) whose study's direction is made and used; none when not given."
    ),
)


@dataclass(frozen=True)
class Generated:
    """What `ws generate` prints."""

    prompt: str | None = None
    """The question, which may stand last without a flag."""
    system: str | None = None
    """A system prompt; none when not given."""
    also: tuple[str, ...] = ()
    """More directions at a strength of their own: DIRECTION@ALPHA, separated by commas."""
    alphas: tuple[float, ...] = (-1.0, 0.0, 1.0)
    """Strengths, side by side, e.g. --alphas=-1,0,1."""
    max_new_tokens: int = 64
    """Longest answer."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    thinking: str = "off"
    """off, on or forced."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it, or it quantised."""

    def __post_init__(self):
        if not self.alphas:
            raise ValueError("`alphas` needs at least one number, e.g. `alphas=-1,0,1`")
        distinct_strengths(self.alphas)
        refuse_request(max_new_tokens=self.max_new_tokens, temperature=self.temperature, thinking=self.thinking)


@dataclass(frozen=True)
class Also:
    """A direction at a strength of its own, under every answer."""

    file: str
    direction: Direction
    alpha: float

    @classmethod
    def read(cls, text: str, out: str) -> "Also":
        """DIRECTION@ALPHA."""
        name, _, alpha = text.rpartition("@")
        if not name:
            raise ValueError(f"--also takes DIRECTION@ALPHA, got {text!r}")
        strength = value_of(float, alpha, "the strength in --also")
        place = lookup(name, out)
        return cls(str(place.file), place.direction(), strength)


@dataclass(frozen=True, eq=False)
class SideBySide(VerbResult):
    """Answers side by side."""

    model: str
    request: Generated
    prompt: str
    place: NamedDirection | None
    """What steers, where it was named."""
    also: Sequence[Also]
    answers: Sequence[tuple[float, str]]
    """(alpha, text)"""

    def as_json(self) -> Mapping[str, object]:
        return {
            "model": self.model,
            "prompt": self.prompt,
            "direction": self.place and str(self.place.file.resolve()),
            "also": [{"file": str(Path(x.file).resolve()), "alpha": x.alpha} for x in self.also],
            "answers": [{"alpha": alpha, "text": text} for alpha, text in self.answers],
        }

    def show(self, screen: Screen) -> None:
        screen.show(f"[bold]{safe_text(shortened(self.prompt, ECHOED))}[/]\n")
        for part in self.request.also:
            screen.show(f"[dim]with {safe_text(part)}[/]")
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("alpha", justify="right")
        table.add_column("answer", overflow="fold")
        for alpha, text in self.answers:
            shown = safe_text(text) if text else "[dim](nothing: the model ends its answer at once)[/]"
            table.add_row(f"{alpha:+g}" if alpha else "0" if self.also else "0 (base)", shown)
        screen.show(table)


@verb(Generated, Common, words=WORDS, direction=DIRECTION, run=RUN, behavior=BEHAVIOR, adapter=ADAPTER, seed=SEED)
def generate(options: Options) -> VerbResult:
    """Answers at several alphas."""
    common, request = rooted(options, options.of(Common)), options.of(Generated)
    name, prompt = _named(options, request.prompt, common.out)
    refuse_unreadable(common)
    plan = place = direction = base = None
    if name:
        place = lookup(name, common.out)
        if not options.has("model"):
            common = made_on(common, place, origin=request.origin)
    for model in filter(None, (common.model, request.origin)):
        refuse_nowhere(model)
    if place is not None:
        if place.is_adapter:
            base = load_base(common)
        direction = place.direction(base)
    elif options.has("behavior", "adapter", "pairs"):  # the study's own direction, made now if it is not there
        plan = plan_of(common, options.only("adapter", "seed"))
        _, direction = pairs_and_direction(plan)
    also = [Also.read(part, common.out) for part in request.also]
    turned = [(direction, a) for a in request.alphas if direction] + [(x.direction, x.alpha) for x in also]
    for warning in filter(None, (beyond(by, alpha) for by, alpha in turned)):
        say(f"note: {warning}")
    if direction is None and any(request.alphas) and options.has("alphas"):
        raise ValueError("--alphas need something to steer by: --direction RUN, or --behavior and --adapter")
    if direction is None and not also:
        say(
            "no direction given, so this is the base alone; steer with --direction RUN, or --behavior NAME for a study's own"
        )
    base = plan.base if plan is not None else base or load_base(common)
    origin = load_base(replace(common, model=request.origin, quantize=None)) if request.origin else None

    def at(alpha: float) -> str:
        with ExitStack() as dials:
            for x in also:
                dials.enter_context(steer(base, x.direction, x.alpha, origin=origin))
            if direction is not None:
                dials.enter_context(steer(base, direction, alpha, origin=origin))
            try:
                return answer(
                    base,
                    prompt,
                    system=request.system,
                    max_new_tokens=request.max_new_tokens,
                    temperature=request.temperature,
                    seed=options.values.get("seed") or 0,
                    thinking=request.thinking,
                )
            except Broken as e:  # the other strengths have answers
                return f"({e})"

    alphas = request.alphas if direction is not None else (0.0,)
    return SideBySide(base.id, request, prompt, place, also, [(alpha, at(alpha)) for alpha in alphas])


def _named(options: Options, prompt: str | None, out: str) -> tuple[str | None, str]:
    """(what steers, the question), each a word or an option; a single word is the question, where that is no option."""
    words, name = options.texts("words"), name_of(options)
    if name is None and len(words) == (2 if prompt is None else 1):
        name = words.pop(0)
    if prompt is None and words:
        prompt = words.pop(0)
    if words:
        more = "one word" if len(words) == 1 else f"{len(words)} words"
        raise ValueError(f"{shortened(' '.join(words), ECHOED)!r} is {more} too many; write the question in quotes")
    alone = name is None and prompt is not None and not options.has("prompt")
    names_a_direction = alone and (Path(prompt or "").expanduser().exists() or bool(named_runs(prompt or "", out)))
    if not (prompt or "").strip() or names_a_direction:
        what = prompt if names_a_direction else name or "RUN"
        raise ValueError(
            f"ws generate needs a question: ws generate {what} 'What is the capital of France?', or --prompt"
        )
    return name, prompt or ""
