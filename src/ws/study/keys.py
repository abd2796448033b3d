"""What decides a result: hashes of a base, its tokenizer, its config, and the questions it is asked."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from ws.direction import Direction
from ws.eval.protocol import Protocol
from ws.eval.questions import hash_of
from ws.methods import Method, as_method
from ws.methods.method import behavior_name
from ws.models.hashes import stamp
from ws.models.load import Base
from ws.records import canonical
from ws.steer import refuse_steered
from ws.types import Json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def base_key(base: Base) -> Json:
    """All of a base that can change a result; one that is steered at the moment has none."""
    refuse_steered(base)
    return {
        "fingerprint": base.fingerprint,  # says which base it is
        "weights": base.weights_hash,  # and that nothing of it was edited
        "config": config_hash(base.model),
        "tokenizer": tokenizer_hash(base.tokenizer),
        "dtype": str(base.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads() if (base.works_on or base.device).type == "cpu" else None,
    }


def tokenizer_hash(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A hash of vocabulary, merges, special tokens and chat template; how it happens to be padding is not part of it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        words = _without_padding(backend.to_str())
    else:
        words = hashlib.sha256(canonical({"vocabulary": tokenizer.get_vocab()}).encode()).hexdigest()
    marks = {k: str(v) for k, v in sorted(tokenizer.special_tokens_map.items())}
    return hashlib.sha256(canonical([words, marks, str(getattr(tokenizer, "chat_template", ""))]).encode()).hexdigest()


@lru_cache(maxsize=4)  # every key of every stage asks, and a vocabulary is long
def _without_padding(backend: str) -> str:
    """A hash of a tokenizer's own JSON, less how it happens to be padding."""
    parts = {k: v for k, v in json.loads(backend).items() if k not in ("padding", "truncation")}
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def config_hash(model: "PreTrainedModel") -> str:
    """A hash of what the model's config says of its computation, and of the tokens that end generation."""
    skip = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}
    config = {k: str(v) for k, v in sorted(model.config.to_dict().items()) if k not in skip}
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return hashlib.sha256(canonical([config, str(ends)]).encode()).hexdigest()


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
