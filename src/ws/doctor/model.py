"""A model before it is loaded: can it be worked with, what does its chat template do, which tokens are its answers.

Config and tokenizer are all that is read. The network is built on torch's meta device: every name and shape, no values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ws.doctor.check import BROKEN, NOTE, OK, Finding, size
from ws.errors import BadFile, ScoringImpossible, Unsupported, WsError
from ws.eval.protocol import YES_NO
from ws.eval.scoring import Item, proven
from ws.generate import context_of
from ws.models.answers import anchor_before
from ws.models.architecture import skeleton, stored_dtype
from ws.models.base import Base
from ws.models.chat import Chat, end_of_turn, has_template, render, thinks
from ws.models.checkpoint import Checkpoint, tensor_places
from ws.models.load import LACKS
from ws.models.locate import locate, reach_model, why_not
from ws.models.prompts import tokenizer_of
from ws.models.quantised import OF_EXPERTS, packed_as, refuse_packed_so, stays_packed, weight_bytes
from ws.train.sequences import finished
from ws.types import Json, Tokenizer

QUESTION, ANSWER = "What is the capital of Kenya?", "The capital of Kenya is Nairobi."
SLOTS = {"yes or no": (YES_NO, "My choice:"), "1 or 2": ((("1",), ("2",)), "My choice: Action")}


@dataclass(frozen=True, eq=False)
class Opened:
    """A model known by its config and tokenizer alone."""

    base: Base
    """On torch's meta device; it can be asked for names and shapes and cannot compute."""
    dtype: torch.dtype
    """The precision it is stored in."""
    stored: int
    """Bytes of its weights at that precision."""
    packed: str | None = None
    """The way in which the checkpoint's own weights are packed (`quantised.BYTES`)."""

    def packed_on(self, device: str) -> str | None:
        """The way in which its weights are packed in the memory of a device; None where they are whole there."""
        return self.packed if stays_packed(self.packed, device) else None


def opened(model: str) -> Opened:
    """Config, tokenizer and shapes of `tiny`, a hub id or a folder; what `ws` cannot work with is refused here."""
    import transformers

    source, name, revision = locate(model)
    online = Path(source).is_dir() or reach_model(name, revision)
    options: Json = {"revision": revision, "trust_remote_code": False, "local_files_only": not online}
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        tokenizer = tokenizer_of(source, config, options)
    except (OSError, ValueError) as e:
        raise BadFile(why_not(model, e)) from e
    refuse_packed_so(config, name)
    packed = packed_as(config, name)
    dtype = stored_dtype(config) or torch.float32
    try:
        network = skeleton(config, name, dtype)
    except (OSError, ValueError) as e:
        raise BadFile(why_not(model, e)) from e
    network.eval().requires_grad_(False)
    base = Base(network, tokenizer, "", name, revision, model, weights="")  # of no values there are no names
    return Opened(base, dtype, sum(p.numel() * p.element_size() for p in network.parameters()), packed)


def examine_model(model: Opened) -> list[Finding]:
    """Architecture, weights, template and answers of one model."""
    base = model.base
    tokenizer = base.tokenizer
    questions: list[tuple[str, Callable[[], str | tuple[str, str]], str]] = [
        ("chat template", lambda: _template(tokenizer), "Take a model whose chat template knows system messages."),
        ("training text", lambda: _training_text(tokenizer), "Take another model; its answers have no end to learn."),
    ]
    do = "Evaluations that ask so cannot score this model; the others can."
    for name, (words, anchor) in SLOTS.items():
        questions.append((f"answers {name}", partial(_slot, base, words, anchor), do))
    checks = [_architecture(model), _weights(model)]
    for name, look, do in questions:
        try:
            answer = look()
        except (WsError, ValueError) as e:
            checks.append(Finding(name, NOTE if isinstance(e, ScoringImpossible) else BROKEN, str(e), do))
            continue
        checks.append(
            Finding(name, OK, answer) if isinstance(answer, str) else Finding(name, NOTE, answer[0], answer[1])
        )
    return checks


def _architecture(model: Opened) -> Finding:
    base = model.base
    n = sum(p.numel() for p in base.model.parameters())
    room = context_of(base.model)
    text = f"{type(base.model).__name__}, {f'{n / 1e9:.2f} billion' if n > 1e8 else f'{n / 1e6:.1f} million'} parameters, {base.depth} blocks, {len(base.linears)} linear layers"
    return Finding("architecture", OK, text + (f", context {room}" if room else ""))


def _weights(model: Opened) -> Finding:
    """The weights: are they here, as safetensors? A hub id that was never fetched is fetched when it is needed."""
    source, _, revision = locate(model.base.source)
    text = f"{size(model.stored)} in {str(model.dtype).removeprefix('torch.')}"
    if model.packed is not None:
        where = "; whole on a CPU" if model.packed in OF_EXPERTS else ""
        text = f"{size(weight_bytes(model.base.model, model.packed))} packed as {model.packed}, {text} if they were whole{where}"
    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(
                snapshot_download(source, revision=revision, local_files_only=True, allow_patterns=["*.safetensors*"])
            )
            if not list(folder.glob("*.safetensors")):
                raise FileNotFoundError
        except OSError:
            return Finding(
                "weights",
                NOTE,
                f"{text}, not in the hub's cache",
                "They are fetched when they are first needed; see the free disk above.",
            )
    try:
        places = tensor_places(folder)
        shards = len(set(places.values()))
        theta = Checkpoint(folder, model.base.id, revision, model.base.source, model.base.model, places)
        if model.packed is None and (missing := theta.lacking):
            raise BadFile(LACKS.format(model.base.id, len(missing), missing[0]))
    except BadFile as e:
        return Finding("weights", BROKEN, str(e), "Give a folder with whole safetensors files.")
    return Finding("weights", OK, f"{text}, in {shards} file{'s' if shards > 1 else ''}")


def _template(tokenizer: Tokenizer) -> str | tuple[str, str]:
    if not has_template(tokenizer):
        return "none: prompts are plain text", "Fine for a base model; for a chat model, take the one with a template."
    try:
        text = render(tokenizer, Chat(QUESTION, "SYSTEM"))
    except Exception as e:  # a template raises what its author wrote, through the template engine
        raise Unsupported(
            f"the template refuses a system message ({' '.join(str(e).split())[:80]}), which personas need"
        ) from e
    if "SYSTEM" not in text:
        raise Unsupported("the template drops the system message, which personas need")
    thoughts = "can think" if thinks(tokenizer) else "has no thoughts"
    return (
        f"knows system messages, {thoughts}, a turn ends with {tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer))}"
    )


def _training_text(tokenizer: Tokenizer) -> str | tuple[str, str]:
    ids, start, difference = finished(tokenizer, QUESTION, ANSWER)
    if difference is None:
        return f"prompt, answer and end of turn are what the template writes ({start} + {len(ids) - start} tokens)"
    return (
        f"the template writes a finished conversation differently, from token {difference} on",
        "Training refuses this model, unless --allow-template-diff says that you have looked at it.",
    )


def _slot(base: Base, words: tuple[tuple[str, ...], tuple[str, ...]], anchor: str) -> str:
    if words[0][0].isdigit():
        anchor = anchor_before(base.tokenizer, anchor, [w[0] for w in words])
    item = Item("doctor", "doctor", Chat(QUESTION), anchor, words)
    tokens = proven(base, item).described(base.tokenizer)
    return f"after {anchor!r}: {' '.join(tokens['yes'])} against {' '.join(tokens['no'])}"
