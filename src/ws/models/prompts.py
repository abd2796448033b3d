"""What a vision-language model needs to be asked in text: its processor's chat template, the shape of messages, and no images.

Such a checkpoint may keep its template with the processor, and a template may take a message as a list of parts and not as a
text. Places for images are tokens of the vocabulary; a prompt that holds one is refused, because no image goes with it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from ws.errors import Unsupported
from ws.types import Config, Json, Tokenizer

TEMPLATE = "chat_template.json"
PLACES = (
    "image_token_id",
    "image_token_index",
    "video_token_id",
    "video_token_index",
    "audio_token_id",
    "boi_token_index",
)
MARK = "MARK"

_images: "WeakKeyDictionary[Tokenizer, frozenset[int]]" = WeakKeyDictionary()
_shapes: "WeakKeyDictionary[Tokenizer, tuple[str, bool]]" = WeakKeyDictionary()


def tokenizer_of(source: str, config: Config, options: Json) -> Tokenizer:
    """The tokenizer of a model, with its processor's chat template where it has none of its own."""
    import transformers

    tokenizer: Tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    if not getattr(tokenizer, "chat_template", None):
        template = _template_of_processor(source, options)
        if template:
            tokenizer.chat_template = template
    places = (getattr(config, name, None) for name in PLACES)
    _images[tokenizer] = frozenset(i for i in places if isinstance(i, int))
    return tokenizer


def refuse_images(tokenizer: Tokenizer, ids: Sequence[int]) -> None:
    """Refuse a prompt that holds the place of an image."""
    if places := _images.get(tokenizer, frozenset()).intersection(ids):
        token = tokenizer.convert_ids_to_tokens(min(places))
        raise Unsupported(f"a prompt holds {token}, the place of an image, and ws asks in text alone; leave it out.")


def as_taken(tokenizer: Tokenizer, messages: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """Messages as the template takes them: the text of each as it is, or as the only part of a list."""
    template = str(tokenizer.chat_template)
    if _shapes.get(tokenizer, ("", False))[0] != template:
        _shapes[tokenizer] = template, _in_parts(tokenizer)
    if not _shapes[tokenizer][1]:
        return list(messages)
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


def _in_parts(tokenizer: Tokenizer) -> bool:
    """Whether the template loses a text and takes a list of parts; one that writes neither is refused."""
    as_text, as_parts = (_rendered(tokenizer, content) for content in (MARK, [{"type": "text", "text": MARK}]))
    if as_text is None or MARK in as_text:  # one that fails says why when it is used
        return as_text is None and as_parts is not None and MARK in as_parts
    if as_parts is None or MARK not in as_parts:
        raise Unsupported(
            "the chat template of this model writes no text of a message, so it cannot be asked in words; take a model with a "
            "template for texts."
        )
    return True


def _rendered(tokenizer: Tokenizer, content: Any) -> str | None:
    try:
        return str(tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False))
    except Exception:  # a template raises what its author wrote, through the template engine
        return None


def _template_of_processor(source: str, options: Json) -> str | None:
    """The template in a processor's own file, where there is one."""
    from transformers.utils import cached_file

    asked = {k: v for k, v in options.items() if k in ("revision", "local_files_only")}
    path = cached_file(source, TEMPLATE, _raise_exceptions_for_missing_entries=False, **asked)
    if path is None:
        return None
    try:
        template = json.loads(Path(path).read_text())["chat_template"]
    except (ValueError, KeyError, TypeError):
        return None
    return template if isinstance(template, str) else None
