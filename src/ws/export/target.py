"""The common parts of every export: a folder that is there whole or not at all, and its card."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch.nn.functional import pad

from ws.direction import Direction
from ws.direction.card import markdown
from ws.direction.forms import BiasShift, F, Factors, LowRank, Stacked, gathered
from ws.errors import BadFile, ExportRefused
from ws.models.base import Base
from ws.models.checkpoint import Theta
from ws.models.locate import locate
from ws.records import refuse_unwritable, versions, write_json
from ws.types import Json

OURS = "ws.json"


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A working folder that becomes `out` when the block ends well, and is gone when it does not.

    A killed export leaves a hidden folder whose name ends in `.incomplete`, which no loader takes for a model.
    """
    refuse_taken(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".incomplete", dir=out.parent))  # ours alone
        work.chmod(out.parent.stat().st_mode & 0o777)
    except OSError as e:
        raise BadFile(f"the folder {out} cannot be written ({e.strerror}); give another one.") from None
    try:
        yield work
        try:
            work.rename(out)
        except OSError as e:
            raise BadFile(
                f"the finished export cannot be moved to {out} ({e.strerror}); give another folder."
            ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def refuse_taken(out: Path) -> None:
    """Refuse a folder that holds something already, or cannot be written."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise BadFile(f"{out} exists and is not an empty folder; an export never overwrites. Give another folder.")
    refuse_unwritable(out.parent)


def factors(direction: Direction, to: str) -> dict[str, LowRank]:
    """The low-rank change of each module; any other form is refused, with what to do instead."""
    low_ranks = {}
    for name, form in factors_of_all(direction, to).items():
        if not isinstance(form, LowRank):
            raise ExportRefused(
                f"{to} holds a matrix per module, and {name} is one of every expert in one tensor: `to=merged` holds it, and so does "
                "`to=peft`."
            )
        low_ranks[name] = form
    return low_ranks


def factors_of_all(direction: Direction, to: str) -> dict[str, LowRank | Stacked]:
    """The low-rank change of each module, and of experts that lie in one tensor; any other form is refused."""
    low_ranks: dict[str, LowRank | Stacked] = {}
    for name, forms in direction.forms.items():
        if other := sorted({f.kind for f in forms if not isinstance(f, Factors)}):
            bias = all(isinstance(f, BiasShift) for f in forms if not isinstance(f, Factors))
            way = "`to=merged` holds it" if bias else "`rank` exports its best low-rank part, and `to=merged` all of it"
            raise ExportRefused(
                f"{to} holds low-rank changes only, and {name} is changed by {', '.join(other)}: {way}."
            )
        (low_ranks[name],) = gathered(forms)  # type: ignore[assignment]
    return low_ranks


def of_one_rank(low_ranks: Mapping[str, F]) -> tuple[int, dict[str, F]]:
    """The largest rank, and all factors at it, the smaller ones with zeros: a rank per module is not read everywhere."""
    rank = max(f.rank for f in low_ranks.values())
    lacking = {m: rank - f.rank for m, f in low_ranks.items()}
    return rank, {m: type(f)(pad(f.b, (0, lacking[m])), pad(f.a, (0, 0, 0, lacking[m]))) for m, f in low_ranks.items()}


def place_of(base: Base) -> tuple[str, str | None]:
    """(where a base is loaded from, its revision): a hub id, a folder by its whole path, or `tiny`.

    A GGUF file stands for the folder that it was unpacked into, because other programs load that.
    """
    if base.root is not None:
        raise ExportRefused(f"{base.id} is in memory only, and other tools cannot load it; export on {base.root.id}.")
    if base.tiny or not base.source:
        return base.id, base.revision
    source, _, _ = locate(base.source)
    return (str(Path(source).resolve()), None) if Path(source).is_dir() else (base.id, base.revision)


def describe(folder: Path, direction: Direction, base: Theta, **record: object) -> None:
    """`ws.json` beside an export: what was exported, of what, by what."""
    known = {"provenance": dict(direction.provenance), "card": dict(direction.card)}
    write_json(
        folder / OURS,
        {
            "direction": {"hash": direction.content_hash, **known},
            "base": base.described(),
            "versions": versions(),
            **record,
        },
    )


def card(title: str, direction: Direction, base: Theta, body: str, *, library: str, relation: str) -> str:
    """A model card: front matter the hub reads, and what a reader should know."""
    provenance = direction.provenance
    training = provenance.get("training", {})
    settings = training.get("settings", {})
    front = [
        "---",
        f"base_model: {base.id}",
        f"base_model_relation: {relation}",
        f"library_name: {library}",
        "tags: [weight-steering]",
        "---",
    ]
    facts = [
        f"- base: `{base.id}`, revision `{base.revision}`, fingerprint `{base.fingerprint[:16]}`",
        f"- direction: {provenance.get('adapter', 'unknown')}, mode {provenance.get('mode', 'unknown')}, {len(direction.forms)} modules, content `{direction.content_hash[:16]}`",
        f"- training: seed {settings.get('seed', 'unknown')}, learning rate {training.get('lr', 'unknown')}, pairs `{str(training.get('pairs', 'unknown'))[:16]}`",
    ]
    about = markdown(direction)
    return "\n".join([*front, f"# {title}", "", *about, body.strip(), "", *facts, ""])


def read_ours(folder: Path) -> Json:
    """The `ws.json` of an export."""
    path = folder / OURS
    if not path.is_file():
        raise BadFile(f"{folder} holds no {OURS}; `ws verify` takes a folder that `ws export` wrote.")
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise BadFile(f"{path} is not JSON; the export is damaged.") from None
