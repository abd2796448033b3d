"""`ws verify`: an export, loaded again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen
from ws.errors import WsError
from ws.export.verify import Deviation, insist
from ws.export.verify import verify as verify_export

EXPORT_FOLDER: Declared = (str, typer.Argument(help="A folder that `ws export` wrote."))


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


@verb(folder=EXPORT_FOLDER)
def verify(options: Options) -> VerbResult:
    """An export's proof."""
    folder = Path(options.text("folder") or "").expanduser()
    if folder.is_file():  # one of its files, as other verbs take them
        folder = folder.parent
    return Proof(folder, verify_export(folder))


def show_verdicts(verdicts: Sequence[Deviation], screen: Screen) -> None:
    """A line for every strength of an export."""
    for v in verdicts:
        screen.show(
            f"alpha {v.alpha:+g}: {v.verdict}. Loaded again, it changes the probes' logits by {100 * v.moved:.2f} % of the "
            f"promised change; the difference is {100 * v.error:.2g} % (at most {100 * v.limit:g} %)."
        )
