"""`ws serve`: a model and its dials behind an address."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ws.behaviors import load_behavior
from ws.behaviors import names as behavior_names
from ws.cli.chat import PLACES
from ws.cli.ending import ended_politely
from ws.cli.named import DIRECTION, RUN, places_of
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, say
from ws.cli.study import made_on, rooted
from ws.direction import Direction
from ws.errors import DirectionMismatch, Unsupported
from ws.export import export
from ws.export.gguf import FILE
from ws.methods import as_method
from ws.methods.file import load_named
from ws.methods.method import behavior_name, dial_names
from ws.methods.weights import Weights
from ws.models import Base
from ws.models.gguf import located
from ws.records import refuse_no_folder
from ws.serve.settings import KEY, Serving
from ws.slots import slots_fit
from ws.steer import refuse_mismatch
from ws.study.options import Loading
from ws.study.planning import load_base

if TYPE_CHECKING:
    from ws.serve.proxy import Proxy
    from ws.serve.strengths import Dials

QUESTIONS = 6
"""Questions of a behavior that the page proposes."""


@dataclass(frozen=True, eq=False)
class Served(VerbResult):
    """What a server did until it was ended."""

    address: str
    requests: Mapping[str, int]
    new_tokens: int

    def as_json(self) -> Mapping[str, object]:
        return {"address": self.address, "requests": dict(self.requests), "new_tokens": self.new_tokens}

    def show(self, screen: Screen) -> None:
        screen.show(f"{sum(self.requests.values())} requests, {self.new_tokens} tokens written")


@verb(Serving, Loading, places=PLACES, direction=DIRECTION, run=RUN)
def serve(options: Options) -> VerbResult:
    """A server until Ctrl-C."""
    from ws.serve.app import Server
    from ws.serve.listen import bound, listen
    from ws.serve.strengths import BASE, dials_of

    settings = _settings(options)
    settings.refuse_open()
    refuse_no_folder(Path(settings.out))
    file = located(settings.gguf) if settings.gguf is not None else None
    places = places_of(options, settings.out)
    loading = rooted(options, options.of(Loading))
    if not options.has("model"):
        first = next(iter(places.values()), None)
        loading = made_on(loading, first) if first else replace(loading, model=settings.gguf or loading.model)
    with ended_politely(), bound(settings.host, settings.port) as place, ExitStack() as stack:
        base = load_base(loading, out=settings.out)
        if file is None and not slots_fit(base.model, 1):
            raise Unsupported(f"the rows of {base.id} cannot come and go, and so it cannot be served; use `ws chat`")
        methods = [_weights(base, text, settings.out) for text in places]
        names = dial_names(methods, [BASE])
        dials = dials_of(base.id, [(n, m.direction) for n, m in zip(names, methods)], settings.max_alpha)
        questions = {name: _questions(base, method) for name, method in zip(names, methods)}
        threads = loading.threads or torch.get_num_threads()
        server: "Server | Proxy"
        if file is None:
            server = Server(base, dials, settings, questions)
        else:
            server = stack.enter_context(_beside_llama_cpp(file, base, dials, settings, questions, threads))
        host, port = place.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        example = f'"model": "{names[0]}@-0.8"' if names else f'"model": "{BASE}"'
        what = base.id if file is None else f"{file.name} in llama.cpp"
        page = f"; a page at {address}/" if file is None else ""
        del base  # llama.cpp has its own
        say(f"{what} with {', '.join(names) or 'no direction'} at {address}/v1, e.g. {example}{page}; Ctrl-C ends")
        listen(server.app, place, server.stop)
    return Served(address, server.gate.requests, server.new_tokens)


@contextmanager
def _beside_llama_cpp(
    file: Path, base: Base, dials: "Dials", settings: Serving, questions: Mapping[str, Sequence[str]], threads: int
) -> Iterator["Proxy"]:
    """A server whose answers llama.cpp writes, with every direction as an adapter of its own."""
    from ws.serve.llama_cpp import llama_cpp
    from ws.serve.proxy import Proxy

    with tempfile.TemporaryDirectory() as work:
        folders = [Path(work) / str(number) for number, _ in enumerate(dials.by_name)]
        for folder, dial in zip(folders, dials.by_name.values()):
            export(dial.direction, base, folder, to="gguf-lora", alphas=[1.0])
        del base
        with llama_cpp(file, [folder / FILE for folder in folders], rows=settings.rows, threads=threads) as llama:
            yield Proxy(dials, settings, llama, questions)


def _settings(options: Options) -> Serving:
    """What was typed, with the key of the environment where none was."""
    return Serving(**{"key": os.environ.get(KEY, "").strip() or None, **options.typed(Serving)})


def _weights(base: Base, text: str, out: str) -> Weights:
    """A direction in weight space that fits the model; other methods cannot be turned row by row."""
    method = as_method(load_named(text, base, out=out))
    if not isinstance(method, Weights) or method.below is not None:
        raise Unsupported(f"{text} is {method.name}, and only directions in weight space are served; use `ws chat`")
    if not base.fits(method.direction.fingerprint):
        own = method.direction.provenance["base"].get("id") or "another model"
        raise DirectionMismatch(
            f"{text} was made on {own}, and {base.id} is served: all directions of a server are of one model."
        )
    refuse_mismatch(base, method.direction)
    # a server lives long, and a map of a file changes with the file
    direction: Direction = method.direction.to(device=base.device, copy=True)
    return Weights(method.name, direction, largest=method.largest)


def _questions(base: Base, method: Weights) -> Sequence[str]:
    """Questions of its behavior, of each kind, where it is one that ships."""
    name = behavior_name(method)
    if name not in behavior_names():
        return ()
    prompts = load_behavior(str(name), tiny=base.tiny).prompts
    kinds = {p.category: p.text for p in prompts[::-1]}
    return list(dict.fromkeys([*kinds.values(), *(p.text for p in prompts)]))[:QUESTIONS]
