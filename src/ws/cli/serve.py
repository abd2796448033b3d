"""`ws serve`: a model and its dials behind an address."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ws.behaviors import load_behavior
from ws.behaviors import names as behavior_names
from ws.cli.chat import PLACES
from ws.cli.named import DIRECTION, RUN, places_of
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, say
from ws.cli.study import rooted
from ws.direction import Direction
from ws.errors import Unsupported
from ws.methods import as_method
from ws.methods.file import load_named
from ws.methods.method import behavior_name, dial_names
from ws.methods.weights import Weights
from ws.models import Base
from ws.records import refuse_no_folder
from ws.serve.settings import KEY, Serving
from ws.slots import slots_fit
from ws.steer import refuse_mismatch
from ws.study.options import Loading
from ws.study.planning import load_base

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
    places = places_of(options, settings.out)
    loading = rooted(options, options.of(Loading))
    if not options.has("model") and places:
        loading = replace(loading, model=next(iter(places.values())).base_model())
    with bound(settings.host, settings.port) as place:
        base = load_base(loading, out=settings.out)
        if not slots_fit(base.model, 1):
            raise Unsupported(f"the rows of {base.id} cannot come and go, and so it cannot be served; use `ws chat`")
        methods = [_weights(base, text, settings.out) for text in places]
        names = dial_names(methods, [BASE])
        dials = dials_of(base.id, [(n, m.direction) for n, m in zip(names, methods)], settings.max_alpha)
        questions = {name: _questions(base, method) for name, method in zip(names, methods)}
        server = Server(base, dials, settings, questions)
        host, port = place.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        example = f'"model": "{names[0]}@-0.8"' if names else f'"model": "{BASE}"'
        say(
            f"{base.id} with {', '.join(names) or 'no direction'} at {address}/v1, e.g. {example}; a page at {address}/; Ctrl-C ends"
        )
        listen(server, place)
    counts = server.worker.counts
    return Served(address, counts.requests, counts.new_tokens)


def _settings(options: Options) -> Serving:
    """What was typed, with the key of the environment where none was."""
    return Serving(**{"key": os.environ.get(KEY, "").strip() or None, **options.typed(Serving)})


def _weights(base: Base, text: str, out: str) -> Weights:
    """A direction in weight space that fits the model; other methods cannot be turned row by row."""
    method = as_method(load_named(text, base, out=out))
    if not isinstance(method, Weights) or method.below is not None:
        raise Unsupported(f"{text} is {method.name}, and only directions in weight space are served; use `ws chat`")
    refuse_mismatch(base, method.direction)
    direction: Direction = method.direction.to(device=base.device)
    return Weights(method.name, direction, largest=method.largest)


def _questions(base: Base, method: Weights) -> Sequence[str]:
    """Questions of its behavior, of each kind, where it is one that ships."""
    name = behavior_name(method)
    if name not in behavior_names():
        return ()
    prompts = load_behavior(str(name), tiny=base.tiny).prompts
    kinds = {p.category: p.text for p in prompts[::-1]}
    return list(dict.fromkeys([*kinds.values(), *(p.text for p in prompts)]))[:QUESTIONS]
