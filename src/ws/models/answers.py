"""The tokens that mean an answer, found in the vocabulary and proven at the slot.

A class of answers, `yes` say, is the set of all tokens whose whole piece is one of its words, with or without a leading
space. Before anything is scored, the slot is tried: tokenising prompt + anchor + answer must leave the prompt's own ids
alone and put a token of the class next. Otherwise the probability one reads is that of something else.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ws.errors import ScoringImpossible
from ws.models.chat import encode
from ws.types import Tokenizer

MARKERS = "ĠĊ▁ \t\n\r"


@dataclass(frozen=True)
class Answers:
    """Two classes of answer tokens, and how they join the slot."""

    yes: tuple[int, ...]
    no: tuple[int, ...]
    words: tuple[str, str]
    join: str
    """What stands between the anchor and the answer in the tokenisation that was proven: nothing or a space."""

    def described(self, tokenizer: Tokenizer) -> dict[str, list[str] | str]:
        """The tokens of both classes as text, for the record and for people."""
        pieces = [[tokenizer.convert_ids_to_tokens(i) for i in ids] for ids in (self.yes, self.no)]
        return {"yes": pieces[0], "no": pieces[1], "join": self.join}


def find_answers(tokenizer: Tokenizer, words: tuple[Sequence[str], Sequence[str]], slot: str) -> Answers:
    """The tokens of two classes of words, proven on `slot`: rendered prompt plus anchor, as text."""
    table = _words_of_vocabulary(tokenizer)
    sets = []
    for group in words:
        keys = [w if len(w) == 1 else w.casefold() for w in group]
        sets.append(tuple(sorted({i for k in keys for i in table.get(k, ())})))
    names = (words[0][0], words[1][0])
    for name, ids in zip(names, sets):
        if not ids:
            raise ScoringImpossible(
                f"no token of this tokenizer is the whole word {name!r}; the answer cannot be scored in one step."
            )
    if shared := set(sets[0]) & set(sets[1]):
        raise ScoringImpossible(
            f"{names[0]!r} and {names[1]!r} share the tokens {sorted(shared)}; they cannot be told apart."
        )
    for join in ("", " "):
        if all(_joins(tokenizer, slot, join, name, ids) for name, ids in zip(names, sets)):
            return Answers(sets[0], sets[1], names, join)
    raise ScoringImpossible(
        f"after the anchor {slot[-20:]!r} neither {names[0]!r} nor {' ' + names[0]!r} starts a new token of its own here; "
        "the slot would score something else. Use an anchor that ends at a token boundary."
    )


def anchor_before(tokenizer: Tokenizer, stem: str, words: Sequence[str]) -> str:
    """`stem`, with a space where this tokenizer makes a space a token of its own: the next token is then the word.

    Some write " 1" as one token, others as two; an anchor that ends at the wrong place scores the space.
    """
    for anchor in (stem, stem + " "):
        before = encode(tokenizer, anchor)
        whole = [encode(tokenizer, f"{stem} {word}") for word in words]
        nexts = [ids[len(before)] if ids[: len(before)] == before and len(ids) > len(before) else None for ids in whole]
        if all(i is not None and tokenizer.decode([i]).strip() == word for i, word in zip(nexts, words)):
            return anchor
    raise ScoringImpossible(
        f"this tokenizer does not write {' or '.join(repr(w) for w in words)} as one token after {stem!r}."
    )


def _joins(tokenizer: Tokenizer, slot: str, join: str, word: str, ids: tuple[int, ...]) -> bool:
    before, after = encode(tokenizer, slot), encode(tokenizer, slot + join + word)
    return len(after) > len(before) and after[: len(before)] == before and after[len(before)] in ids


def _words_of_vocabulary(tokenizer: Tokenizer) -> Mapping[str, tuple[int, ...]]:
    return _scan(_Key(tokenizer))


class _Key:
    """A tokenizer as a cache key, by identity."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer

    def __hash__(self) -> int:
        return id(self.tokenizer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.tokenizer is self.tokenizer


@lru_cache(maxsize=8)
def _scan(key: _Key) -> Mapping[str, tuple[int, ...]]:
    """Word to ids, over the whole vocabulary, once per tokenizer: leading space marks off, case folded.

    Single letters keep their case: A and a are different answers.
    """
    tokenizer, special = key.tokenizer, set(key.tokenizer.all_special_ids)
    table: dict[str, list[int]] = {}
    for piece, i in tokenizer.get_vocab().items():
        if i in special:
            continue
        # NFC, not NFKC: compatibility folding would make the numero sign a "no" and a superscript one a "1"
        word = unicodedata.normalize("NFC", piece.removeprefix("##").lstrip(MARKERS))
        if len(word) == 1 and not word.isascii():
            continue  # byte pieces of byte-level vocabularies look like letters
        table.setdefault(word if len(word) == 1 else word.casefold(), []).append(i)
    return {w: tuple(ids) for w, ids in table.items()}
