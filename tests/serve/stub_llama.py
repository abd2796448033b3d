"""A stand-in for `llama-server`: its options, its addresses, its scales per request, and its memory of prompts that knows no scales.

It is run as a program with llama-server's options, or within a test as `Stub(key).start()`. Its model is a table: the logits of
a question, and how far each adapter moves them.
"""

import http.server
import json
import math
import os
import random
import sys
import threading
from pathlib import Path

WORDS = [f" word{i}" for i in range(24)]


class Stub(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, key, adapters=2, port=0, forgetful=True):
        super().__init__(("127.0.0.1", port), Handler)
        self.key, self.adapters, self.forgetful = key, adapters, forgetful
        self.bodies, self.read, self.gate = [], {}, threading.Event()
        self.gate.set()

    @property
    def port(self):
        return self.server_address[1]

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def logprobs(self, prompt, scales, position):
        """The log-probability of every word at a place of an answer."""
        draw = random.Random(f"{prompt}/{position}")
        logits = [draw.gauss(0, 1) for _ in WORDS]
        for number, scale in enumerate(scales):
            moves = random.Random(f"{prompt}/{position}/{number}")
            logits = [x + scale * moves.gauss(0, 1) for x in logits]
        total = math.log(sum(map(math.exp, logits)))
        return dict(zip(WORDS, (x - total for x in logits)))

    def scales(self, body, prompt):
        """Those of the request; or, as llama.cpp's #26207 has it, those at which a remembered prompt was read."""
        own = {entry["id"]: entry["scale"] for entry in body.get("lora", [])}
        now = [own.get(number, 0.0) for number in range(self.adapters)]
        if self.forgetful and body.get("cache_prompt", True):
            return self.read.setdefault(prompt, now)
        return now


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def say(self, status, content):
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self):
        listing = {"data": [{"id": "/secret/model.gguf"}]} if self.path == "/v1/models" else {"status": "ok"}
        self.say(200, listing)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self.say(401, {"error": {"message": "Invalid API Key"}})
        self.server.bodies.append(body)
        self.server.gate.wait(30)
        prompt = json.dumps(body.get("messages") or body.get("prompt"))
        if "refuse" in prompt:
            return self.say(400, {"error": {"message": "the template\n refuses this"}})
        if "fail" in prompt:
            return self.say(500, {"error": {"message": "it failed"}})
        scales, entries = self.server.scales(body, prompt), []
        for position in range(body["max_tokens"]):
            found = sorted(self.server.logprobs(prompt, scales, position).items(), key=lambda x: -x[1])
            top = [{"token": t, "logprob": p} for t, p in found[:20]]
            entries.append({**top[0], "top_logprobs": top})
        if body.get("stream"):
            return self.stream(entries, whole="vanish" not in prompt)
        text, usage = "".join(e["token"] for e in entries), {"completion_tokens": len(entries)}
        choice = {"message": {"role": "assistant", "content": text}, "text": text, "logprobs": {"content": entries}}
        self.say(
            200, {"choices": [{**choice, "finish_reason": "length"}], "model": "/secret/model.gguf", "usage": usage}
        )

    def stream(self, entries, *, whole):
        self.send_response(200)
        self.end_headers()
        for e in entries:
            chunk = {"choices": [{"delta": {"content": e["token"]}}], "model": "/secret/model.gguf"}
            raw = f"data: {json.dumps(chunk)}\n\n".encode()
            for half in (raw[:30], raw[30:]):  # an event may come in pieces
                self.wfile.write(half)
                self.wfile.flush()
        if whole:
            self.wfile.write(b"data: [DONE]\n\n")


if __name__ == "__main__":
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    if "broken" in sys.argv[2]:
        sys.exit("llama_model_load: error loading model: it is broken\nexiting")
    files = [b for a, b in zip(sys.argv, sys.argv[1:]) if a == "--lora"]
    assert all(Path(file).read_bytes()[:4] == b"GGUF" for file in files)
    Stub(os.environ["LLAMA_API_KEY"], len(files), int(sys.argv[sys.argv.index("--port") + 1])).serve_forever()
