"""An answer's text as it grows, token by token: whole characters, without markup, and never past a stop."""

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

from ws.models.chat import special_tokens, token_called
from ws.types import Tokenizer

HALF = "\N{REPLACEMENT CHARACTER}"


@lru_cache(maxsize=100_000)
def text_of(tokenizer: Tokenizer, token: int) -> str:
    """A token's text where others stand before it: decoders such as Llama 2's leave out the space that begins a text."""
    one, two = (tokenizer.decode([token] * n, skip_special_tokens=False) for n in (1, 2))
    own = two[len(one) :]
    return own if own.strip(" ") == one.strip(" ") else one  # two halves of a character may be something else


def bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """A token's own bytes; those of half a character cannot be read off its text, which is a mark of replacement."""
    text = text_of(tokenizer, token)
    if HALF not in text:
        return text.encode()
    piece = str(tokenizer.convert_ids_to_tokens(token))
    if one := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):  # as SentencePiece writes a byte
        return bytes([int(one[1], 16)])
    letters = _letters()
    return bytes(letters[c] for c in piece) if letters.keys() >= set(piece) else text.encode()


@cache
def _letters() -> Mapping[str, int]:
    """The letters that stand for bytes in vocabularies of bytes, such as that of GPT-2."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: byte for byte, letter in bytes_to_unicode().items()}


class Text:
    """What may be shown of an answer so far.

    Half of a character waits for its other half, and what may be the beginning of a stop for what follows. So does white
    space, where `trimmed`, which then has none at its end.
    """

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str] = (), *, trimmed: bool = True, after: int | None = None
    ):
        """`after` is the token that the text goes on from; without one it begins anew."""
        self.shown = ""
        self.stopped = False
        """True where a stop was written; it is not shown."""
        self._tokenizer, self._stops, self._trimmed = tokenizer, stops, trimmed
        marks = {token_called(tokenizer, mark) for mark in ("<think>", "</think>")}
        self._hidden = special_tokens(tokenizer) - marks
        self._tokens = [] if after is None or after in self._hidden else [after]
        self._held = ""  # text that is known and not shown
        # tokens from `_start` on are decoded together; before `_read`, they are in the text
        self._start, self._read = 0, len(self._tokens)

    def add(self, token: int) -> str:
        """What one more token lets be shown."""
        if token not in self._hidden:
            self._tokens.append(token)
        before = self._decoded(self._read)
        now = self._decoded(len(self._tokens))
        if now.endswith(HALF):
            return ""
        self._held += now[len(before) :]
        self._start, self._read = self._read, len(self._tokens)
        return self._show(waiting=True)

    def end(self) -> str:
        """What is left to be shown where no token follows."""
        self._held += self._decoded(len(self._tokens))[len(self._decoded(self._read)) :]
        self._start = self._read = len(self._tokens)
        return self._show(waiting=False)

    def _decoded(self, end: int) -> str:
        return self._tokenizer.decode(self._tokens[self._start : end], skip_special_tokens=False)

    def _show(self, *, waiting: bool) -> str:
        """Move text from what is held to what is shown."""
        if self.stopped:
            return ""
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped, waiting = True, False
            self._held = self._held[: min(found)]
        end = len(self._held) - (self._beginning() if waiting else 0)
        if self._trimmed:
            end = len(self._held[:end].rstrip())
        new, self._held = self._held[:end], self._held[end:]
        self.shown += new
        return new

    def _beginning(self) -> int:
        """The length of the longest end of what is held that is the beginning of a stop."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-n:]) for stop in self._stops):
                return n
        return 0
