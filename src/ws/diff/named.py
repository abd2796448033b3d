"""The difference between two models that are named by text, as a command line names them.

BASE                a model folder, hub id, `id@revision` or `tiny`: the checkpoint itself
BASE+ADAPTER        a base and a peft folder, its hub id, or a side of `ws train`
ADAPTER             an adapter folder that names its base
RUN                 a run of `ws train` by folder, name or the beginning of one: its base plus its direction
FILE.safetensors    a direction, or plain changes named as the checkpoint names its tensors
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ws.adapters import Adapter
from ws.diff.checkpoints import diff_checkpoints, from_tensors
from ws.diff.lookup import DIRECTION, adapter_at, base_of, base_of_adapter, is_adapter, lookup
from ws.diff.trained import diff_adapters
from ws.direction import Direction
from ws.direction import load as load_direction
from ws.direction.algebra import compressed
from ws.errors import BadFile, DirectionMismatch
from ws.models.checkpoint import Checkpoint, fetched, open_checkpoint, same
from ws.models.locate import refuse_nowhere
from ws.records import named_runs


@dataclass(frozen=True)
class NamedModel:
    """One named model: weights, and what is added to them."""

    theta: Checkpoint
    change: Adapter | Direction | None = None


def diff_named(
    left: str, right: str | None = None, *, model: str | None = None, out: Path = Path("out"), rank: int | None = None
) -> tuple[Direction, Checkpoint]:
    """(LEFT - RIGHT, the base it is for). RIGHT defaults to the base of LEFT, which makes a task vector.

    `model` is the base where a side does not name one, and the one to steer where both sides are whole checkpoints.
    """
    for text in filter(None, (left, right, model)):
        _refuse_nowhere(text, out)
    opened = cache(open_checkpoint)  # both sides mostly stand on one base
    a = _side(left, model, out, opened)
    if right:
        b = _side(right, model, out, opened)
    else:
        b = NamedModel(a.theta if a.change is not None or model is None else opened(model))
    if a.theta is not b.theta and not same(a.theta, b.theta):
        if a.change is not None or b.change is not None:
            raise DirectionMismatch(
                f"{left} and {right or model} stand on different bases ({a.theta.id}, {b.theta.id}), and an adapter or a "
                "direction is subtracted on one base only. Write the model first: `ws export FILE --to merged`."
            )
        base = opened(model) if model else b.theta
        return diff_checkpoints(a.theta, b.theta, base, rank=rank), base
    if a.change is None and b.change is None:
        raise DirectionMismatch(f"{left} and {right or 'its base'} are the same model; there is no difference.")
    direction = _on_one_base(a, b)
    parts = (Direction({n: fs}).norm(a.theta.weight) for n, fs in direction.forms.items())
    if not any(parts):  # mostly the first module says so
        raise DirectionMismatch(f"{left} and {right or 'its base'} are the same model; there is no difference.")
    if rank is not None:
        direction, _ = compressed(direction, rank=rank, weight=a.theta.weight)
    return direction, a.theta


def _refuse_nowhere(text: str, out: Path) -> None:
    """Refuse a name behind which nothing lies, before a side is opened."""
    path = Path(text).expanduser()
    if not path.exists() and "+" in text:
        return _refuse_nowhere(_halves(text)[0], out)
    if path.suffix == ".safetensors" and not path.is_file():
        raise BadFile(f"there is no file {path}.")
    if not path.exists() and not _is_run(text, out):
        refuse_nowhere(text)


def _side(text: str, model: str | None, out: Path, opened: Callable[[str], Checkpoint]) -> NamedModel:
    """The model that a text names; the top of this file lists the forms."""
    path = Path(text).expanduser()
    if not path.exists() and "+" in text:
        base, adapter = _halves(text)
        theta = opened(base)
        return NamedModel(theta, adapter_at(fetched(adapter, "adapter"), theta))
    if path.suffix == ".safetensors":
        return _of_file(path, model, opened)
    if (path / DIRECTION).is_file():
        return _of_file(path / DIRECTION, model, opened)
    if is_adapter(path):
        theta = opened(model or base_of_adapter(path))
        return NamedModel(theta, adapter_at(path, theta))
    if (path / "train").is_dir() or (not path.exists() and _is_run(text, out)):
        place = lookup(text, out)
        return _checked(NamedModel(opened(model or place.base_model()), place.direction()))
    return NamedModel(opened(text))


def _is_run(text: str, out: Path) -> bool:
    """True where a text names runs by more than their model, which begins the name of each and is a model itself."""
    return any(text not in r.name.rsplit("-", 2)[0] for r in named_runs(text, out))


def _on_one_base(a: NamedModel, b: NamedModel) -> Direction:
    if isinstance(a.change, Adapter) and isinstance(b.change, Adapter):
        return diff_adapters(a.theta, a.change, b.change)
    parts = [diff_adapters(s.theta, s.change) if isinstance(s.change, Adapter) else s.change for s in (a, b)]
    if parts[0] is None or parts[1] is None:
        one = parts[0] if parts[0] is not None else -parts[1]  # type: ignore[operator]
        return one
    return parts[0] - parts[1]


def _halves(text: str) -> tuple[str, str]:
    """BASE and ADAPTER, whose paths may hold a `+` of their own: the split whose right side is there, else the last."""
    places = [i for i, c in enumerate(text) if c == "+"]
    at = next((i for i in places if Path(text[i + 1 :]).expanduser().is_dir() and text[i + 1 :]), places[-1])
    base, adapter = text[:at], text[at + 1 :]
    if not base or not adapter:
        raise BadFile(f"{text!r} is no BASE+ADAPTER; one of the two is empty.")
    return base, adapter


def _of_file(path: Path, model: str | None, opened: Callable[[str], Checkpoint]) -> NamedModel:
    if not path.is_file():
        raise BadFile(f"there is no file {path}.")
    try:
        with safe_open(path, framework="pt") as f:
            ours = "ws" in (f.metadata() or {})
    except (SafetensorError, OSError) as e:
        raise BadFile(
            f"{path} cannot be read as safetensors ({str(e)[:100]}); it is truncated or something else."
        ) from None
    if ours:
        direction = load_direction(path)
        return _checked(NamedModel(opened(base_of(direction, model)), direction))
    if model is None:
        raise BadFile(f"{path} holds plain tensors, which name no base; give it with `model`.")
    theta = opened(model)
    return NamedModel(theta, from_tensors(theta, load_file(path)))


def _checked(side: NamedModel) -> NamedModel:
    assert isinstance(side.change, Direction)
    if (side.change.provenance.get("base") or {}).get("whole") == side.theta.fingerprint:
        return side  # made on the same model, rounded as it was read: its change needs none of the values
    if side.change.fingerprint not in (None, side.theta.fingerprint):
        raise DirectionMismatch(
            f"the direction was made from base {side.change.fingerprint[:8]}…, and {side.theta.id} is {side.theta.fingerprint[:8]}…. "
            "Name the base it was made from with `model`."
        )
    return side
