"""`ws new`: a behavior pack to change."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from ws.behaviors import new_pack
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen
from ws.errors import BadFile


@dataclass(frozen=True)
class NewPack(VerbResult):
    """A behavior pack that was written."""

    path: Path

    def as_json(self) -> Mapping[str, object]:
        return {"file": str(self.path.resolve())}

    def show(self, screen: Screen) -> None:
        screen.show(
            f"{self.path}: a behavior that runs as it is. Change its words, then look at ten answers of both sides."
        )
        file = str(self.path)
        screen.next(["data", "--preview", "--behavior", file], ["replicate", "--behavior", file])


@verb(name=(str, typer.Argument(metavar="BEHAVIOR", help="What the behavior is called; the pack is NAME.yaml, here.")))
def new(options: Options) -> VerbResult:
    """A behavior pack to change."""
    name = options.text("name") or ""
    path, text = Path(f"{name}.yaml"), new_pack(name)
    try:
        with open(path, "x", encoding="utf-8") as f:
            f.write(text)
    except FileExistsError:
        raise BadFile(
            f"{path} is there already, and nothing is overwritten; take another name, or move it away."
        ) from None
    except OSError as e:
        raise BadFile(f"{path} cannot be written here ({e.strerror}).") from None
    return NewPack(path)
