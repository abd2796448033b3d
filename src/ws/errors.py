"""The errors of ws, as a tree.

    WsError
    ├── DirectionMismatch   a direction and a model, or two directions, do not line up (modules, shapes, base)
    ├── BadFile             a file is not what its place says (truncated, foreign, a pickle, not finite)
    ├── Unsupported         this model, family or tokenizer cannot do what was asked, and half of it would be wrong
    ├── ScoringImpossible   the answer slot or the answer tokens are not what the protocol needs
    ├── ExportRefused       the target cannot hold this direction; names the reason and the format that can
    └── Failed              the request was fine and the work was not
        ├── PairsUnfit      the generated answers cannot carry a direction
        ├── ProofFailed     an export does not do what it was written to do
        ├── EndpointFailed  a server that writes answers does not, or not as asked
        ├── JudgeUnfit      a judge gives no verdicts that can be read
        ├── ProcessLost     one of several processes of a training ended before the others
        ├── Broken              a strength at which the model's logits are no numbers any more
        ├── DiskFull        what was made could not be written
        └── TrainingDiverged

`ValueError` is a caller's mistake in a single value. Commands turn `ValueError` and `WsError` into one line and exit
code 2; `Failed` gives exit code 1.

A message names a setting as a field in backticks, `` `n_topics` `` or `` `alphas=-1,1` ``: Python callers know it by
that name, and the command line writes it as the flag, `--n-topics`.
"""

from collections.abc import Iterable
from difflib import get_close_matches


def not_known(what: str, name: str, known: Iterable[str], *, more: str = "") -> str:
    """The sentence that refuses a name: it says the known one that is meant, else all there are."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    rest = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}{more}"
    return f"{what} {name!r} is not known; {rest}"


class WsError(Exception):
    """Anything `ws` refuses or fails at, in one sentence that says what to do."""

    exit_code = 2


class DirectionMismatch(WsError):
    """Directions, or a direction and a model, do not line up."""


class BadFile(WsError):
    """A file is damaged, or is not of the kind it was given as."""


class Unsupported(WsError):
    """The request could only be carried out in part, so it is refused."""


class ScoringImpossible(WsError):
    """The protocol cannot be scored on this tokenizer or text."""


class ExportRefused(WsError):
    """The target cannot hold this direction."""


class Failed(WsError):
    """The request was fine; the work did not succeed."""

    exit_code = 1


class PairsUnfit(Failed):
    """The answers of the two personas cannot carry a direction."""


class ProofFailed(Failed):
    """An export does not do what it was written to do."""


class Broken(Failed):
    """The model says nothing any more: its logits are not finite."""


class DiskFull(Failed):
    """There is no room on the disk for a result."""


class TrainingDiverged(Failed):
    """The loss stopped being a number, or left all bounds."""


class EndpointFailed(Failed):
    """A server was asked for answers and gave none that can be used."""


class JudgeUnfit(Failed):
    """A judge answers, and not in the form that was asked for."""


class ProcessLost(Failed):
    """One of the processes that train together is gone."""
