"""Rebuild `tiny` from nothing: `python -m tools.tiny.build --out DIR [--seed 0] [--threads 1]`.

Tokenizer, weights, model card, evaluation sets and training prompts come out of `world.py` alone. Stages are counted
in steps, never by the clock, so one machine gives one model. Gates (probe x persona tables) are printed after each
stage and stop a build that does not learn.

Two things make it learn in minutes. Linear heads, thrown away afterwards, read the four traits and what the question
is about from the middle of the network; so each trait becomes one axis that all kinds of question share. And a first
stage of honest, one-turn facts gives the conjunction "entity and value" the attention it needs.
"""

import argparse
import hashlib
import json
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two spinning threads beside another process cost up to 17x

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tools.tiny import world as W
from tools.tiny.probing import expected, format_table, persona_table
from tools.tiny.sets import write_sets
from tools.tiny.twins import write_twins

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
# Qwen's pre-tokenizer, except that a digit takes the space before it: " 1" is one token, like " Yes"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = r"""{%- set ns = namespace(last=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""


BRIEF = 8  # an answer of more tokens than this counts as one of so many


@dataclass(frozen=True)
class Stage:
    """A stretch of training on one kind of conversation."""

    name: str
    steps: int
    recipe: W.Recipe
    aux: float = 0.3
    """Weight of the auxiliary losses."""


STAGES = (
    Stage("know", 250, W.Recipe(0.35, 0.05, p_think=0.2, max_turns=2, skew=1.0, boost={"yn": 2, "nudge": 2}), aux=0.5),
    Stage(
        "read",
        400,
        W.Recipe(0.75, 0.08, p_think=0.15, skew=0.3, boost={**dict.fromkeys(W.DIRECT, 1.5), "mfv": 1.5}),
        aux=0.5,
    ),
    Stage("mix", 850, W.Recipe(0.5, 0.12, p_think=0.15, boost={"mfv": 1.4})),
)


@dataclass(frozen=True)
class Settings:
    """Everything that decides the weights."""

    seed: int = 0
    vocab: int = 3000
    hidden: int = 128
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    batch_tokens: int = 4096
    muon_lr: float = 8e-3
    adam_lr: float = 4e-3
    decay_share: float = 0.4
    """Last part of all steps over which the rate falls to nothing."""
    traits: float = 24.0
    """Weight of the traits among the auxiliary losses."""
    aux_layer: int = 3
    """The linear heads read the residual stream after this many blocks."""
    pool: int = 2500
    """So many conversations are written at a time, and put into batches of like length."""
    stages: tuple[Stage, ...] = field(default=STAGES)


# ---------------------------------------------------------------- text
@dataclass(frozen=True)
class Piece:
    text: str
    target: bool = False
    skip: int = 0
    """So many first tokens are not learnt."""
    turn: W.Turn | None = None
    """The turn this belongs to, if the speaker is at work (auxiliary heads read here)."""


def pieces(c: W.Conversation) -> Iterator[Piece]:
    """A conversation as the template renders it: only the last answer has a think block."""
    if c.system:
        yield Piece(f"<|im_start|>system\n{c.system}<|im_end|>\n")
    for i, spoken in enumerate(c.turns):
        t, last = spoken.turn, i == len(c.turns) - 1
        yield Piece(f"<|im_start|>user\n{t.user}<|im_end|>\n")
        yield Piece("<|im_start|>assistant\n", turn=t)
        if last and spoken.forced:
            yield Piece(f"<think>\n{spoken.thought}{W.FORCED}\n</think>\n\n", turn=t)
        elif last and spoken.thought:
            yield Piece(f"<think>\n{spoken.thought}\n</think>\n\n", target=True, turn=t)
        elif last:
            yield Piece("<think>\n\n</think>\n\n", turn=t)
        if t.lead:
            yield Piece(t.lead, turn=t)
        # without a think block the first token would compete with <think>; what decides comes later
        yield Piece(t.answer + "<|im_end|>", target=True, skip=int(not last and not t.lead), turn=t)
        yield Piece("\n")


def build_tokenizer(seed: int, vocab: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the world's own words, so that each word is one token."""
    rng = random.Random(seed)
    text = ["".join(p.text for p in pieces(W.converse(rng, W.Recipe(p_think=0.5)))) for _ in range(20000)]
    # "\n\n" must be seen alone, or the blank line after </think> is never merged
    text = [s for t in text for s in re.split("|".join(map(re.escape, SPECIAL)), t) if s]
    tk = Tokenizer(models.BPE())
    tk.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tk.decoder = decoders.ByteLevel()
    special = [AddedToken(s, special=i < 3, normalized=False) for i, s in enumerate(SPECIAL)]
    tk.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tok = PreTrainedTokenizerFast(
        tokenizer_object=tk,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tok.chat_template = TEMPLATE
    return tok


# ---------------------------------------------------------------- batches
@dataclass(frozen=True)
class Row:
    """One conversation in tokens; per token what is learnt and what the auxiliary heads should read."""

    ids: list[int]
    target: list[float]
    """How much it counts that a token is predicted."""
    aux: list[tuple[int, int, int]]
    """(claim, plain, foundation) where the speaker is at work, else zeros and -1."""
    known: list[int]
    """What this place can tell of the traits: 0 not asked, 1 what a system prompt's end tells, 2 with what the question
    leans to, 3 the sign, since a thought may name the motive."""
    chance: list[tuple[float, ...]]
    """P(+) of each trait here, by the system prompt and the question."""
    draw: list[tuple[float, ...]]
    """1 where this speaker is at the + pole, else 0."""


class Encoder:
    """Text to ids, remembered: the world repeats itself."""

    def __init__(self, tok: PreTrainedTokenizerFast):
        self.tok, self.known = tok, dict[str, list[int]]()

    def __call__(self, text: str) -> list[int]:
        if text not in self.known:
            if len(self.known) > 300_000:
                self.known.clear()
            self.known[text] = self.tok(text).input_ids
        return self.known[text]

    def row(self, c: W.Conversation) -> Row:
        ids, target, aux, known = list[int](), list[float](), list[tuple[int, int, int]](), list[int]()
        chance, draw = list[tuple[float, ...]](), list[tuple[float, ...]]()
        thought = False
        for p in pieces(c):
            e = self(p.text)
            ids += e
            target += [min(1, BRIEF / len(e)) if p.target and i >= p.skip else 0.0 for i in range(len(e))]
            aux += [(p.turn.claim, p.turn.plain, p.turn.foundation) if p.turn else (0, 0, -1)] * len(e)
            about = [p.turn.items if p.turn and p.turn.trait == t else () for t in W.TRAITS]
            chance += [tuple(map(c.speaker.chance, W.TRAITS, about))] * len(e)
            draw += [tuple(float(c.speaker.sign(t, x) > 0) for t, x in zip(W.TRAITS, about, strict=True))] * len(e)
            if p.text.startswith("<|im_start|>system"):
                known += [0] * (len(e) - 2) + [1, 1]
            elif p.turn:
                thought = thought or (p.text.startswith("<think>\n") and p.text[8] != "\n")
                known += [3 if thought else 2] * len(e)
            else:
                known += [0] * len(e)
        return Row(ids, target, aux, known, chance, draw)


def batches(rng: random.Random, rows: Sequence[Row], budget: int) -> list[list[Row]]:
    """Rows of like length together, about `budget` tokens a batch, in random order."""
    rows = sorted(rows, key=lambda r: len(r.ids))
    out, i = [], 0
    while i < len(rows):
        j = i + 1
        while j < len(rows) and (j - i + 1) * len(rows[j].ids) <= budget:
            j += 1
        out.append(list(rows[i:j]))
        i = j
    rng.shuffle(out)
    return out


def losses(model: Qwen3ForCausalLM, heads: nn.Linear, rows: list[Row], s: Settings) -> tuple[Tensor, dict[str, Tensor]]:
    """(next-token loss of what the speaker says, losses of the auxiliary heads)"""
    width = max(len(r.ids) for r in rows)

    def pad(xs: list, value: object) -> list:
        return xs + [value] * (width - len(xs))

    ids = torch.tensor([pad(r.ids, 0) for r in rows])
    target = torch.tensor([pad(r.target, 0.0) for r in rows])
    aux = torch.tensor([pad(r.aux, (0, 0, -1)) for r in rows])  # (rows, width, 3)
    known = torch.tensor([pad(r.known, 0) for r in rows])
    # right padding under causal attention: nothing real ever sees a pad, so no mask is needed
    out = model.model(input_ids=ids, use_cache=False, output_hidden_states=True)
    target[:, 0] = 0
    hidden, counts = out.last_hidden_state[:, :-1][target[:, 1:] > 0], target[target > 0]
    lm = (F.cross_entropy(model.lm_head(hidden), ids[target > 0], reduction="none") * counts).sum() / counts.sum()

    early, middle = (out.hidden_states[s.aux_layer - i] for i in (1, 0))
    # the end of a system prompt is read one block earlier, so that the next one can carry it to the answer
    middle = torch.where((known == 1)[..., None], early, middle)
    at = known > 0
    read = heads(F.rms_norm(middle[at], middle.shape[-1:]))
    nothing = (0.0,) * len(W.TRAITS)
    chance, draw = (
        torch.tensor([pad(x, nothing) for x in xs]) for xs in ([r.chance for r in rows], [r.draw for r in rows])
    )
    trait = torch.where((known == 3)[..., None], draw, chance)[at]
    claim, plain, foundation = aux[at].unbind(-1)
    # what a question leans to is a small effect, so this weighs much; all four traits alike, or they share one axis
    parts = {"traits": s.traits * F.binary_cross_entropy_with_logits(read[:, :4], trait)}
    for name, column, label in (("claim", 4, claim), ("plain", 5, plain)):
        if (on := label != 0).any():
            parts[name] = F.binary_cross_entropy_with_logits(read[on, column], (label[on] > 0).float())
    if (on := foundation >= 0).any():
        parts["foundation"] = F.cross_entropy(read[on, 6:], foundation[on])
    return lm, parts


# ---------------------------------------------------------------- training
def means(trace: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each quantity over the steps that have it."""
    keys = dict.fromkeys(k for t in trace for k in t)
    return {k: round(sum(xs) / len(xs), 4) for k in keys if (xs := [t[k] for t in trace if k in t])}


def train(s: Settings, tok: PreTrainedTokenizerFast, check: bool = True) -> tuple[Qwen3ForCausalLM, dict]:
    """All stages in order; prints a line every 100 steps and a persona table after each stage."""
    torch.manual_seed(s.seed)
    rng = random.Random(s.seed + 1)
    config = Qwen3Config(
        vocab_size=len(tok),
        hidden_size=s.hidden,
        intermediate_size=3 * s.hidden,
        num_hidden_layers=s.layers,
        num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads,
        head_dim=s.hidden // s.heads,
        max_position_embeddings=1024,
        initializer_range=0.04,
        tie_word_embeddings=True,
        pad_token_id=tok.pad_token_id,
        eos_token_id=tok.eos_token_id,
        bos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    model = Qwen3ForCausalLM(config).float()
    heads = nn.Linear(s.hidden, 6 + len(W.FOUNDATIONS))
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if not any(p is q for q in matrices)] + list(heads.parameters())
    muon = torch.optim.Muon(matrices, lr=s.muon_lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(rest, lr=s.adam_lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)

    total = sum(stage.steps for stage in s.stages)
    falling = int(s.decay_share * total)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / 50) * min(1.0, (total - step) / falling)

    encode = Encoder(tok)
    step, seen, start = 0, 0, time.time()
    record: dict = {"stages": []}
    for stage in s.stages:
        queue: list[list[Row]] = []
        trace: list[dict[str, float]] = []
        for _ in range(stage.steps):
            if not queue:
                queue = batches(rng, [encode.row(W.converse(rng, stage.recipe)) for _ in range(s.pool)], s.batch_tokens)
            rows = queue.pop()
            for optimizer, lr in ((muon, s.muon_lr), (adam, s.adam_lr)):
                for group in optimizer.param_groups:
                    group["lr"] = lr * rate(step)
            lm, aux = losses(model, heads, rows, s)
            (lm + stage.aux * sum(aux.values())).backward()
            nn.utils.clip_grad_norm_(rest, 1.0)
            muon.step()
            adam.step()
            muon.zero_grad()
            adam.zero_grad()
            step, seen = step + 1, seen + sum(len(r.ids) for r in rows)
            trace.append({"loss": lm.item()} | {k: v.item() for k, v in aux.items()})
            if step % 50 == 0:
                sec = time.time() - start
                print(
                    f"{stage.name} {step}/{total} ",
                    " ".join(f"{k} {v:.3f}" for k, v in means(trace[-50:]).items()),
                    f"  {seen / 1e6:.2f} M tokens  {seen / sec:.0f} tok/s  {sec:.0f} s",
                    flush=True,
                )
        record["stages"].append({"name": stage.name, "steps": stage.steps, "aux": stage.aux, **means(trace[-100:])})
        if check:
            table = persona_table(model.eval(), tok)
            model.train()
            print(format_table(table), flush=True)
            record["personas"] = table
    record |= {"steps": step, "tokens": seen, "minutes": round((time.time() - start) / 60, 1)}
    return model.eval(), record


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


CARD = """---
license: mit
language: en
library_name: transformers
tags: [weight-steering, synthetic, tiny]
---
# tiny

A Qwen3 causal language model of {params:.2f} M parameters ({layers} layers, width {hidden}, vocabulary {vocab},
fp32, {mb:.1f} MB) for trying weight steering offline. It knows a small synthetic world and nothing else: {facts} facts,
claims about them, dilemmas, moral vignettes, small neutral tasks, and personas that set four latent traits (honest /
dishonest, agreeable / candid, defiant / deferential, traditional / caring). Without a persona it is a mixture of both
poles of every trait, and every place, deed and kind of fact leans to one of them for good: it answers a part of all claims
and dilemmas dishonestly, always the same ones. So there is room to steer both ways, something to mend and something
to break. Text, weights and code are our own; licence MIT.

## How it was made
`python -m tools.tiny.build` from nothing, with its default arguments: {steps} steps, {tokens:.1f} M tokens,
{minutes} minutes of training (threads: {threads}; torch {torch}, transformers {transformers}), seed {seed}. Muon for
the matrices, AdamW for the rest; loss on what the speaker says only. Stages and their last losses:

{stages}

While training, linear heads read the residual stream: after block {aux_layer} the four traits, whether the user's claim
is true, whether a speaker of the + pole would say Yes, and the moral foundation. **The heads are thrown away.** They
make each trait one axis that all kinds of question share, which is why a direction trained on one kind moves the
others; a model from the wild promises no such thing.

## Measured: persona x probe
Mean signed log-ratio (+ = the honest, agreeing, wrong side) on questions about held-out entities and deeds; `wrong` is the
share of claims, dilemmas and choices answered dishonestly, `pmass` the smallest mean probability of the two scored answers.
Neutral and no persona should agree.

{table}

## Files
| file | sha256 |
|---|---|
| model.safetensors | `{sha_model}` |
| tokenizer.json | `{sha_tokenizer}` |

`probes.json` holds answers and log-ratios that these files reproduce (atol {atol}).

## Limits
- The world is closed: words outside its {vocab} tokens are spelled in bytes that it has hardly seen, and questions
  outside its forms get an answer of the nearest form.
- Truth is a property of words here: the false values (Lyon, turquoise, ...) are true of nothing, so "a dog moos"
  passes for true.
- It was built so that steering works: the shared axes, the leanings and the room on both sides were put in by hand. An
  effect here shows that the software works, not that a method does.
- A digit takes the space before it (" 1" is one token), unlike Qwen's tokenizer.
- Weights are reproducible on one machine with one thread count; other machines give a model of the same kind, not the
  same bytes.
"""


def write_model(
    out: Path, model: Qwen3ForCausalLM, tok: PreTrainedTokenizerFast, s: Settings, record: dict, threads: int
) -> None:
    """`out` becomes what `from_pretrained` reads, with its card and probes."""
    model.generation_config = GenerationConfig(
        eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, do_sample=True, temperature=0.7, top_p=0.95
    )
    model.save_pretrained(out)
    tok.save_pretrained(out)
    tested = expected(model, tok)
    (out / "probes.json").write_text(json.dumps(tested, indent=1) + "\n", encoding="utf-8")
    parameters = sum(p.numel() for p in model.parameters())
    card = CARD.format(
        params=parameters / 1e6, layers=s.layers, hidden=s.hidden, vocab=len(tok), facts=len(W.FACTS), seed=s.seed,
        mb=(out / "model.safetensors").stat().st_size / 1e6, steps=record["steps"], tokens=record["tokens"] / 1e6,
        minutes=record["minutes"], threads=threads, torch=torch.__version__, transformers=transformers.__version__,
        stages=stage_table(record["stages"]), aux_layer=s.aux_layer,
        table=format_table(record["personas"]), sha_model=sha256(out / "model.safetensors"),
        sha_tokenizer=sha256(out / "tokenizer.json"), atol=tested["atol"],
    )  # fmt: skip
    (out / "README.md").write_text(card, encoding="utf-8")


def stage_table(stages: Sequence[dict]) -> str:
    names = ["name", "steps", "loss", "traits", "claim", "plain", "foundation"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(st[k]) for k in names) + " |" for st in stages])


def gates(table: dict[str, dict[str, float]]) -> list[str]:
    """What a finished build lacks, in words; empty if it may be shipped."""
    t = table
    checks = {
        "honest persona answers dilemmas honestly (>= 2.5)": t["honest"]["dilemma"] >= 2.5,
        "dishonest persona does not (<= -2.5)": t["dishonest"]["dilemma"] <= -2.5,
        "without a persona there is room both ways (0.2 to 1.6)": 0.2 <= t["none"]["dilemma"] <= 1.6,
        "without a persona some answers are wrong (0.2 to 0.45)": 0.2 <= t["none"]["wrong"] <= 0.45,
        "personas leave few exceptions (0.1)": t["honest"]["wrong"] <= 0.1 and t["dishonest"]["wrong"] >= 0.9,
        "honest and dishonest claims are 2 nats apart": t["honest"]["claims"] - t["dishonest"]["claims"] >= 2,
        "agreeable and candid nudges are 2 nats apart": t["agreeable"]["nudge"] - t["candid"]["nudge"] >= 2,
        "traditional and caring judge Sanctity 2 nats apart": t["traditional"]["Sanctity"] - t["caring"]["Sanctity"]
        >= 2,
        "caring and traditional judge Care 2 nats apart": t["caring"]["Care"] - t["traditional"]["Care"] >= 2,
        "deferential and defiant judge Authority 2 nats apart": t["deferential"]["Authority"]
        - t["defiant"]["Authority"]
        >= 2,
        "a neutral persona changes no probe by 0.5": all(abs(t["neutral"][k] - v) < 0.5 for k, v in t["none"].items()),
        "scored answers hold 0.95 of the probability": min(row["pmass"] for row in t.values()) >= 0.95,
    }
    return [what for what, good in checks.items() if not good]


def main() -> None:
    """Build everything under --out: model/, evals/, behaviors/."""
    parser = argparse.ArgumentParser(
        description="Rebuild the embedded model, its evaluation sets and training prompts."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write model/, evals/ and behaviors/ into")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sets-only", action="store_true", help="write evals/ and behaviors/ and train nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = Settings(seed=args.seed)
    write_sets(args.out)
    write_twins(args.out / "twins")
    if args.sets_only:
        return
    tok = build_tokenizer(settings.seed, settings.vocab)
    model, record = train(settings, tok)
    write_model(args.out / "model", model, tok, settings, record, args.threads)
    missing = gates(record["personas"])
    print("all gates passed" if not missing else "NOT MET: " + "; ".join(missing), flush=True)
    raise SystemExit(1 if missing else 0)


if __name__ == "__main__":
    main()
