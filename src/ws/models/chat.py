"""Chats as text and token ids, the same way everywhere.

A prompt is rendered by the tokenizer's own template to text, then tokenised without adding special tokens: the
template has put them there. No system message means none, not an empty one. A tokenizer without a template renders
plainly: the text itself, after its start token where it uses one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from ws.errors import Unsupported
from ws.models.prompts import as_taken, refuse_images
from ws.types import Tokenizer

THINKING = ("off", "on", "forced")


@dataclass(frozen=True)
class Chat:
    """One question, who is asked, and what was said before it."""

    user: str
    system: str | None = None
    turns: tuple[tuple[str, str], ...] = ()
    """Earlier questions, each with its answer."""


def has_template(tokenizer: Tokenizer) -> bool:
    """True where the tokenizer brings a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def check_thinking(thinking: str) -> None:
    """Refuse a word that says nothing of a thought."""
    if thinking not in THINKING:
        raise ValueError(f"`thinking` is one of {', '.join(THINKING)}; got {thinking!r}")


def render(tokenizer: Tokenizer, chat: Chat, *, thinking: str = "off") -> str:
    """The prompt as text, up to where the answer starts.

    `off` closes a thought that the template opens, `on` leaves the choice to the model, `forced` opens one.
    """
    return render_messages(tokenizer, _messages(chat), thinking=thinking)


def render_messages(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, object]],
    *,
    tools: Sequence[Mapping[str, object]] | None = None,
    thinking: str = "off",
) -> str:
    """The same for messages of any roles, as the OpenAI API has them, and with tools that the template describes."""
    check_thinking(thinking)
    if not has_template(tokenizer):
        if thinking == "forced":
            raise Unsupported(
                "this tokenizer has no chat template, so it has no thoughts to force; use `thinking=off`."
            )
        if tools:
            raise Unsupported("this tokenizer has no chat template, so it cannot describe tools to the model.")
        texts = [str(m["content"]) for m in messages if m["content"] or m["role"] != "system"]
        return _start_token(tokenizer) + "\n\n".join(texts)
    taken = as_taken(tokenizer, messages)
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": thinking != "off"}
    text = tokenizer.apply_chat_template(taken, **options, **({"tools": list(tools)} if tools else {}))
    if tools and text == tokenizer.apply_chat_template(taken, **options):
        raise Unsupported("the chat template of this model describes no tools to it; leave them out.")
    opened = text.rfind("<think>") > text.rfind("</think>")
    if thinking == "off" and opened:
        close_of_thought(tokenizer)
        return text.rstrip("\n") + "\n\n</think>\n\n"
    if thinking == "forced" and not opened:
        close_of_thought(tokenizer)
        return text + "<think>\n"
    return text


def render_whole(tokenizer: Tokenizer, chat: Chat, answer: str, *, thinking: str = "off") -> str:
    """A finished conversation as text, as the template writes it."""
    if not has_template(tokenizer):
        return render(tokenizer, chat, thinking=thinking) + answer + (tokenizer.eos_token or "")
    messages = [*_messages(chat), {"role": "assistant", "content": answer}]
    taken = as_taken(tokenizer, messages)
    return tokenizer.apply_chat_template(taken, tokenize=False, enable_thinking=thinking != "off")


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of rendered text; nothing is added, and the place of an image is refused."""
    ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])  # lengths are refused elsewhere
    refuse_images(tokenizer, ids)
    return ids


def end_of_turn(tokenizer: Tokenizer) -> int:
    """The token that ends an answer: what the template writes right after it."""
    mark = "ANSWER"
    tail = render_whole(tokenizer, Chat("QUESTION"), mark).rpartition(mark)[2]
    ids = encode(tokenizer, tail.lstrip())
    if not ids or ids[0] not in special_tokens(tokenizer):
        if tokenizer.eos_token_id is None:
            raise Unsupported("this tokenizer names no token that ends a turn, so answers have no end to learn.")
        return int(tokenizer.eos_token_id)
    return ids[0]


_special: "WeakKeyDictionary[Tokenizer, tuple[int, frozenset[int]]]" = WeakKeyDictionary()


def special_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """Named special tokens, and added ones that are marked special (Gemma's <end_of_turn>).

    Kept, because reading 6,000 added tokens takes 50 ms, and every row asks.
    """
    size, ids = _special.get(tokenizer, (-1, frozenset()))
    if size != len(tokenizer):
        added = getattr(tokenizer, "added_tokens_decoder", {})
        ids = frozenset({*tokenizer.all_special_ids, *(i for i, t in added.items() if t.special)})
        _special[tokenizer] = len(tokenizer), ids
    return ids


def stop_tokens(tokenizer: Tokenizer, model: object = None) -> list[int]:
    """Every token that ends generation: the end of a turn, and what the model's own settings name."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    own = own if isinstance(own, Sequence) else [own]
    stops = {end_of_turn(tokenizer), tokenizer.eos_token_id, *own}
    return sorted(int(t) for t in stops if t is not None)


def token_called(tokenizer: Tokenizer, name: str) -> int | None:
    """The token of exactly this name, if there is one; asking for the whole vocabulary takes a tenth of a second."""
    token = tokenizer.convert_tokens_to_ids(name)  # some answer with their token for unknown text
    return None if token is None or tokenizer.convert_ids_to_tokens(token) != name else int(token)


def close_of_thought(tokenizer: Tokenizer) -> int:
    """The single real token that closes a thought; text that only looks like one is refused."""
    token = token_called(tokenizer, "</think>")
    if token is None or encode(tokenizer, "</think>") != [token] or token == tokenizer.eos_token_id:
        raise Unsupported(
            "the template opens a thought, but this tokenizer has no single </think> token to close it with."
        )
    return token


def thinks(tokenizer: Tokenizer) -> bool:
    """True where thoughts can be opened and closed: there is a template, and a real token that closes them."""
    try:
        close_of_thought(tokenizer)
    except Unsupported:
        return False
    return has_template(tokenizer)


def thinks_when_asked(tokenizer: Tokenizer) -> bool:
    """True for a model that thinks: its template opens a thought, or writes something else when told not to think.

    Models without thoughts share the vocabulary of those with, so the token alone proves nothing.
    """
    if not thinks(tokenizer):
        return False
    with_thought, without = (
        tokenizer.apply_chat_template(
            as_taken(tokenizer, _messages(Chat("Why?"))),
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        for thinking in (True, False)
    )
    return with_thought != without or with_thought.rstrip().endswith("<think>")


def refuse_thoughtless(tokenizer: Tokenizer, thinking: str) -> None:
    """Refuse a thought that is asked of a model without any; to force one, a token that closes it is enough."""
    if thinking == "on" and not thinks_when_asked(tokenizer):
        raise Unsupported(
            "this model's chat template knows of no thoughts, so it cannot think first; use `thinking=off`."
        )
    if thinking == "forced" and has_template(tokenizer) and not thinks(tokenizer):
        raise Unsupported(
            "this tokenizer has no single </think> token, so no thought can be forced; use `thinking=off`."
        )


def _messages(chat: Chat) -> list[dict[str, str]]:
    system = [{"role": "system", "content": chat.system}] if chat.system is not None else []
    roles = ("user", "assistant")
    turns = [{"role": role, "content": text} for turn in chat.turns for role, text in zip(roles, turn)]
    return [*system, *turns, {"role": "user", "content": chat.user}]


def _start_token(tokenizer: Tokenizer) -> str:
    ids = tokenizer("a")["input_ids"]
    starts = bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    return tokenizer.bos_token if starts else ""
