"""`ws verify`: an export, loaded again; or a server, asked whether its strengths are what they should be."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ws.cli.named import WAYS
from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen
from ws.diff import lookup
from ws.endpoint import Endpoint, Flags
from ws.errors import ProofFailed, WsError
from ws.export.verify import Deviation, insist
from ws.export.verify import verify as verify_export
from ws.models import load
from ws.serve.conformance import HOW, Check, Promise, conformance, named
from ws.serve.settings import KEY

PLACE: Declared = (
    str | None,
    typer.Argument(
        metavar="[DIR]", help=f"A folder that `ws export` wrote; with --server the direction that it turns: {WAYS}."
    ),
)

FLAGS = Flags("`server`", "`name`", None, KEY)


@dataclass(frozen=True)
class OfServer:
    """A server to be verified."""

    server: str | None = None
    """Address of a server that claims a strength for every request, e.g. http://127.0.0.1:8000; a key stands in WS_SERVE_KEY."""
    name: str | None = None
    """What the server calls the direction; the only one it lists when not given."""
    how: str = "model"
    """How it is asked for a strength: model (NAME@ALPHA), steer (in the body) or lora (a scale, as llama.cpp has it)."""
    base: str | None = None
    """What the server calls the unsteered model; base when not given."""
    model: str | None = None
    """The model to compare with; the one the direction was made on when not given."""
    out: str = "out"
    """Output folder, below which a run is found by its name."""

    def __post_init__(self):
        if self.how not in HOW:
            raise ValueError(f"`how` is {', '.join(HOW)}; got {self.how!r}")


@dataclass(frozen=True, eq=False)
class Proof(VerbResult):
    """What an export does, beside what it promised."""

    folder: Path
    verdicts: Sequence[Deviation]

    def as_json(self) -> Mapping[str, object]:
        return {"folder": str(self.folder.resolve()), "proof": [vars(v) for v in self.verdicts]}

    def show(self, screen: Screen) -> None:
        show_verdicts(self.verdicts, screen)

    @property
    def failure(self) -> WsError | None:
        try:
            insist(list(self.verdicts))
        except WsError as e:
            return e
        return None


@dataclass(frozen=True, eq=False)
class Conformance(VerbResult):
    """What a server keeps of what a strength per request means."""

    name: str
    checks: Sequence[Check]

    def as_json(self) -> Mapping[str, object]:
        return {"direction": self.name, "kept": self.failure is None, "checks": [vars(c) for c in self.checks]}

    def show(self, screen: Screen) -> None:
        for check in self.checks:
            screen.show(screen.text(f"{check.verdict:<12} {check.name}: {check.words}."))

    @property
    def failure(self) -> WsError | None:
        broken = [c.name for c in self.checks if c.verdict == "broken"]
        return ProofFailed(f"this server breaks {len(broken)} promises: {', '.join(broken)}.") if broken else None


@verb(OfServer, place=PLACE)
def verify(options: Options) -> VerbResult:
    """An export's proof, or a server's."""
    settings, place = options.of(OfServer), options.text("place")
    if settings.server is not None:
        return _of_server(settings, place)
    if place is None or options.has("name", "how", "base", "model"):
        raise ValueError("ws verify takes a folder that `ws export` wrote, or the address of a server: --server URL")
    folder = Path(place).expanduser()
    if folder.is_file():  # one of its files, as other verbs take them
        folder = folder.parent
    return Proof(folder, verify_export(folder))


def _of_server(settings: OfServer, place: str | None) -> VerbResult:
    address = (settings.server or "").strip().rstrip("/")
    address = address if address.endswith("/v1") else f"{address}/v1"
    asked = named(
        Endpoint(address, key=os.environ.get(KEY, "").strip() or None, flags=FLAGS),
        settings.name,
        settings.how,
        settings.base,
    )
    promise = None if place is None else _promise(place, settings)
    return Conformance(asked.name, conformance(asked, promise))


def _promise(place: str, settings: OfServer) -> Promise:
    """What a direction itself does to the first token of an answer, on its own model."""
    from ws.serve.promise import promise_of

    where = lookup(place, settings.out)
    base = load(settings.model or where.base_model())
    return promise_of(base, where.direction(base))


def show_verdicts(verdicts: Sequence[Deviation], screen: Screen) -> None:
    """A line for every strength of an export."""
    for v in verdicts:
        screen.show(
            f"alpha {v.alpha:+g}: {v.verdict}. Loaded again, it changes the probes' logits by {100 * v.moved:.2f} % of the "
            f"promised change; the difference is {100 * v.error:.2g} % (at most {100 * v.limit:g} %)."
        )
