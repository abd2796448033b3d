"""What clients get: answers in the shapes of the OpenAI API, whole or as they come.

Every reply says in `ws` at which strengths it was written, and from where on.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ws.serve.batch import Chance, Written
from ws.serve.refusal import Refusal
from ws.serve.requests import Wanted
from ws.serve.strengths import spelled
from ws.serve.text import bytes_of, text_of
from ws.types import Json, Tokenizer

BROKEN = "the model's numbers overflow at this strength; turn it down"


@dataclass
class _Choice:
    text: str = ""
    tokens: int = 0
    entries: list[Json] = field(default_factory=list)
    finish: str | None = None


class Reply:
    """The reply to one request, as much of it as is written."""

    def __init__(self, wanted: Wanted, tokenizer: Tokenizer, *, chat: bool):
        self.wanted, self._tokenizer, self._chat = wanted, tokenizer, chat
        self._choices = [_Choice(wanted.echo) for _ in range(wanted.ask.n)]
        self._cached = 0
        kind = "chat.completion" if chat else "text_completion"
        ask = wanted.ask
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": spelled(ask.strengths),
            "ws": {"steer": dict(ask.strengths), "steer_from": "answer" if ask.answer_only else "prompt"},
        }

    @property
    def done(self) -> bool:
        """True where every answer has ended."""
        return all(c.finish is not None for c in self._choices)

    def first(self) -> list[Json]:
        """What a stream begins with."""
        if self._chat:
            return [self._chunk(i, {"role": "assistant", "content": ""}) for i in range(len(self._choices))]
        return [self._chunk(i, self.wanted.echo) for i in range(len(self._choices)) if self.wanted.echo]

    def add(self, written: Sequence[Written]) -> list[Json]:
        """Take up what was written; the chunks that a stream sends of it."""
        chunks = []
        for each in written:
            choice = self._choices[each.choice]
            if each.finish == "broken":
                raise Refusal(400, BROKEN, param="steer", code="broken_strength")
            entry = self._entry(each)
            before = self._echoed(each) if each.prompt else []
            offset = len(choice.text)
            choice.text += each.text
            choice.tokens += 1
            choice.finish = each.finish
            entries = [*before, *([entry] if entry else [])]
            choice.entries += entries
            self._cached = each.cached
            if each.text or entry or each.finish:
                delta: Any = ({"content": each.text} if each.text else {}) if self._chat else each.text
                chunks.append(
                    self._chunk(each.choice, delta, self._logprobs(entries, 0 if before else offset), each.finish)
                )
        return chunks

    def last(self) -> list[Json]:
        """What a stream ends with, where it was asked for."""
        return [{**self._streamed, "choices": [], "usage": self._usage()}] if self.wanted.usage else []

    def whole(self) -> Json:
        """The reply in one piece."""
        choices = []
        for i, c in enumerate(self._choices):
            content: Json = {"message": {"role": "assistant", "content": c.text}} if self._chat else {"text": c.text}
            entries = self._logprobs(c.entries, 0 if self.wanted.ask.echo else len(self.wanted.echo))
            choices.append({"index": i, **content, "logprobs": entries, "finish_reason": c.finish})
        return {**self._head, "choices": choices, "usage": self._usage()}

    # ------------------------------------------------------------ parts

    @property
    def _streamed(self) -> Json:
        return {**self._head, "object": "chat.completion.chunk"} if self._chat else self._head

    def _chunk(self, i: int, delta: Any, logprobs: Json | None = None, finish: str | None = None) -> Json:
        content = {"delta": delta} if self._chat else {"text": delta}
        return {**self._streamed, "choices": [{"index": i, **content, "logprobs": logprobs, "finish_reason": finish}]}

    def _usage(self) -> Json:
        prompt, new = len(self.wanted.ask.ids), sum(c.tokens for c in self._choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": new,
            "total_tokens": prompt + new,
            "prompt_tokens_details": {"cached_tokens": self._cached},
        }

    def _entry(self, each: Written) -> Json | None:
        """A token with its probability, and its KL where that was asked for."""
        if each.chance is None and each.kl is None:
            return None
        assert each.token is not None
        entry = {**self._named(each.chance or Chance(each.token, 0.0))}
        if each.chance is None:
            del entry["logprob"]
        else:
            entry["top_logprobs"] = [self._named(c) for c in each.top]
        return entry if each.kl is None else {**entry, "kl": each.kl}

    def _echoed(self, each: Written) -> list[Json]:
        """The prompt's own tokens; of the first there is no probability."""
        first = {**self._named(Chance(each.ask.ids[0], 0.0)), "logprob": None}
        rest = [{**self._named(c), "top_logprobs": [self._named(t) for t in top]} for c, top in each.prompt]
        return [first, *([{**e, "kl": None} for e in rest] if each.kl is not None else rest)]

    def _named(self, chance: Chance) -> Json:
        text, own = text_of(self._tokenizer, chance.token), list(bytes_of(self._tokenizer, chance.token))
        return {"token": text, "logprob": chance.logprob, "bytes": own, "id": chance.token}

    def _logprobs(self, entries: Sequence[Json], offset: int) -> Json | None:
        """Entries as the API has them: chats a list, completions four lists."""
        if not entries:
            return None
        if self._chat:
            return {"content": list(entries)}
        offsets = []
        for entry in entries:
            offsets.append(offset)
            offset += len(entry["token"])
        lists: Json = {
            "tokens": [e["token"] for e in entries],
            "token_logprobs": [e.get("logprob") for e in entries],
            "top_logprobs": [
                {c["token"]: c["logprob"] for c in e["top_logprobs"]} if "top_logprobs" in e else None for e in entries
            ],
            "text_offset": offsets,
        }
        return {**lists, "kl": [e.get("kl") for e in entries]} if "kl" in entries[-1] else lists
