"""What decides a result: hashes of a base, its tokenizer, its config, and the questions it is asked."""

from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from ws.direction import Direction
from ws.eval.protocol import Protocol
from ws.eval.questions import hash_of
from ws.methods import Method, as_method
from ws.methods.method import behavior_name
from ws.models.hashes import stamp
from ws.models.load import Base
from ws.steer import refuse_steered
from ws.types import Json


def base_key(base: Base) -> Json:
    """All of a base that can change a result; one that is steered at the moment has none."""
    refuse_steered(base)
    return {
        "fingerprint": base.fingerprint,  # says which base it is
        "weights": base.weights_hash,  # and that nothing of it was edited
        "config": base.config_hash,
        "tokenizer": base.tokenizer_hash,
        "dtype": precision_of(base),
        "threads": torch.get_num_threads() if (base.works_on or base.device).type == "cpu" else None,
    }


def precision_of(base: Base) -> str:
    """The precision that a base works in, and how its weights were rounded before: float32, nf4/float32."""
    dtype = str(base.dtype).removeprefix("torch.")
    return dtype if base.quantised is None else f"{base.quantised.by}/{dtype}"


def items_hash(base: Base, protocol: Protocol, data: str | None = None) -> str:
    """A hash of all questions of a protocol, or of a file: read once per process, and again when the file changes."""
    questions = (protocol.eval, protocol.id, data, stamp(Path(data)) if data and Path(data).is_file() else None)
    hashes = _hashes.setdefault(base, {})
    if questions not in hashes:
        hashes[questions] = hash_of(protocol.items(base, data))
    return hashes[questions]


_hashes: WeakKeyDictionary[Base, dict[tuple, str]] = WeakKeyDictionary()  # weak: memory may hold no two models


def beside(base: Base, by: Direction | Method | None = None) -> Json:
    """What a manifest says and no key holds; `made_on` is the base of what steers, which may have had other bytes."""
    made_on = None if by is None else by.provenance.get("base")
    behavior = None if by is None else behavior_name(as_method(by))
    onto = {} if base.root is None else {"onto": list(base.root.onto)}
    return {
        "device": str(base.works_on or base.device),
        "model": {"id": base.id, "revision": base.revision, "source": base.source, **onto},
        **({"made_on": dict(made_on)} if made_on else {}),
        **({"behavior": behavior} if isinstance(behavior, str) else {}),
    }
