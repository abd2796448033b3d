"""A small server of the OpenAI chat API, which fails as a test asks it to."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ws.endpoint import Endpoint


class Server:
    """A small server of the OpenAI chat API; `bad` says what happens to a request instead, by its number."""

    def __init__(self):
        self.requests: list[dict] = []
        self.heads: list[dict] = []
        self.bad = lambda number, sent: None
        self.most = 99
        self.slow = lambda sent: 0.0
        self.models = ["org/served-model"]
        self.listing = None  # what it says instead of its models
        self.now = self.peak = 0
        self.lock = threading.Lock()

    def answer(self, sent: dict, at: int) -> dict:
        mark = hashlib.sha256(json.dumps([sent["messages"], sent["seed"], at]).encode()).hexdigest()[:8]
        told = f"Answer {mark} to {sent['messages'][-1]['content']}  "
        return {"index": at, "message": {"role": "assistant", "content": told}, "finish_reason": "stop"}

    def reply(self, sent: dict) -> dict:
        n = min(sent["n"], self.most)
        choices = [self.answer(sent, at) for at in reversed(range(n))]
        return {"model": sent["model"], "system_fingerprint": "stub-1", "choices": choices}

    @contextmanager
    def running(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def say(self, code: int, body: bytes, **head: str):
                self.send_response(code)
                for k, v in {"Content-Length": str(len(body)), **head}.items():
                    self.send_header(k.replace("_", "-"), v)
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                code, body = outer.listing or (200, json.dumps({"data": [{"id": m} for m in outer.models]}).encode())
                self.say(code, body)

            def do_POST(self):
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(sent)
                    outer.heads.append(dict(self.headers))
                    number = len(outer.requests)
                    outer.now += 1
                    outer.peak = max(outer.peak, outer.now)
                try:
                    time.sleep(outer.slow(sent))
                    with outer.lock:  # before the reply: the client may ask again as soon as it has it
                        outer.now -= 1
                    bad = outer.bad(number, sent)
                    if callable(bad):
                        bad(self.wfile)
                        return
                    code, body, head = (200, json.dumps(outer.reply(sent)).encode(), {}) if bad is None else bad
                    self.say(code, body, **head)
                except BrokenPipeError:
                    pass

        httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=httpd.serve_forever, daemon=True, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Endpoint(f"http://127.0.0.1:{httpd.server_port}/v1", wait=0.01)
        finally:
            httpd.shutdown()
            httpd.server_close()


def error(code: int, message: str = "", **head: str):
    return code, json.dumps({"error": {"message": message}}).encode(), head
