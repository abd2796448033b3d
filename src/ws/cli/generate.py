"""`ws generate`: one prompt, answered at several strengths."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text, say
from ws.cli.study import ADAPTER, SEED, pairs_and_direction
from ws.direction import Direction
from ws.direction import load as load_direction
from ws.generate import generate as answer
from ws.settings import value_of
from ws.steer import steer
from ws.study.options import Common
from ws.study.planning import load_base, plan_of


@dataclass(frozen=True)
class Generated:
    """What `ws generate` prints."""

    prompt: str | None = None
    """The question."""
    system: str | None = None
    """A system prompt; none when not given."""
    direction: str | None = None
    """A direction.safetensors; without one, --behavior and --adapter name a study whose direction is used."""
    also: tuple[str, ...] = ()
    """More directions at a strength of their own: FILE@ALPHA, separated by commas."""
    alphas: tuple[float, ...] = (-1.0, 0.0, 1.0)
    """Strengths, side by side, e.g. --alphas=-1,0,1."""
    max_new_tokens: int = 64
    """Longest answer."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    thinking: str = "off"
    """off, on or forced."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it."""


@dataclass(frozen=True)
class Also:
    """A direction at a strength of its own, under every answer."""

    file: str
    direction: Direction
    alpha: float

    @classmethod
    def read(cls, text: str) -> "Also":
        """FILE@ALPHA."""
        file, _, alpha = text.rpartition("@")
        if not file:
            raise ValueError(f"--also takes FILE@ALPHA, got {text!r}")
        return cls(file, load_direction(file), value_of(float, alpha, "the strength in --also"))


@dataclass(frozen=True, eq=False)
class SideBySide(VerbResult):
    """SideBySide side by side."""

    model: str
    request: Generated
    also: Sequence[Also]
    answers: Sequence[tuple[float, str]]
    """(alpha, text)"""

    def as_json(self) -> Mapping[str, object]:
        return {
            "model": self.model,
            "prompt": self.request.prompt,
            "direction": self.request.direction,
            "also": [{"file": str(Path(x.file).resolve()), "alpha": x.alpha} for x in self.also],
            "answers": [{"alpha": alpha, "text": text} for alpha, text in self.answers],
        }

    def show(self, screen: Screen) -> None:
        screen.show(f"[bold]{safe_text(self.request.prompt or '')}[/]\n")
        for part in self.request.also:
            screen.show(f"[dim]with {safe_text(part)}[/]")
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("alpha", justify="right")
        table.add_column("answer", overflow="fold")
        for alpha, text in self.answers:
            table.add_row(f"{alpha:+g}" if alpha else "0" if self.also else "0 (base)", safe_text(text))
        screen.show(table)


@verb(Generated, Common, adapter=ADAPTER, seed=SEED)
def generate(options: Options) -> VerbResult:
    """SideBySide at several alphas."""
    common, request = options.of(Common), options.of(Generated)
    if not request.prompt or not request.prompt.strip():
        raise ValueError("ws generate needs a question: --prompt 'What is the capital of France?'")
    plan = direction = None
    if request.direction:
        direction = load_direction(request.direction)
    elif options.has("behavior", "adapter", "pairs"):  # the study's own direction, made now if it is not there
        plan = plan_of(common, options.only("adapter", "seed"))
        _, direction = pairs_and_direction(plan)
    also = [Also.read(part) for part in request.also]
    if direction is None and any(request.alphas) and options.has("alphas"):
        raise ValueError("--alphas need something to steer by: --direction FILE, or --behavior and --adapter")
    if direction is None and not also:
        say(
            "no direction given, so this is the base alone; steer with --direction FILE, or --behavior NAME for a study's own"
        )
    base = plan.base if plan is not None else load_base(common)
    origin = load_base(replace(common, model=request.origin)) if request.origin else None

    def at(alpha: float) -> str:
        with ExitStack() as dials:
            for x in also:
                dials.enter_context(steer(base, x.direction, x.alpha, origin=origin))
            if direction is not None:
                dials.enter_context(steer(base, direction, alpha, origin=origin))
            return answer(
                base,
                request.prompt or "",
                system=request.system,
                max_new_tokens=request.max_new_tokens,
                temperature=request.temperature,
                seed=options.values.get("seed") or 0,
                thinking=request.thinking,
            )

    alphas = request.alphas if direction is not None else (0.0,)
    return SideBySide(base.id, request, also, [(alpha, at(alpha)) for alpha in alphas])
