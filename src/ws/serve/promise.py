"""What a direction promises of a server: the log-probabilities of first tokens, as the steered model itself has them."""

from collections import Counter
from functools import cache

import torch

from ws.direction import Direction
from ws.models.base import Base
from ws.models.chat import Chat, encode, render
from ws.serve.conformance import Promise
from ws.serve.text import text_of
from ws.steer import steer


def promise_of(base: Base, direction: Direction) -> Promise:
    """By question and strength; tokens are called by their text, as servers call them."""
    vocabulary = base.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    texts = [text_of(base.tokenizer, i) for i in range(vocabulary)]
    alike = Counter(texts)  # halves of characters, of which a text says nothing

    @cache
    @torch.inference_mode()
    def promised(question: str, alpha: float) -> dict[str, float]:
        ids = encode(base.tokenizer, render(base.tokenizer, Chat(question)))
        with steer(base, direction, alpha):
            logits = base.model(input_ids=torch.tensor([ids], device=base.device), logits_to_keep=1).logits[0, -1]
        logprobs = logits.float().log_softmax(-1).tolist()
        return {text: p for text, p in zip(texts, logprobs) if alike[text] == 1}

    return promised
