"""Where a direction lies that a text names: the one place that knows every way of naming it.

RUN                    a run's folder, its name below `out`, or a beginning that no other run has; `honesty/lora` is one too
FILE.safetensors       a direction, or any other method
FOLDER                 one that holds a direction, a peft adapter or a side of `ws train`
OWNER/NAME[@REVISION]  a direction or a peft adapter on the hub

    place = lookup("tiny-s0", out)
    place.base_model()                  # which model to load for it
    direction = place.direction(base)
"""

import json
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from ws.adapters import Adapter, load_adapter
from ws.adapters.file import CONFIG, OURS, WEIGHTS
from ws.adapters.stock import load_stock
from ws.diff.trained import diff_adapters
from ws.direction import Direction
from ws.direction import load as load_direction
from ws.direction.card import is_card
from ws.direction.file import PICKLES, format_of
from ws.errors import BadFile
from ws.hub import reach
from ws.models.checkpoint import Theta, open_checkpoint
from ws.models.locate import HUB_ID
from ws.records import MANIFEST, find_run, named_runs, read, run_folders

DIRECTION = "direction.safetensors"
NEARBY = 5  # places that an error names


@dataclass(frozen=True)
class NamedDirection:
    """The place of a direction: a file, or the folder of an adapter; and the run that it is the direction of."""

    path: Path
    run: Path | None = None

    @property
    def file(self) -> Path:
        """The file that holds its tensors."""
        return self.path / WEIGHTS if self.is_adapter else self.path

    @property
    def is_adapter(self) -> bool:
        """True for one fine-tune against its base, which becomes a direction when it is read."""
        return self.path.is_dir()

    def direction(self, base: Theta | None = None) -> Direction:
        """The direction; that of an adapter is taken on `base`, or on the model it names."""
        if not self.is_adapter:
            return load_direction(self.path)
        theta = base or open_checkpoint(base_of_adapter(self.path))
        return _as_exported(self.path, diff_adapters(theta, adapter_at(self.path, theta)))

    def base_model(self) -> str:
        """The model it was made on, as `ws.load` takes it; refused where it does not say so."""
        if self.run is not None and (manifest := read(self.run / "train")) is not None:
            return manifest["model"]["source"]
        return base_of_adapter(self.path) if self.is_adapter else base_of(load_direction(self.path), None)

    def quantize(self) -> str | None:
        """How the model it was made on was rounded as it was read: int8, nf4, or not at all."""
        record = {} if self.is_adapter else load_direction(self.path).provenance.get("base") or {}
        return record.get("quantize")


def lookup(text: Path | str, out: Path | str = "out") -> NamedDirection:
    """The place of the direction that a text names; what names none is refused with what was found nearby."""
    path, out = Path(text).expanduser(), Path(out)
    if path.is_file() or path.suffix in PICKLES:
        return _of_file(path)
    if path.is_dir() and (place := _of_folder(path)) is not None:
        return place
    if named_runs(str(text), out):
        return _of_run(find_run(str(text), out)[0])
    if is_hub_id(str(text), out):
        return _of_hub(str(text), path, out)
    raise BadFile(f"{str(text)!r} {_what_it_is(path, out)}; {nearby(path, out)}.")


def run_with(direction: Direction, out: Path) -> Path | None:
    """The run below an output folder that has this direction, wherever its file was copied to; None where none has."""
    hashes = direction.content_hashes
    for run in run_folders(out):
        for folder in run.glob("direction*"):
            if (manifest := read(folder)) is not None and manifest.get("content") in hashes:
                return run
    return None


def base_of(direction: Direction, model: str | None) -> str:
    """The model to load for a direction: `model`, or the base that the direction names, if that can be found again."""
    record = direction.provenance.get("base") or {}
    if model:
        return model
    if not record.get("id"):
        raise BadFile("the direction does not name its base; give it with `model`.")
    if record["id"] != "tiny" and not record.get("revision"):
        raise BadFile(f"the direction was made on a local folder called {record['id']!r}; give it with `model`.")
    return record["id"] if record["id"] == "tiny" else f"{record['id']}@{record['revision']}"


def is_side(folder: Path) -> bool:
    """True for a side that `ws train` wrote; exports have a `ws.json` of another kind."""
    try:
        return "spec" in json.loads((folder / OURS).read_text())
    except (OSError, ValueError, TypeError):
        return False


def is_adapter(folder: Path) -> bool:
    """True for the folder of an adapter, of peft's or of ours."""
    return (folder / CONFIG).is_file() or is_side(folder)


def adapter_at(folder: Path, theta: Theta) -> Adapter:
    """The adapter in a folder, on the base it is for."""
    return load_adapter(folder) if is_side(folder) else load_stock(folder, theta)


def base_of_adapter(folder: Path) -> str:
    """The model that an adapter's config names."""
    try:
        base = json.loads((folder / CONFIG).read_text())["base_model_name_or_path"]
        assert isinstance(base, str) and base
        return base
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise BadFile(
            f"{folder} does not name its base; give it with `model`, or as BASE+{folder} to `ws diff`."
        ) from None


def is_hub_id(text: str, out: Path) -> bool:
    """True for OWNER/NAME[@REVISION] where no folder here is called OWNER, so that a mistyped path asks no server."""
    name = text.partition("@")[0]
    owner, _, rest = name.partition("/")
    here = Path(owner).exists() or (out / owner).exists()
    return bool(HUB_ID.fullmatch(name)) and bool(rest) and not here and not rest.endswith(".safetensors")


def nearby(path: Path, out: Path) -> str:
    """What could have been meant, the likeliest first."""
    folder = path if path.is_dir() else path.parent
    files = [*folder.glob("*.safetensors"), *folder.glob(f"*/{DIRECTION}"), *folder.glob(f"*/{CONFIG}")]
    there = {str(f.parent if f.name == CONFIG else f): None for f in files if f.name != WEIGHTS} | {
        r.relative_to(out).as_posix(): None for r in run_folders(out)
    }
    likely = sorted(there, key=lambda name: -SequenceMatcher(None, str(path), name).ratio())[:NEARBY]
    return (
        f"nearby there are {', '.join(likely)}"
        if likely
        else "nearby there is none, and `ws replicate` makes the first"
    )


def _as_exported(folder: Path, direction: Direction) -> Direction:
    """The direction of an adapter that `ws export` wrote, with what was known of it, where it has the same tensors still."""
    try:
        record = json.loads((folder / OURS).read_text())["direction"]
        provenance, card = record["provenance"], record.get("card", {})
    except (OSError, ValueError, KeyError, TypeError):
        return direction
    same = record.get("hash") in direction.content_hashes and isinstance(provenance, dict) and is_card(card)
    return Direction(direction.forms, provenance, card) if same else direction


# ---------------------------------------------------------------- each way of naming


def _of_file(path: Path) -> NamedDirection:
    """A file, and the run it lies in; one of the files of an adapter stands for its folder."""
    if path.name in (WEIGHTS, CONFIG) and is_adapter(path.parent):
        return NamedDirection(path.parent)
    run = path.parent.parent
    in_run = path.name == DIRECTION and path.parent.name.startswith("direction") and _is_run(run)
    return NamedDirection(path, run if in_run else None)


def _of_folder(path: Path) -> NamedDirection | None:
    """What a folder holds, None where it holds nothing of the kind."""
    for run in (path, path.parent if path.name == "train" else path):
        if _is_run(run):
            return _of_run(run)
    if is_adapter(path):
        return NamedDirection(path)
    for file in (path / DIRECTION, path / "direction" / DIRECTION):
        if file.is_file():
            return _of_file(file)
    files = [f for f in sorted(path.glob("*.safetensors")) if format_of(f)]
    if len(files) > 1:
        raise BadFile(f"{path} holds {len(files)} directions: {', '.join(f.name for f in files)}; name one of them.")
    return _of_file(files[0]) if files else None


def _is_run(folder: Path) -> bool:
    return (folder / "train" / MANIFEST).is_file()


def _of_run(run: Path) -> NamedDirection:
    """The direction of a run."""
    files = [run / "direction" / DIRECTION, *sorted(run.glob(f"direction-*/{DIRECTION}"))]
    there = [f for f in files if f.is_file()]
    if not there:
        raise BadFile(f"the run {run.name} has no direction yet; the command that trained it makes it, with `ws diff`.")
    return NamedDirection(there[0], run)


def _of_hub(text: str, path: Path, out: Path) -> NamedDirection:
    """What lies on the hub, or in its cache; of a repository only the files of a direction or an adapter are fetched."""
    name, _, revision = text.partition("@")
    near = f"{str(text)!r} is no file, no folder and no run below {out}; {nearby(path, out)}"
    online = reach(name, revision or None, what="direction", instead=f"name another: {near}")
    from huggingface_hub import snapshot_download

    files = [DIRECTION, OURS, CONFIG, WEIGHTS]
    try:
        folder = Path(
            snapshot_download(name, revision=revision or None, allow_patterns=files, local_files_only=not online)
        )
    except Exception as e:  # the hub client raises many kinds, from its own and from its HTTP library
        raise BadFile(
            f"the direction {text!r} cannot be fetched ({type(e).__name__}); check the name and the network."
        ) from None
    if (place := _of_folder(folder)) is None:
        raise BadFile(f"the repository {text} holds no {DIRECTION} and no peft adapter.")
    return place


def _what_it_is(path: Path, out: Path) -> str:
    """What a text names instead of a direction."""
    if (path / WEIGHTS).is_file():
        return f"holds {WEIGHTS} and no {CONFIG}, without which nobody knows what it changes; copy that file too"
    if (path / "config.json").is_file():
        return f"is a whole model and no direction; `ws diff {path} BASE --out direction.safetensors` makes one of it"
    return f"is no direction file, no run below {out} and no folder that holds a direction or an adapter"
