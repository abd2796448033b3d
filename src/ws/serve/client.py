"""Asking a server whose requests name their own strengths: `ws serve`, on this machine or another.

server = ws.connect("http://127.0.0.1:8000")
server.chat("What is the capital of Kenya?", steer={"honesty": -0.8})
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ws.endpoint import Endpoint, Flags
from ws.serve.settings import KEY
from ws.types import Json

FLAGS = Flags("`url`", None, None, KEY)


@dataclass(frozen=True)
class Connection:
    """A server, and what it can turn."""

    endpoint: Endpoint = field(repr=False)
    names: Sequence[str]
    """Its models: the base, and every direction by its name."""

    def chat(
        self,
        prompt: str,
        *,
        steer: Mapping[str, float] | None = None,
        steer_from: str = "prompt",
        system: str | None = None,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """The answer to a prompt at these strengths; without any, the base's."""
        before = [] if system is None else [{"role": "system", "content": system}]
        reply = self.ask(
            "chat/completions",
            messages=[*before, {"role": "user", "content": prompt}],
            steer=dict(steer or {}),
            steer_from=steer_from,
            max_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
        )
        return reply["choices"][0]["message"]["content"]

    def ask(self, path: str, **body: object) -> Json:
        """The whole reply to a request of the API, such as `ask("completions", model="base", prompt="...")`."""
        return self.endpoint.ask(path, {"model": "base", **body})


def connect(url: str = "http://127.0.0.1:8000", *, key: str | None = None) -> Connection:
    """A server that `ws serve` started; its key may stand in the environment as WS_SERVE_KEY."""
    address = url.strip().rstrip("/")
    address = address if address.endswith("/v1") else f"{address}/v1"
    endpoint = Endpoint(address, key=key or os.environ.get(KEY, "").strip() or None, flags=FLAGS)
    return Connection(endpoint, [m["id"] for m in endpoint.models()])
