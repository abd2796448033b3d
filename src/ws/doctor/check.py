"""The result of one check."""

from dataclasses import dataclass

OK, NOTE, BROKEN = "ok", "note", "broken"


@dataclass(frozen=True)
class Finding:
    """One check: its subject, what was found, and what to do where that is not enough."""

    name: str
    state: str
    """ok, note (it works, and you should know), or broken (something `ws` needs does not work)."""
    found: str
    do: str = ""

    def __post_init__(self):
        assert self.state in (OK, NOTE, BROKEN)
        assert self.state != BROKEN or self.do, "what is broken comes with what to do"


def size(n: float) -> str:
    """Bytes for people: 1.2 GB."""
    for unit in ("B", "kB", "MB"):
        if abs(n) < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"
