"""What per-row strengths cost a server: 16 streams at strengths of their own, against the bare model, one at a time, and others.

    python bench/serve.py rate [--model smollm2] [--streams 16] [--tokens 48] [--runs 3] [--cache 256] [--transformers PYTHON]
    python bench/serve.py first [--prompt 512]      time to the first token, cold and at a second strength
    python bench/serve.py memory [--requests 1000]  beside the model, and over many requests
    python bench/serve.py bits [--batches 500]      base requests in random mixed batches, compared as float bits

Every server is a process of its own, asked over HTTP. Rates count its processor seconds, which other work on the machine
disturbs less than the clock on the wall; the sides take turns. `--transformers` is a Python in which `transformers
serve` runs (it needs fastapi); it serves the bare model, by continuous batching and without.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import torch
from side import arguments, human, in_turn, table

import ws
from ws.direction import Direction, save
from ws.direction.forms import LowRank
from ws.models.modules import weight_of

TOPICS = ("a river", "the sea", "a small town", "winter", "bread", "a bridge", "the moon", "an old clock")


def main() -> None:
    """Measure the parts that are named."""
    parts = {"rate": rate, "first": first, "memory": memory, "bits": bits}
    names = [a for a in sys.argv[1:] if a in parts] or list(parts)
    sys.argv[1:] = [a for a in sys.argv[1:] if a not in parts]
    chosen = arguments(
        __doc__,
        model="smollm2",
        streams=16,
        tokens=48,
        prompt=512,
        requests=1000,
        batches=500,
        cache=256,
        transformers="",
    )
    with tempfile.TemporaryDirectory(prefix="ws-bench-") as work:
        for name in names:
            parts[name](chosen, Path(work))


# ---------------------------------------------------------------- servers


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    url: str
    process: psutil.Process

    def post(self, body: Mapping[str, object]) -> dict:
        """The reply to a chat completion."""
        raw = json.dumps({"temperature": 0, **body}).encode()
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", raw, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as reply:
            return json.load(reply)

    @property
    def cpu(self) -> float:
        """Its processor seconds until now."""
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def memory(self) -> int:
        """What it holds, in bytes."""
        return self.process.memory_info().rss


@contextmanager
def ours(model: str, *words: str, threads: int = 1) -> Iterator[Server]:
    """`ws serve`."""
    command = [sys.executable, "-m", "ws", "serve", *words, "--model", model, "--port", "0", "--threads", str(threads)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        address = next(m[1] for line in lines if (m := re.search(r" at (http://\S+)/v1", line)))
        try:
            server = Server(address, psutil.Process(process.pid))
            wait(server)
            yield server
        finally:
            process.send_signal(signal.SIGINT)


@contextmanager
def transformers(python: str, folder: str, *words: str) -> Iterator[Server]:
    """`transformers serve` on the same weights, in float32, on one thread."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [python, "-m", "transformers.cli.transformers", "serve", folder, "--port", str(port)]
    command += ["--dtype", "float32", "--device", "cpu", *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet) as process:
        try:
            server = Server(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
            wait(server)
            yield server
        finally:
            process.kill()


def wait(server: Server) -> None:
    """Until it answers."""
    for _ in range(1200):
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    raise SystemExit("the server does not come up")


def direction_file(chosen: Namespace, work: Path) -> Path:
    """A direction of combined rank 2r on every linear layer, of no meaning, and small enough that texts stay texts."""
    base = ws.load(chosen.model)
    forms = {}
    for name, layer in base.linears.items():
        o, i = weight_of(layer.module).shape
        g = torch.Generator().manual_seed(len(forms))
        forms[name] = (
            LowRank(
                0.01 * torch.randn(o, 2 * chosen.rank, generator=g), torch.randn(2 * chosen.rank, i, generator=g) / i
            ),
        )
    return save(
        Direction(forms, {"base": base.described(), "training": {"behavior": "noise"}}), work / "noise.safetensors"
    )


# ---------------------------------------------------------------- tokens per second


def rate(chosen: Namespace, work: Path) -> None:
    """Many streams, each with its own strength, against the bare model, one at a time, and `transformers serve`."""
    file, n = direction_file(chosen, work), chosen.streams
    alphas = [round(2 * i / (n - 1) - 1, 3) or 0.05 for i in range(n)]

    def tokens_per_second(server: Server, names: Sequence[str], together: int) -> float:
        def ask(i: int) -> int:
            topic = TOPICS[i % len(TOPICS)]
            messages = [{"role": "user", "content": f"Write a long story about {topic}, part {i}."}]
            body = {"model": names[i], "messages": messages, "max_tokens": chosen.tokens}
            return server.post(body)["usage"]["completion_tokens"]

        before = server.cpu
        with ThreadPoolExecutor(together) as pool:
            tokens = sum(pool.map(ask, range(len(names))))
        return tokens / (server.cpu - before)

    # by default room for the prompts of all sides, so that writing is measured and not reading
    with ours(chosen.model, str(file), "--cache-mb", str(chosen.cache), threads=chosen.threads) as server:
        speeds = in_turn(
            {
                "strengths": lambda: tokens_per_second(server, [f"noise@{a}" for a in alphas], n),
                "bare": lambda: tokens_per_second(server, ["base"] * n, n),
                "alone": lambda: tokens_per_second(server, [f"noise@{a}" for a in alphas[:4]], 1),
            },
            chosen.runs,
        )
    rows = [_row(f"{n} strengths, against the bare model", speeds["strengths"], speeds["bare"], 0.85)]
    rows += [_row(f"{n} strengths, against one at a time", speeds["strengths"], speeds["alone"], 3.0)]
    title = f"Tokens per processor second, {chosen.model}, {chosen.tokens} tokens a stream"
    table(f"{title}, rank {2 * chosen.rank}", rows)
    if chosen.transformers:
        folder = str(ws.load(chosen.model).model.config._name_or_path)
        for how in ("--no-continuous-batching", "--continuous-batching"):
            with transformers(chosen.transformers, folder, how) as server:
                tokens_per_second(server, [folder] * 2, 2)
                other = median(tokens_per_second(server, [folder] * n, n) for _ in range(max(1, chosen.runs - 1)))
            what = f"{n} strengths, against `transformers serve {how}`, bare"
            table(title, [_row(what, speeds["strengths"], other, 1.0)])


def _row(what: str, ours: float, other: float, target: float) -> tuple[str, str, str, float, str, bool]:
    return what, f"{ours:.1f}", f"{other:.1f}", ours / other, f"at least {target:g}x", ours / other >= target


# ---------------------------------------------------------------- the first token


def first(chosen: Namespace, work: Path) -> None:
    """One token after a long prompt: read anew, and after it was read at another strength in answer-only mode."""
    file = direction_file(chosen, work)
    cold, warm, clock = [], [], []
    with ours(chosen.model, str(file), threads=chosen.threads) as server:

        def one(text: str, alpha: float) -> float:
            messages = [{"role": "user", "content": text}]
            before = server.cpu
            body = {"model": f"noise@{alpha}", "steer_from": "answer", "max_tokens": 1, "messages": messages}
            start = time.perf_counter()
            length = server.post(body)["usage"]["prompt_tokens"]
            clock.append(time.perf_counter() - start)
            assert length >= chosen.prompt, length
            return server.cpu - before

        for turn in range(chosen.runs + 1):
            text = f"Turn {turn}. " + f"{TOPICS[turn % len(TOPICS)]} and the road. " * (chosen.prompt // 4)
            found = one(text, 0.5), one(text, -0.5)
            if turn:
                cold.append(found[0]), warm.append(found[1])
    a, b = median(warm), median(cold)
    rows = [("second strength, prompt known", human(a, "s"), human(b, "s"), a / b, "at most 0.25x", a / b <= 0.25)]
    table(f"Processor seconds to the first token, {chosen.prompt} tokens of prompt, {chosen.model}, ours is warm", rows)


# ---------------------------------------------------------------- memory


def memory(chosen: Namespace, work: Path) -> None:
    """What a server holds beside a process that only loads the model, and how that grows over many requests."""
    code = "import sys, ws, psutil; b = ws.load(sys.argv[1]); print(psutil.Process().memory_info().rss)"
    done = subprocess.run([sys.executable, "-c", code, chosen.model], capture_output=True, text=True, check=True)
    alone = int(done.stdout)
    file = direction_file(chosen, work)
    held: list[int] = []
    with ours(chosen.model, str(file), "--cache-mb", "16") as server:
        idle = server.memory - file.stat().st_size
        draw = random.Random(0)

        def ask(i: int) -> bool:
            messages = [{"role": "user", "content": f"{draw.choice(TOPICS)} {i}"}]
            name = draw.choice(["base", f"noise@{draw.uniform(-1, 1):.2f}"])
            reply = server.post({"model": name, "messages": messages, "max_tokens": 3})
            return bool(reply["choices"][0]["finish_reason"])

        answered = 0
        with ThreadPoolExecutor(8) as pool:
            for tenth in range(10):
                span = range(tenth * chosen.requests // 10, (tenth + 1) * chosen.requests // 10)
                answered += sum(pool.map(ask, span))
                held.append(server.memory)
    beside, grown = idle - alone, held[-1] - held[2]
    rows = [
        (
            "idle, beside the model",
            human(idle, "B"),
            human(alone, "B"),
            beside / 150e6,
            "at most 150 MB",
            beside <= 150e6,
        )
    ]
    what = f"{answered} of {chosen.requests} requests: from the third tenth to the last"
    rows += [(what, human(held[-1], "B"), human(held[2], "B"), held[-1] / held[2], "no growth", grown < 8e6)]
    table(f"Memory, {chosen.model}; the direction's own {human(file.stat().st_size, 'B')} left out", rows)
    print("\nheld after each tenth:", ", ".join(human(h, "B") for h in held))


# ---------------------------------------------------------------- bits


def bits(chosen: Namespace, work: Path) -> None:
    """Base requests in random mixed batches on `tiny`, each compared with itself alone as float bits."""
    from ws.generate import Sampling
    from ws.models.chat import Chat, encode, render
    from ws.serve.batch import Ask, Batch
    from ws.serve.reading import Pieces
    from ws.serve.strengths import dials_of

    chosen.model = "tiny"
    tiny, draw = ws.load("tiny"), random.Random(0)
    direction = ws.load_direction(direction_file(chosen, work)) * 30.0
    dials = dials_of("tiny", [("one", direction), ("two", direction * -0.5)], 4.0)
    turn = ("What color is snow?", "Snow is white.")
    chats = [Chat("What is the capital of Kenya?", None, (turn,) * n) for n in (0, 1, 4, 9, 16)]
    prompts = [tuple(encode(tiny.tokenizer, render(tiny.tokenizer, chat))) for chat in chats]

    def ask(ids: tuple[int, ...], strengths: tuple = (), **more: object) -> Ask:
        options = {"sampling": Sampling(), "max_new": draw.randrange(1, 6) if strengths else 4, "seed": 0, **more}
        return Ask(ids, strengths, name="", logprobs=3, ignore_eos=True, **options)

    def run(batch: Batch, asks: Sequence[Ask], together: bool) -> dict[Ask, list]:
        written: dict[Ask, list] = {a: [] for a in asks}
        todo = list(asks)
        while todo or batch:
            for _ in range(len(todo) if together else draw.randrange(4)):
                if todo:
                    batch.add(todo.pop(0))
            for w in batch.step():
                written[w.ask].append((w.token, w.chance, w.top))
        return written

    alone = {}
    for ids in prompts:
        one = ask(ids)
        alone[ids] = run(Batch(tiny, dials, rows=16, pieces=Pieces(0)), [one], True)[one]
    batch = Batch(tiny, dials, rows=16, pieces=Pieces(8_000_000))
    compared = different = 0
    for _ in range(chosen.batches):
        asks = []
        for _ in range(draw.randrange(2, 12)):
            names = draw.sample(["one", "two"], draw.choice([0, 0, 1, 2]))
            strengths = tuple(sorted((n, draw.uniform(-4, 4)) for n in names))
            more = {
                "answer_only": draw.random() < 0.3,
                "kl": draw.random() < 0.1,
                "sampling": Sampling(draw.choice([0, 1])),
            }
            asks.append(ask(draw.choice(prompts), strengths, **(more if strengths else {})))
        for a, written in run(batch, asks, False).items():
            if not a.strengths:
                compared += 1
                different += written != alone[a.ids]
    print(
        f"\n{compared} base requests in {chosen.batches} random mixed batches: {different} differ from themselves alone"
    )


if __name__ == "__main__":
    main()
