"""Methods as files: one safetensors file each, whatever the method, with what made it.

A direction file of `ws diff` is read as the weight method it is.
"""

from pathlib import Path

from ws.diff import lookup
from ws.direction import Direction
from ws.direction.file import FORMAT as DIRECTION
from ws.direction.file import format_of, load_direction, read_tensors, write_headed
from ws.errors import BadFile
from ws.methods.activation.method import Activation
from ws.methods.method import Method
from ws.methods.prompts import SystemPrompts
from ws.methods.weights import Weights, as_method
from ws.models.load import Base
from ws.types import Json

FORMAT = "ws-method/1"
KINDS: dict[str, type[Method]] = {k.kind: k for k in (Weights, SystemPrompts, Activation)}


def save_method(method: Method, path: Path | str) -> Path:
    """Write a method as one file, atomically; returns the path."""
    settings, tensors = method.packed()
    head: Json = {"format": FORMAT, "kind": method.kind, "name": method.name}
    return write_headed(path, tensors, {**head, "settings": settings, "provenance": dict(method.provenance)})


def is_method(path: Path | str) -> bool:
    """True for a file that says it is a method of ours, and not a direction."""
    return format_of(path) == FORMAT


def load_named(text: Path | str, base: Base | None = None, *, out: Path | str = "out") -> Direction | Method:
    """The direction or the other method that a file, a folder, a run, an adapter or a hub id holds."""
    place = lookup(text, out)
    return load_method(place.path) if is_method(place.path) else place.direction(base)


def load_method(path: Path | str) -> Method:
    """A method from its file; a file that holds none is refused with its path."""
    path = Path(path)
    head, tensors = read_tensors(path)
    if head.get("format") == DIRECTION:
        return as_method(load_direction(path))
    if head.get("format") != FORMAT or head.get("kind") not in KINDS:
        raise BadFile(
            f"{path} is neither a {FORMAT} file nor a direction. Vectors of other tools come in as "
            f"`method=vectors:{path.name}` or `method=gguf:FILE`."
        )
    try:
        return KINDS[head["kind"]].unpacked(head["name"], head["settings"], tensors, head["provenance"])
    except (KeyError, TypeError, AttributeError) as e:
        raise BadFile(f"{path}: its header and its tensors do not agree ({type(e).__name__}: {e}).") from None
