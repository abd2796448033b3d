"""The place of a model that is named by text: `tiny`, a hub id, a folder or a GGUF file."""

import json
import re
from pathlib import Path

from ws.errors import BadFile
from ws.hub import reach
from ws.models.gguf import converted, located, names_gguf
from ws.models.tiny import FOLDER

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def locate(model: str | Path, revision: str | None = None) -> tuple[str, str, str | None]:
    """(what to load from, its short name, revision) of a `--model` value."""
    text = str(model)
    if text == "tiny":
        return str(FOLDER), "tiny", None
    folder = Path(text).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BadFile(f"the folder {text} holds no config.json; `model` takes 'tiny', a hub id, or a model folder.")
        return str(folder), folder.resolve().name, revision
    if names_gguf(text):
        from_gguf = converted(text, revision)
        return str(from_gguf), from_gguf.name.rpartition("-")[0], None
    if text.startswith((".", "/", "~")) or folder.exists():
        raise BadFile(
            f"there is no model folder at {text}; `model` takes 'tiny', a hub id like 'Qwen/Qwen3-0.6B', or a folder."
        )
    name, _, at = text.partition("@")
    if not HUB_ID.fullmatch(name):
        raise BadFile(
            f"{text!r} is no model: `model` takes 'tiny', a hub id like 'Qwen/Qwen3-0.6B[@revision]', or a folder."
        )
    return name, name, at or revision


def reach_model(name: str, revision: str | None = None) -> bool:
    """Whether the hub can be asked for a model; where it cannot, and the model is not in the cache, it is refused."""
    return reach(name, revision, instead="give a folder; `model=tiny` needs neither")


def refuse_nowhere(model: str) -> None:
    """Refuse a model that is neither here nor on the hub, before it is loaded or converted."""
    if names_gguf(model):
        located(model)
    elif not Path((place := locate(model))[0]).is_dir():
        reach_model(place[1], place[2])


def depth_of(model: str) -> int | None:
    """How many blocks a model has, as the config in its folder says; None where there is none here to read."""
    config = (FOLDER if model == "tiny" else Path(model).expanduser()) / "config.json"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        depth = {**content, **content.get("text_config", {})}.get("num_hidden_layers")
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return depth if isinstance(depth, int) else None


def why_not(model: str, error: Exception) -> str:
    """The reason a model cannot be loaded or opened, in one sentence."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return (
            f"the model {model!r} comes with code of its own, which ws does not run; take one that transformers knows, or "
            "read that code and load the model in Python (ws.load, trust_remote_code)."
        )
    if kind := re.search(r"model type `([^`]*)` but Transformers does not recognize", text):
        return (
            f"the model {model!r} is a {kind[1]}, which the installed transformers does not know; update it (pip install -U transformers), or "
            "name another."
        )
    if isinstance(error, OSError) and re.search(r"offline|connect|resolve|network|couldn't|cached", text, re.I):
        return (
            f"the model {model!r} is not in the local cache and the hub cannot be reached (or has no such model). "
            "Check the name and the network, or give a folder; `model=tiny` needs neither."
        )
    return f"the model {model!r} cannot be loaded: {text[:300]}"
