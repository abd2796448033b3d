"""What clients send, checked: a body of the OpenAI API with strengths becomes an `Ask`, or is refused in one sentence.

A field that would change the answer and is not done here is refused, and so is one that nobody knows: a misspelt `steer` must
not be answered by the base.
"""

import contextlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ws.errors import Unsupported
from ws.generate import HOTTEST, Sampling, context_of
from ws.models.base import Base
from ws.models.chat import THINKING, render_messages
from ws.models.prompts import refuse_images
from ws.serve.batch import Ask
from ws.serve.refusal import Refusal
from ws.serve.settings import Serving
from ws.serve.strengths import BASE, Dials
from ws.slots import slots_fit
from ws.types import Json

ROLES = ("system", "developer", "user", "assistant", "tool")
STOPS, STOP_LENGTH = 16, 256
TOP = 20
"""Tokens that are named beside each, at most."""
CHAT_TOKENS, COMPLETION_TOKENS = 256, 16
"""Length of an answer where a request does not say."""
FROM = ("prompt", "answer")

SHARED = {"model", "steer", "steer_from", "kl", "temperature", "top_p", "top_k", "min_p", "seed", "n", "stop"}
SHARED |= {"max_tokens", "logprobs", "stream", "stream_options", "ignore_eos"}
OF_CHAT = {"messages", "max_completion_tokens", "top_logprobs", "tools", "tool_choice", "chat_template_kwargs"}
OF_COMPLETION = {"prompt", "echo"}
HARMLESS = {"user", "metadata", "store", "parallel_tool_calls", "service_tier", "safety_identifier", "prompt_cache_key"}
"""Known fields that change no answer here."""
OFF: Mapping[str, Sequence[object]] = {
    "frequency_penalty": (0, None),
    "presence_penalty": (0, None),
    "logit_bias": ({}, None),
    "best_of": (1, None),
    "suffix": ("", None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "repetition_penalty": (1, None),
}
"""Fields that are not done here, with the values at which they do nothing."""

STRENGTH = 'a strength stands in `steer`, such as {"honesty": -0.8}'
MEANT: Mapping[str, str] = {
    "extra_body": "what it holds stands in the body itself",
    **dict.fromkeys(("alpha", "alphas", "strength", "strengths", "coeff", "lora", "steering"), STRENGTH),
}
"""What is meant by fields that no server knows; to leave them out would ask for the base."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """A request that can be answered, and how its answer is to look."""

    ask: Ask
    stream: bool
    usage: bool
    """Whether a stream ends with the number of tokens."""
    echo: str = ""
    """The prompt as text, where a completion is to repeat it."""


def parsed(raw: bytes) -> Json:
    """The body as an object."""
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
        json.dumps(body, ensure_ascii=False).encode()  # half of a character is no text that a tokenizer takes
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON of finite numbers and whole characters") from None
    if not isinstance(body, dict):
        raise Refusal(400, "the body is a JSON object with `model` and `messages` or `prompt`")
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


@dataclass(frozen=True, eq=False)
class Reader:
    """Turns bodies into requests of one model."""

    base: Base
    dials: Dials
    limits: Serving

    def chat(self, body: Json, client: str) -> Wanted:
        """A chat completion."""
        refuse_unknown(body, SHARED | OF_CHAT)
        messages = _messages(body.get("messages"))
        tools = _tools(body)
        kwargs = field_of(body, "chat_template_kwargs", dict, {})
        thinking = kwargs.get("thinking", "on" if field_of(kwargs, "enable_thinking", bool, False) else "off")
        if set(kwargs) - {"thinking", "enable_thinking"} or thinking not in THINKING:
            raise Refusal(400, "chat_template_kwargs holds enable_thinking, true or false, and nothing else")
        try:
            text = render_messages(self.base.tokenizer, messages, tools=tools, thinking=thinking)
        except Unsupported as e:
            raise Refusal(400, str(e)) from None
        except Exception as e:  # templates are programs of strangers, and raise what they like
            raise Refusal(400, f"the chat template of this model refuses these messages: {_line(e)}") from None
        top = number_of(body, "top_logprobs", int, 0, 0, TOP)
        logprobs = top if field_of(body, "logprobs", bool, False) else None
        if top and logprobs is None:
            raise Refusal(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        both = [body[k] for k in ("max_tokens", "max_completion_tokens") if body.get(k) is not None]
        if len(set(map(str, both))) > 1:
            raise Refusal(400, "max_tokens and max_completion_tokens say the same; give one of them")
        body = {**body, "max_tokens": both[0] if both else None}
        asked = [m["content"] for m in messages if m["role"] == "user"]
        ids = list(self.base.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        return self._wanted(body, ids, asked[-1] if asked else text, logprobs, CHAT_TOKENS, client, trimmed=True)

    def completion(self, body: Json, client: str) -> Wanted:
        """A completion of plain text."""
        refuse_unknown(body, SHARED | OF_COMPLETION)
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
            (prompt,) = prompt
        if isinstance(prompt, str):
            ids = list(self.base.tokenizer(prompt, verbose=False)["input_ids"])
        elif isinstance(prompt, list) and all(type(i) is int for i in prompt):
            ids = prompt
        else:
            raise Refusal(400, "prompt is one text, or one list of token ids; send a request for each", param="prompt")
        (vocabulary,) = self.base.model.get_input_embeddings().weight.shape[:1]  # type: ignore[operator]
        if not ids or not all(0 <= i < vocabulary for i in ids):
            raise Refusal(400, f"prompt holds at least one token, from 0 to {vocabulary - 1}", param="prompt")
        logprobs = number_of(body, "logprobs", int, None, 0, TOP)
        text = prompt if isinstance(prompt, str) else self.base.tokenizer.decode(ids)
        echo = text if field_of(body, "echo", bool, False) else ""
        return self._wanted(body, ids, text, logprobs, COMPLETION_TOKENS, client, trimmed=False, echo=echo)

    def _wanted(
        self,
        body: Json,
        ids: Sequence[int],
        name: str,
        logprobs: int | None,
        usual: int,
        client: str,
        *,
        trimmed: bool,
        echo: str = "",
    ) -> Wanted:
        """What chats and completions have in common."""
        try:
            refuse_images(self.base.tokenizer, ids)
        except Unsupported as e:
            raise Refusal(400, str(e)) from None
        model = field_of(body, "model", str, BASE)
        strengths = self.dials.strengths(model, field_of(body, "steer", dict, {}))
        start = field_of(body, "steer_from", str, "prompt")
        if start not in FROM:
            raise Refusal(400, "steer_from is prompt or answer", param="steer_from")
        ask = Ask(
            ids=tuple(ids),
            strengths=strengths,
            sampling=Sampling(
                temperature=number_of(body, "temperature", float, 1.0, 0, HOTTEST),
                top_p=number_of(body, "top_p", float, 1.0, 1e-6, 1),
                top_k=number_of(body, "top_k", int, 0, 0, 2**31 - 1),
                min_p=number_of(body, "min_p", float, 0.0, 0, 0.999),
            ),
            max_new=self._length(body, len(ids), usual),
            seed=number_of(body, "seed", int, secrets.randbits(31), -(2**63), 2**64 - 1),
            name=name,
            n=number_of(body, "n", int, 1, 1, self.limits.rows),
            stops=_stops(body),
            logprobs=logprobs,
            answer_only=start == "answer",
            kl=field_of(body, "kl", bool, False),
            ignore_eos=field_of(body, "ignore_eos", bool, False),
            trimmed=trimmed,
            echo=bool(echo) and logprobs is not None,
            client=client,
        )
        if ask.rows > self.limits.rows:
            raise Refusal(400, "kl needs a second row, and this server has one; start it with --rows 2", param="kl")
        options = field_of(body, "stream_options", dict, {})
        return Wanted(ask, field_of(body, "stream", bool, False), options.get("include_usage") is True, echo)

    def _length(self, body: Json, prompt: int, usual: int) -> int:
        """How long an answer may get: as asked for, or as usual where there is room."""
        most = self.limits.max_new_tokens
        length = number_of(body, "max_tokens", int, None, 1, most)
        context = context_of(self.base.model)
        room = most if context is None else context - prompt
        if room < (length or 1):
            raise Refusal(
                400,
                f"{prompt} tokens of prompt and {length or 1} new ones do not fit this model's context of {context}",
                code="context_length_exceeded",
            )
        length = length or min(usual, room, most)
        if not slots_fit(self.base.model, prompt + length):
            raise Refusal(400, f"{prompt + length} tokens are more than the attention windows of this model hold")
        return length


# ---------------------------------------------------------------- single fields


def refuse_unknown(body: Json, known: set[str], off: Mapping[str, Sequence[object]] = OFF) -> None:
    """Refuse fields that are not done here, and those that nobody knows."""
    for name, value in body.items():
        if name in off and value not in off[name]:
            raise Refusal(400, f"{name} is not done here; leave it out", param=name)
        if name in known or name in HARMLESS or name in off:
            continue
        near = get_close_matches(name[:60], known, 1)
        hint = MEANT.get(name) or (f"did you mean {near[0]}?" if near else "leave it out")
        raise Refusal(400, f"there is no field {_short(name)} here; {hint}", param=_short(name))


def field_of(body: Json, name: str, kind: type, usual: Any) -> Any:
    """A field of a type; null is what was not given."""
    value = body.get(name)
    if value is None:
        return usual
    if not isinstance(value, kind):
        words = {bool: "true or false", str: "text", dict: "an object"}[kind]
        raise Refusal(400, f"{name} is {words}", param=name)
    return value


def number_of(body: Json, name: str, kind: Callable[[Any], Any], usual: Any, least: float, most: float) -> Any:
    """A number within a range."""
    value = body.get(name)
    if value is None:
        return usual
    whole = kind is int
    wrong = isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most
    if wrong or (whole and value != int(value)):
        what = f"a whole number from {least} to {most}" if whole else f"a number from {least:g} to {most:g}"
        raise Refusal(400, f"{name} is {what}", param=name)
    return kind(value)


def _messages(messages: object) -> list[dict[str, Any]]:
    """Messages as a template takes them, their text in one piece."""
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages is a list of at least one {role, content}", param="messages")
    return [_message(m) for m in messages]


def _message(message: object) -> dict[str, Any]:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise Refusal(400, f"a message has a role ({', '.join(ROLES)}) and content", param="messages")
    content = message.get("content")
    if isinstance(content, list):
        parts = [p.get("text") if isinstance(p, dict) and p.get("type") == "text" else None for p in content]
        if not all(isinstance(p, str) for p in parts):
            raise Refusal(400, "content holds text alone; this model takes no pictures and no sound", param="messages")
        content = "".join(map(str, parts))
    calls = message["role"] == "assistant" and isinstance(message.get("tool_calls"), list)
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise Refusal(400, "the content of a message is text", param="messages")
    role = "system" if message["role"] == "developer" else message["role"]
    more = {k: message[k] for k in ("tool_call_id", "name") if k in message}
    if calls:
        more["tool_calls"] = [_call(c) for c in message["tool_calls"]]
    return {"role": role, "content": content, **more}


def _call(call: object) -> dict[str, Any]:
    """A call that a model made, as templates take it: with its arguments as an object, where the API has a text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Refusal(400, "a tool call has a function with a name and arguments", param="messages")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with contextlib.suppress(Refusal):  # what a model wrote need not be JSON, and then stays its text
            arguments = parsed(arguments.encode())
    return {**call, "function": {**function, "arguments": arguments}}


def _tools(body: Json) -> list[dict[str, Any]] | None:
    """Tools for the template to describe; what the model writes of them is text."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise Refusal(400, "tool_choice is auto or none; no call can be forced here", param="tool_choice")
    if not tools or choice == "none":
        return None
    if not isinstance(tools, list) or not all(isinstance(t, dict) and t.get("type") == "function" for t in tools):
        raise Refusal(400, "tools is a list of functions", param="tools")
    return tools


def _stops(body: Json) -> tuple[str, ...]:
    stops = body.get("stop")
    stops = [] if stops is None else [stops] if isinstance(stops, str) else stops
    fine = isinstance(stops, list) and len(stops) <= STOPS
    if not fine or not all(isinstance(s, str) and 0 < len(s) <= STOP_LENGTH for s in stops):
        raise Refusal(400, f"stop is up to {STOPS} texts of 1 to {STOP_LENGTH} characters", param="stop")
    return tuple(stops)


def _short(name: object) -> str:
    text = " ".join(str(name).split())
    return text if len(text) <= 40 else f"{text[:40]}…"


def _line(e: Exception) -> str:
    """What a template says in its own words; of other errors only their kind, which may hold paths."""
    words = " ".join(str(e).split())[:200] if type(e).__name__ == "TemplateError" else type(e).__name__
    return words or "without a reason"
