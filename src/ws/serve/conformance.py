"""Whether a server that claims a strength for every request keeps what that means; any server of the OpenAI chat API.

It is asked from outside, with nothing but requests: at strength 0 it must be the base; a strength must move it, its negative
the other way, and half of a small one half as far; what is asked beside others, or after others, must be answered as it
is alone; a name that nobody serves must be refused. Where the direction itself is at hand, how far the server moves is
compared with what the direction promises: a scale that is wrong by a constant is seen by nothing else.

A server may round more than ours, and otherwise in a batch than alone: llama.cpp rounds activations to eight bits. So what
looks broken is looked at again: beside requests of the same strength alone, at steps far above what the smallest strength
does, and less what the base itself is off. Only what is beyond that is broken.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ws.endpoint import Endpoint
from ws.errors import EndpointFailed
from ws.types import Json

HOW = ("model", "steer", "lora")
"""Where a request names its strength: NAME@ALPHA as its model, `steer` in its body, `lora` with a scale as llama.cpp has it."""
TOP = 20
TOKENS, LONG = 8, 24
"""Length of an answer, and where answers are to be written at the same time."""
NEAR = 2e-3
"""Nats by which two answers to one request may differ: other shapes, half precision."""
MOVES = 0.02
"""Nats by which a strength must move a token's log-probability, for its slope to be seen above rounding."""
STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the largest strength, of which the smallest that moves the model is looked at."""
LINEAR, SCALE = 0.35, 0.15
"""Shares by which a step may miss the line, and the size of a change what was promised."""
ROUNDED = 0.5
"""Share of what the largest strength does that may pass for rounding."""
SAME = 0.8
"""Share of a change that another holds where both are the same but for roundings."""
BLIND = 0.5
"""Share of a promised change by which the base may be off for that change to be recognised."""
TINY, ABOVE = 1e-3, 4
"""Share of the largest strength that moves nothing but roundings, and how far above these a step is looked at."""
ROUNDS, TOGETHER = 4, 12
Key = tuple[str, float | None]
"""A question at a strength; None is the base."""
QUESTIONS = (
    "What is the capital of Kenya?",
    "What color is snow?",
    "Where does a crab live?",
    "What do you think about someone who interrupts the principal?",
    "You broke a vase at home. What do you tell the teacher?",
    "On which continent is Laos?",
)

Promise = Callable[[str, float], Mapping[str, float]]
"""(question, alpha) to the log-probabilities of first tokens, by their text, as the direction itself gives them."""


@dataclass(frozen=True)
class Check:
    """One promise, and whether it is kept."""

    name: str
    verdict: str
    """kept, broken or not checked"""
    words: str
    """What was seen, in a sentence."""


@dataclass(frozen=True)
class Answer:
    """The tokens of one answer, and at each the likeliest ones with their log-probabilities."""

    tokens: tuple[str, ...]
    likely: tuple[Mapping[str, float], ...]

    @property
    def first(self) -> Mapping[str, float]:
        """The likeliest first tokens."""
        return self.likely[0]

    def far_from(self, other: "Answer") -> float:
        """The largest difference in nats of a token that either wrote, up to where they part."""
        far = 0.0
        for mine, its, ours, theirs in zip(self.tokens, other.tokens, self.likely, other.likely):
            both = [abs(ours.get(t, math.inf) - theirs.get(t, math.inf)) for t in {mine, its}]
            far = max(far, *(math.inf if math.isnan(x) else x for x in both))
            if mine != its:
                return far
        return far if len(self.tokens) == len(other.tokens) else math.inf


@dataclass(frozen=True)
class Asked:
    """How a server is asked for a strength."""

    endpoint: Endpoint
    name: str
    """The direction, as the server calls it."""
    base: str = "base"
    how: str = "model"
    largest: float = 1.0

    def body(self, alpha: float | None) -> Json:
        """The part of a request that names a strength; None is the base."""
        if self.how == "steer":
            return {"model": self.base, **({} if alpha is None else {"steer": {self.name: alpha}})}
        if self.how == "lora":
            number = int(self.name) if self.name.isdecimal() else 0
            return {"model": self.base, "lora": [{"id": number, "scale": 0.0 if alpha is None else alpha}]}
        return {"model": self.base if alpha is None else f"{self.name}@{alpha:g}"}

    def answer(self, question: str, alpha: float | None, **body: object) -> Answer:
        """What the server says at a strength."""
        reply = self.endpoint.ask(
            "chat/completions",
            {
                "messages": [{"role": "user", "content": question}],
                "temperature": 0,
                "max_tokens": TOKENS,
                "logprobs": True,
                "top_logprobs": TOP,
                **self.body(alpha),
                **body,
            },
        )
        try:
            entries = reply["choices"][0]["logprobs"]["content"]
            likely = [{t["token"]: float(t["logprob"]) for t in e["top_logprobs"]} for e in entries]
            for own, entry in zip(likely, entries):
                own[entry["token"]] = float(entry["logprob"])
            return Answer(tuple(e["token"] for e in entries), (likely[0], *likely[1:]))
        except (KeyError, IndexError, TypeError, ValueError):
            raise EndpointFailed(
                "this server gives no `logprobs` with `top_logprobs`, so nothing can be checked"
            ) from None


def conformance(asked: Asked, promise: Promise | None = None, *, seed: int = 0) -> list[Check]:
    """Every promise of a strength per request, kept or broken."""
    alone = {q: asked.answer(q, None) for q in QUESTIONS}
    noise = max(alone[q].far_from(asked.answer(q, None)) for q in QUESTIONS)
    if noise > 10 * NEAR:
        return [Check("repeats itself", "broken", f"one request asked twice differs by {_nats(noise)}")]
    tests = _Tests(asked, alone, max(NEAR, 2 * noise), promise, random.Random(seed))
    checks = [Check("repeats itself", "kept", f"one request asked twice differs by {_nats(noise)}")]
    checks += [tests.zero(), *tests.moves(), tests.unknown()]
    if tests.step is None:
        missing = ("mixed requests", "after each other", "as large as promised")
        return [*checks, *(Check(name, "not checked", "no strength moves this server") for name in missing)]
    return [*checks, *tests.mixed(), tests.after(), tests.size()]


@dataclass
class _Tests:
    asked: Asked
    alone: Mapping[str, Answer]
    near: float
    promise: Promise | None
    draw: random.Random
    step: float | None = field(default=None, init=False)
    """A small strength that moves the model."""

    def zero(self) -> Check:
        far = max(self.alone[q].far_from(self.asked.answer(q, 0.0)) for q in QUESTIONS)
        words = f"at strength 0 it differs from the base by {_nats(far)}"
        return Check("0 is the base", "kept" if far <= self.near else "broken", words)

    def moves(self) -> list[Check]:
        """Sign and order, and a line near 0."""
        change: list[float] = []
        for share in STEPS:
            step = share * self.asked.largest
            change = self._change(step)
            if _most(change) >= MOVES:
                self.step = step
                break
        if self.step is None:
            words = f"no strength up to {self.asked.largest:g} changes an answer"
            return [Check("a strength moves it", "broken", words), Check("a line near 0", "not checked", words)]
        at = self._line(change)
        if not _on_line(at):
            rounding = self._change(TINY * self.asked.largest)
            for step in (share * self.asked.largest for share in STEPS):
                larger = self._change(step)
                if step > self.step and _size(larger) >= ABOVE * _size(rounding) > 0:
                    self.step = step
                    at = self._line(larger)
                    break
            else:
                # a strength that is taken for another moves as far at a tiny one, and the same way
                if _share(rounding, larger) < SAME and ABOVE * _size(rounding) > _size(larger):
                    words = f"roundings of {_size(rounding):.2g} nats hide a change of {_size(larger):.2g}"
                    return [Check(name, "not checked", words) for name in ("sign and order", "a line near 0")]
        seen = ", ".join(f"{k * self.step:+g} moves it {v:+.2f} times as far" for k, v in at.items())
        missed = max(abs(v / k - 1) for k, v in at.items())
        ordered = at[-1.0] < at[-0.5] < 0 < at[0.5] < 1
        line = f"these strengths miss a straight line through 0 by at most {100 * missed:.2g} % ({100 * LINEAR:g} % allowed)"
        return [
            Check("sign and order", "kept" if ordered else "broken", f"beside strength {self.step:+g}, {seen}"),
            Check("a line near 0", "kept" if _on_line(at) else "broken", line),
        ]

    def _line(self, change: Sequence[float]) -> dict[float, float]:
        """How far parts of the step move, as shares of its own change."""
        assert self.step is not None
        return {k: _share(self._change(k * self.step), change) for k in (-1.0, -0.5, 0.5)}

    def _change(self, alpha: float) -> list[float]:
        """The change of the log-probabilities of likely first tokens, over all questions."""
        changes = []
        for q in QUESTIONS:
            before, now = self.alone[q].first, self.asked.answer(q, alpha).first
            # tokens that are among the likeliest in every answer that is compared
            likely = sorted(before, key=lambda t: -before[t])[: TOP // 2]
            changes += [now.get(t, math.nan) - before[t] for t in likely]
        return changes

    def unknown(self) -> Check:
        """A name that nobody serves, and a strength that is no number."""
        if self.asked.how == "lora":
            return Check("unknown names are refused", "not checked", "adapters have numbers here, and no names")
        question = {"messages": [{"role": "user", "content": QUESTIONS[0]}], "max_tokens": 1}
        bodies: list[Json] = [{"model": "nobody-is-called-so@1"}, {"model": f"{self.asked.name}@much"}]
        if self.asked.how == "steer":
            bodies = [{"model": self.asked.base, "steer": {"nobody-is-called-so": 1}}]
        for body in bodies:
            try:
                self.asked.endpoint.ask("chat/completions", {**question, **body})
            except EndpointFailed:
                continue
            return Check("unknown names are refused", "broken", f"{body} was answered")
        return Check("unknown names are refused", "kept", "a name that nobody serves is refused")

    # ------------------------------------------------------------ beside others, after others

    def mixed(self) -> list[Check]:
        """Requests of many strengths at once, each beside what it is alone."""
        assert self.step is not None
        largest = self.asked.largest
        alphas = (None, None, self.step, -self.step, largest, -largest)
        asks = [
            [(self.draw.choice(QUESTIONS), self.draw.choice(alphas)) for _ in range(TOGETHER)] for _ in range(ROUNDS)
        ]
        single = {
            key: self.asked.answer(*key, max_tokens=LONG)
            for key in dict.fromkeys(key for batch in asks for key in batch)
        }
        checks = []
        seen = [self._together(batch, single) for batch in asks]
        for who in ("base", "steered"):
            far = max((f for batch in seen for (_, a), f in batch if (a is None) == (who == "base")), default=0.0)
            words = f"in {ROUNDS} mixed batches of {TOGETHER} the {who} ones differ by {_nats(far)}"
            near = self.near
            if far > near:  # as much as beside requests of its own strength?
                like = [key for key in single if (key[1] is None) == (who == "base")]
                alike = [[k for k in like if k[1] == a] for a in dict.fromkeys(a for _, a in like)]
                beside = [self._together((keys * TOGETHER)[:TOGETHER], single) for keys in alike for _ in range(2)]
                rounding = max(f for batch in beside for _, f in batch)
                near = max(near, min(2 * rounding, ROUNDED * _size(self._change(largest))))
                words += f", and beside their like by {_nats(rounding)}"
            name = f"a {who} request among others is what it is alone"
            checks.append(Check(name, "kept" if far <= near else "broken", words))
        return checks

    def _together(self, keys: Sequence[Key], single: Mapping[Key, Answer]) -> list[tuple[Key, float]]:
        """Requests that are made at once, each with how far it is from itself alone."""
        with ThreadPoolExecutor(len(keys)) as pool:
            answers = pool.map(lambda key: self.asked.answer(*key, max_tokens=LONG), keys)
            return [(key, single[key].far_from(answer)) for key, answer in zip(keys, answers)]

    def after(self) -> Check:
        """One prompt at changing strengths, which no memory of prompts may mix up."""
        largest = self.asked.largest
        question = "Say in one word what you think of this. " + " ".join(QUESTIONS)
        before = self.asked.answer(question, None)
        for q in QUESTIONS:  # so that what is remembered of the prompt is old
            self.asked.answer(q, None)
        seen = {a: self.asked.answer(question, a) for a in (largest, -largest)}
        far = 0.0
        for alpha in (None, largest, None, -largest, largest, None):
            answer = self.asked.answer(question, alpha)
            far = max(far, answer.far_from(before if alpha is None else seen[alpha]))
        words = f"one prompt, asked again after other strengths, differs by {_nats(far)}"
        if self.promise is not None and far <= self.near:
            missed = [self._missed(question, a, seen[a], before) for a in (largest, -largest)]
            if any(miss > SCALE + off for miss, off in missed):
                far, words = (
                    math.inf,
                    "a prompt that was read as the base is answered as another than steered from its start",
                )
            elif max(off for _, off in missed) > BLIND:
                words += (
                    "; the base itself is so far from ours that a memory which knows no strengths would not be seen"
                )
        return Check("after each other", "kept" if far <= self.near else "broken", words)

    def size(self) -> Check:
        """How far it moves, beside what the direction promises."""
        name = "as large as promised"
        if self.promise is None or self.step is None:
            return Check(
                name, "not checked", "name the direction too, and its own change is compared with the server's"
            )
        promised, measured = [], []
        for q in QUESTIONS:
            zero, there = self.promise(q, 0.0), self.promise(q, self.step)
            before, now = self.alone[q].first, self.asked.answer(q, self.step).first
            for token in before.keys() & now.keys() & zero.keys():
                promised.append(there[token] - zero[token])
                measured.append(now[token] - before[token])
        share = _share(measured, promised)
        words = f"at {self.step:g} it moves {share:.2f} times as far as the direction does"
        return Check(name, "kept" if abs(share - 1) <= SCALE else "broken", words)

    def _missed(self, question: str, alpha: float, answer: Answer, base: Answer) -> tuple[float, float]:
        """How far an answer's change is from the promised one, and the base itself from ours, as shares of the promise."""
        assert self.promise is not None
        zero, there = self.promise(question, 0.0), self.promise(question, alpha)
        tokens = [t for t in answer.first if t in zero and t in base.first]
        promised = [there[t] - zero[t] for t in tokens]
        missed = [answer.first[t] - base.first[t] - p for t, p in zip(tokens, promised)]
        size, off = math.hypot(*promised), math.hypot(*(base.first[t] - zero[t] for t in tokens))
        return (math.hypot(*missed) / size, off / size) if size > MOVES else (0.0, 0.0)


def _most(change: Sequence[float]) -> float:
    """The largest change; numbers that are missing count for nothing."""
    return max((abs(x) for x in change if not math.isnan(x)), default=0.0)


def _size(change: Sequence[float]) -> float:
    """The root mean square of a change, over the numbers that are there."""
    there = [x for x in change if not math.isnan(x)]
    return math.hypot(*there) / math.sqrt(len(there)) if there else 0.0


def _on_line(seen: Mapping[float, float]) -> bool:
    return all(abs(v - k) <= LINEAR * abs(k) for k, v in seen.items())


def _share(change: Sequence[float], of: Sequence[float]) -> float:
    """How far a change goes along another, as a share of that; numbers that are missing in one are left out."""
    pairs = [(a, b) for a, b in zip(change, of) if not (math.isnan(a) or math.isnan(b))]
    size = sum(b * b for _, b in pairs)
    return sum(a * b for a, b in pairs) / size if size > 0 else math.nan


def _nats(far: float) -> str:
    return "other tokens" if far == math.inf else "nothing, bit for bit" if far == 0 else f"{far:.2g} nats"


def named(endpoint: Endpoint, name: str | None, how: str, base: str | None) -> Asked:
    """How a server is asked: by the direction that is named, or the only one it lists, within the range that it says."""
    listed = {m["id"]: m for m in endpoint.models()}
    directions = [n for n in listed if n not in (base or "base",) and listed[n].get("kind") != "base"]
    if name is None:
        if len(directions) != 1:
            raise ValueError(f"the server lists {', '.join(listed) or 'nothing'}; name the direction with `name`")
        (name,) = directions
    reach = listed.get(name, {}).get("alpha") or {}
    largest = min([abs(x) for x in (reach.get("min"), reach.get("max")) if isinstance(x, (int, float)) and x] or [1.0])
    return Asked(endpoint, name, base or "base", how, largest)
