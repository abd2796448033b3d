"""What a verb hands back: a value that a program can read and that a person can be shown."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping

from ws.cli.screen import Screen
from ws.errors import WsError
from ws.records import canonical


class VerbResult(ABC):
    """The outcome of a verb. It is printed by `deliver` alone, which asks for `--json`."""

    @abstractmethod
    def as_json(self) -> Mapping[str, object]:
        """The object that `--json` prints."""

    @abstractmethod
    def show(self, screen: Screen) -> None:
        """Print it for people."""

    @property
    def failure(self) -> WsError | None:
        """What went wrong, if something did; it is raised after the result was printed."""
        return None


def deliver(result: VerbResult, screen: Screen, *, as_json: bool) -> None:
    """Print a result as one JSON object, in which NaN is null, or for people."""
    if as_json:
        plain = (
            not (sys.stdout.encoding or "").lower().startswith("utf")
        )  # an escaped letter is the same letter to a program
        print(json.dumps(json.loads(canonical(result.as_json())), indent=1, ensure_ascii=plain))
    else:
        result.show(screen)
    if error := result.failure:
        raise error
