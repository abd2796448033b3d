"""`ws chat`: a conversation with the dial in reach."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ws.behaviors import USUAL, load_behavior
from ws.behaviors import names as behavior_names
from ws.cli.conversation import Chatting, Conversation, Dial, Reply, Strengths, spoken
from ws.cli.named import DIRECTION, RUN, WAYS, places_of
from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import CONTROL, Screen, complain, safe_text, say
from ws.cli.study import made_on, rooted
from ws.errors import Failed, WsError
from ws.generate import Answer
from ws.methods import as_method
from ws.methods.file import load_named
from ws.methods.method import behavior_name, dial_names, refuse_other_base
from ws.numbers import some
from ws.settings import value_of
from ws.steer import distinct_strengths
from ws.study.options import Loading
from ws.study.planning import load_base
from ws.study.runs import runs

PLACES: Declared = (
    list[str] | None,
    typer.Argument(metavar="[DIRECTION ...]", help=f"What steers, each called by its behavior's name: {WAYS}."),
)
HINTS = 3
"""Questions that are proposed at the start, and runs."""
LONG = 60
"""Characters of an answer from which on an empty line stands between two of them."""
NO_DIAL = "there is nothing to turn here; start with a direction: ws chat RUN"
HELP = {
    "alpha": ("NUMBER", "turn the dial; with several, all of them"),
    "compare": ("-1,0,1", "the last message again, at several strengths side by side"),
    "system": ("TEXT", "another system prompt; without TEXT, none"),
    "reset": ("", "forget what was said; dials and system prompt stay"),
    "save": ("FILE.md", "write what was said, with its strengths"),
    "help": ("", "this list"),
    "quit": ("", "end; so does Ctrl-D"),
}


@dataclass(frozen=True, eq=False)
class Transcript(VerbResult):
    """What was said, which was printed while it was said."""

    conversation: Conversation
    mistakes: int
    """Lines of a pipe that could not be done."""

    def as_json(self) -> Mapping[str, object]:
        return self.conversation.as_json()

    def show(self, screen: Screen) -> None:
        """Nothing is left to print."""

    @property
    def failure(self) -> WsError | None:
        return Failed(f"{some(self.mistakes, 'line')} could not be done; see above") if self.mistakes else None


@verb(Chatting, Loading, places=PLACES, direction=DIRECTION, run=RUN)
def chat(options: Options) -> VerbResult:
    """A conversation, line by line."""
    settings = options.of(Chatting)
    places = places_of(options, settings.out)
    alphas = _alphas(settings, len(places), typed=options.has("alpha"))
    loading = rooted(options, options.of(Loading))
    if not options.has("model") and places:
        loading = made_on(loading, next(iter(places.values())))
    base = load_base(loading, out=settings.out)
    dials = []
    for place, alpha in zip(places, alphas):
        method = as_method(load_named(place, base, out=settings.out))
        refuse_other_base(method, base)
        method.check_strengths([alpha])
        dials.append(Dial(place, method, alpha))
    names = dial_names([dial.method for dial in dials], list(HELP))
    conversation = Conversation(base, settings, dict(zip(names, dials)), settings.system)
    talk = Talk(conversation, Console(stderr=options.json, highlight=False), asks=sys.stdin.isatty())
    talk.greet()
    talk.listen()
    return Transcript(conversation, 0 if talk.asks else talk.mistakes)


def _alphas(settings: Chatting, n: int, *, typed: bool) -> Sequence[float]:
    """A strength for each of n directions; every setting that cannot be is refused here, before a model is loaded."""
    if typed and n == 0:
        raise ValueError("`alpha` needs something to steer by: ws chat RUN `alpha=-1`; `ws runs` lists the runs")
    if len(settings.alpha) not in (1, n) and n:
        raise ValueError(f"`alpha` holds {len(settings.alpha)} strengths for {n} directions; give one, or one for each")
    return settings.alpha * n if len(settings.alpha) == 1 else settings.alpha


@dataclass(eq=False)
class Talk:
    """One person, line by line, and the model."""

    conversation: Conversation
    console: Console
    """Where answers go."""
    asks: bool
    """Whether somebody sits at a terminal."""
    files: set[Path] = field(default_factory=set)
    """What /save has written."""
    mistakes: int = 0

    # ------------------------------------------------------------ reading

    def greet(self) -> None:
        """What is on, what can be typed, and, of `tiny`, what can be asked."""
        self._warn([self.conversation.strengths])
        if not self.asks:
            return
        base, dials = self.conversation.base, self.conversation.dials
        if dials:
            say(f"{base.id} with {spoken(self.conversation.strengths)}. /{next(iter(dials))} -0.8 turns the dial;")
            say("/compare -1,0,1 shows strengths side by side, /help lists the rest.")
        else:
            say(f"{base.id}, unsteered; `ws chat RUN` brings a dial. /help lists what can be typed.")
            there = [r["run"] for r in runs(Path(self.conversation.settings.out)) if r["model"] == base.id]
            if there:
                say(f"Runs of this model: {', '.join(there[-HINTS:])}")
        if base.tiny:
            say("tiny knows only a small world. Ask, for example:")
            for question in _questions([behavior_name(dial.method) for dial in dials.values()]):
                say(f"  {question}")

    def listen(self) -> None:
        """Every line until the end: a message, or a command that begins with a slash."""
        if self.asks:
            _complete([f"/{name}" for name in (*HELP, *self.conversation.dials)])
        while (line := self._line()) is not None:
            try:
                if line.startswith("/"):
                    if line.split()[0] == "/quit":
                        return
                    self._command(line.rstrip())
                elif line.strip():
                    self._answer(line.strip())
            except (WsError, ValueError) as e:
                self.mistakes += 1
                complain(str(e).replace("`", ""))

    def _line(self) -> str | None:
        """The next line, or None at the end."""
        prompt = f"{spoken(self.conversation.strengths)} > "
        try:
            if self.asks and sys.stdout.isatty():
                return input(prompt)
            if self.asks:  # answers go to a file or a pipe, where no prompt belongs
                print(prompt, end="", file=sys.stderr, flush=True)
            line = sys.stdin.readline()
            return line.rstrip("\n") if line else None
        except EOFError:
            say("")
            return None
        except KeyboardInterrupt:
            if not self.asks:
                raise
            say("\n(/quit or Ctrl-D ends)")
            return ""

    # ------------------------------------------------------------ answering

    def _answer(self, message: str) -> None:
        """Print the answer while it comes; Ctrl-C ends the answer and not the chat."""
        conversation, printer = self.conversation, Printer(self.console)
        strengths = dict(conversation.strengths)
        with self._stoppable() as stopped, closing(conversation.stream(message, at=[strengths])) as answers:
            answer = Answer("", 0, False)
            for (answer,) in answers:
                printer.grow(answer.text)
                if stopped():
                    break
        printer.end(answer.text)
        reply = Reply(strengths, answer, stopped())
        conversation.remember(message, reply)
        self._say_note(reply)

    def _compare(self, text: str) -> None:
        """The last message again, at several strengths in one batch."""
        conversation = self.conversation
        if not conversation.turns:
            raise ValueError("/compare answers the last message again; say something first")
        rows = self._rows(text)
        message, _ = conversation.turns[-1]
        replies = [Reply(row, Answer("", 0, False), False) for row in rows]
        with (
            self._stoppable() as stopped,
            closing(conversation.stream(message, at=rows, again=True)) as stream,
            Live(console=self.console, transient=True, auto_refresh=False) as live,
        ):
            for answers in stream:
                replies = [Reply(row, answer, stopped()) for row, answer in zip(rows, answers)]
                if self.console.is_terminal:
                    live.update(_side_by_side(replies), refresh=True)
                if stopped():
                    break
        self.console.print(_side_by_side(replies))
        conversation.note(message, replies)
        for reply in replies:
            self._say_note(reply)

    def _rows(self, text: str) -> list[Strengths]:
        """The strengths of a comparison: of one dial, the others as they are, or of all of them."""
        conversation = self.conversation
        *name, values = text.split() or [""]
        if not conversation.dials:
            raise ValueError(NO_DIAL)
        if len(name) > 1 or (name and name[0].lstrip("/") not in conversation.dials):
            one, *_ = conversation.dials
            raise ValueError(f"/compare takes a list of strengths, and a name before it: /compare {one} -1,0,1")
        turned = [name[0].lstrip("/")] if name else list(conversation.dials)
        alphas = value_of(tuple[float, ...], values, "/compare")
        if not alphas:
            raise ValueError("/compare takes a list of strengths, such as /compare -1,0,1")
        distinct_strengths(alphas)
        for dial in turned:
            conversation.dials[dial].method.check_strengths(alphas)
        rows: list[Strengths] = [{**conversation.strengths, **dict.fromkeys(turned, alpha)} for alpha in alphas]
        self._warn([dict.fromkeys(turned, alpha) for alpha in alphas])
        return rows

    def _warn(self, rows: Sequence[Strengths]) -> None:
        """Say which strengths lie outside all that is known of their directions."""
        for name, dial in self.conversation.dials.items():
            for alpha in dict.fromkeys(row[name] for row in rows if name in row):
                if warning := dial.beyond(alpha):
                    say(f"({name}: {warning})")

    def _say_note(self, reply: Reply) -> None:
        if reply.note and self.asks:
            say(f"({reply.note})")

    @contextmanager
    def _stoppable(self) -> Iterator[Callable[[], bool]]:
        """A block in which Ctrl-C is asked for after each token; a second one, or one where nobody sits, ends the chat."""
        interrupts: list[int] = []

        def interrupt(number: int, frame: object) -> None:
            interrupts.append(number)
            if len(interrupts) > 1:
                raise KeyboardInterrupt

        if not self.asks:
            yield lambda: False
            return
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield lambda: bool(interrupts)
        finally:
            signal.signal(signal.SIGINT, before)

    # ------------------------------------------------------------ commands

    def _command(self, line: str) -> None:
        """What a line that begins with a slash asks for."""
        name, _, rest = line[1:].partition(" ")
        conversation, rest = self.conversation, rest.strip()
        if name == "alpha" or name in conversation.dials:
            self._turn(line.split())
        elif name == "compare":
            self._compare(rest)
        elif name == "system":
            conversation.system = rest or None
            say(f"system: {rest}" if rest else "no system prompt")
        elif name == "reset":
            conversation.turns.clear()
            say("forgotten; dials and system prompt stay as they are")
        elif name == "save":
            self._save(rest)
        elif name == "help":
            self._help()
        else:
            known = [*HELP, *conversation.dials]
            near = get_close_matches(name, known, 1)
            hint = f"did you mean /{near[0]}?" if near else f"there are {', '.join(f'/{n}' for n in known)}."
            raise ValueError(f"there is no /{name}; {hint} A message that begins with / is typed after a space")

    def _turn(self, words: Sequence[str]) -> None:
        """Turn dials, all of a line or none: /alpha -0.8, or /honesty 1.2 /authority -0.5."""
        dials = self.conversation.dials
        if not dials:
            raise ValueError(NO_DIAL)
        if len(words) == 1:
            say(spoken(self.conversation.strengths))
            return
        strengths: dict[str, float] = {}
        for word, number in zip(words[::2], [*words[1::2], ""]):
            name = word.removeprefix("/")
            if word == name or name not in (*dials, "alpha") or not number:
                raise ValueError(f"a dial is turned by its name and a number: {self._example}")
            alpha = value_of(float, number, f"the strength of {name}")
            for each in dials if name == "alpha" else [name]:
                dials[each].method.check_strengths([alpha])
                strengths[each] = alpha
        for name, alpha in strengths.items():
            dials[name].alpha = alpha
        self._warn([strengths])

    @property
    def _example(self) -> str:
        return " ".join(f"/{name} {alpha:g}" for name, alpha in zip(self.conversation.dials, (-0.8, 1.2)))

    def _save(self, name: str) -> None:
        """Write what was said; a file that is there and not of this chat stays as it is."""
        if not name:
            raise ValueError("/save needs a file: /save chat.md")
        path = Path(name).expanduser()
        try:
            with path.open("w" if path.resolve() in self.files else "x", encoding="utf-8") as file:
                file.write(self.conversation.as_markdown())
        except FileExistsError:
            raise ValueError(f"{path} is there already, and nothing was written; give another name") from None
        except OSError as e:
            raise ValueError(f"{path} cannot be written: {e.strerror}") from None
        self.files.add(path.resolve())
        say(f"saved {some(len(self.conversation.exchanges), 'answer')} to {path}")

    def _help(self) -> None:
        """What can be typed."""
        dials = self.conversation.dials
        turns = {name: ("NUMBER", f"turn this one, now at {dial.alpha:+g}") for name, dial in dials.items()}
        table = Table.grid(padding=(0, 2))
        for name, (value, text) in {**HELP, **turns}.items():
            table.add_row(f"/{name}", value, text)
        Console(stderr=True, highlight=False).print(table)
        if len(dials) > 1:
            one, *_ = dials
            say(f"Several in one line: {self._example}. One alone: /compare {one} -1,0,1")


@dataclass(eq=False)
class Printer:
    """Prints a text that grows, without what a terminal would obey."""

    console: Console
    text: str = ""
    """What is printed of it."""

    def grow(self, text: str) -> None:
        """Print what is new; the half of a character waits for its other half."""
        whole = text.rstrip("\N{REPLACEMENT CHARACTER}")
        if whole.startswith(self.text):
            self._write(whole[len(self.text) :])
            self.text = whole

    def end(self, text: str) -> None:
        """Print the rest, and all of it where tokens to come have changed how the first ones read."""
        rest = text[len(self.text) :] if text.startswith(self.text) else f"\n{text}"
        self._write(f"{rest}\n")

    def _write(self, text: str) -> None:
        self.console.file.write(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))
        self.console.file.flush()


def _side_by_side(replies: Sequence[Reply]) -> Table:
    """A row per strength, called by what differs between the rows."""
    dials = replies[0].strengths
    differ = [name for name in dials if len({reply.strengths[name] for reply in replies}) > 1] or list(dials)
    long = any(len(reply.answer.text) > LONG for reply in replies)
    table = Table(box=None, pad_edge=False, show_header=False, leading=int(long))
    table.add_column("strengths")
    table.add_column("answer", overflow="fold")
    for reply in replies:
        table.add_row(spoken({name: reply.strengths[name] for name in differ}), safe_text(reply.answer.text))
    return table


def _questions(behaviors: Sequence[str | None]) -> list[str]:
    """Questions that the embedded model understands, of each kind there is in these behaviors."""
    known = [b for b in behaviors if b in behavior_names()] or [USUAL]
    kinds = {f"{b} {p.category}": p.text for b in known for p in load_behavior(b, tiny=True).prompts[::-1]}
    return list(kinds.values())[:HINTS]


def _complete(words: Sequence[str]) -> None:
    """Line editing with a history, and names completed by the tabulator, where Python has readline."""
    try:
        import readline
    except ImportError:
        return
    readline.set_completer(lambda text, n: [*(f"{w} " for w in words if text and w.startswith(text)), None][n])
    readline.set_completer_delims(" ")
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")
