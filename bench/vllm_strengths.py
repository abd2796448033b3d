"""Is a strength in vLLM the strength that it is here? First-token log-probabilities of a running server beside `ws`, at several names.

    python bench/vllm_strengths.py URL MODEL DIRECTIONS [NAME ...]

URL ends without /v1; MODEL and DIRECTIONS (the folder in WS_VLLM_DIR) are what that server runs. Each name is asked alone, and then all
of them at once; the server's own name of its model is the base too. Printed are the largest and the mean difference of the ten likeliest first tokens, in nats.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import httpx
import torch

from ws.direction import Direction
from ws.models.chat import Chat, encode, render
from ws.models.load import load
from ws.serve.strengths import named
from ws.steer import steer
from ws.vllm_plugin import combined, read

QUESTIONS = ("What is the capital of Kenya?", "How do tides work?", "Is it good to lie to a friend?")
NAMES = ("base", "a@0", "a@-1", "a@0.25", "a", "b@1", "a@0.5+b@-1")
TOP = 10


def asked(url: str, ids: Sequence[int], name: str) -> dict[int, float]:
    """The likeliest first tokens of a prompt of tokens, and their log-probabilities, as the server says."""
    body = {"model": name, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "logprobs": TOP}
    reply = httpx.post(f"{url}/v1/completions", json={**body, "return_tokens_as_token_ids": True}, timeout=300)
    if reply.status_code != 200:
        sys.exit(f"{name}: {reply.status_code} {reply.text[:300]}")
    (first,) = reply.json()["choices"][0]["logprobs"]["top_logprobs"]
    return {int(token.removeprefix("token_id:")): value for token, value in first.items()}


def main(url: str, model: str, directions: str, *names: str) -> None:
    base = load(model)
    prompts = [encode(base.tokenizer, render(base.tokenizer, Chat(q))) for q in QUESTIONS]
    asks = [(ids, name) for name in names or NAMES for ids in prompts]
    alone = [asked(url, ids, name) for ids, name in asks]
    with ThreadPoolExecutor(len(asks)) as pool:
        together = list(pool.map(lambda ask: asked(url, *ask), asks))
    print(f"{'name':<16} {'alone':>16} {'all at once':>16} {'from the base':>14}")
    for name in names or NAMES:
        at = [i for i, (_, n) in enumerate(asks) if n == name]
        parts = [(Path(directions) / n, alpha) for n, alpha in map(named, name.split("+"))]
        total = combined([(read(place)[1], alpha) for place, alpha in parts if place.is_dir()])
        change = Direction(
            {m: (type(f)(f.b.float(), f.a.float()),) for m, f in total.items()}, {"base": base.described()}
        )
        bare = [_chances(base, asks[i][0]) for i in at]
        with steer(base, change, 1.0) if total else nullcontext():
            ours = [_chances(base, asks[i][0]) for i in at]
        moved = torch.cat([(x - y)[x.topk(TOP).indices].abs() for x, y in zip(ours, bare)])
        print(
            f"{name:<16} {_apart(ours, [alone[i] for i in at])} {_apart(ours, [together[i] for i in at])} {moved.max():>14.2f}"
        )


@torch.inference_mode()
def _chances(base, ids):
    return base.model(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)


def _apart(ours, theirs) -> str:
    off = [abs(float(x[token]) - value) for x, reply in zip(ours, theirs) for token, value in reply.items()]
    return f"{max(off):>8.1e} {sum(off) / len(off):.1e}"


if __name__ == "__main__":
    main(*sys.argv[1:])
