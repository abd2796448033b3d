"""The hub is asked once, before anything is fetched: a mistyped name costs seconds and one sentence."""

import json
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

import ws
from ws import hub
from ws.cli import main
from ws.diff import lookup
from ws.errors import BadFile
from ws.hub import reach
from ws.models.tiny import FOLDER
from ws.sources import from_hub


class Stub:
    """A hub on this machine that gives one answer to everything, and remembers what it was asked."""

    def __init__(self):
        self.status, self.headers, self.wait = 200, {}, 0.0
        self.asked: list[str] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if "me/model" in self.path:  # the client asks things of its own too, once a process
                    stub.asked.append(f"{self.command} {self.path}")
                time.sleep(stub.wait)
                self.send_response(stub.status)
                for name, value in stub.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(json.dumps({"id": "me/model"}).encode())

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # whoever asks may not wait for the answer
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def stub(monkeypatch, tmp_path) -> Iterator[Stub]:
    """The hub's client, asking the stub, with an empty cache."""
    stub = Stub()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", stub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "SECONDS", 1.0)
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


def test_a_repository_that_is_there_is_asked_for_once(stub):
    assert reach("me/model", instead="give a folder")
    assert stub.asked == ["GET /api/models/me/model"]


@pytest.mark.parametrize(
    "use",
    [
        lambda name: ws.load(name),
        lambda name: ws.open_checkpoint(name),
        lambda name: ws.load(f"{name}/some.gguf"),
        lambda name: from_hub(name, "config", "test", ()),
        lambda name: lookup(name),
    ],
    ids=["load", "open", "gguf", "data set", "direction"],
)
@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, "the hub has none of this name"),
        (401, {"X-Error-Code": "GatedRepo"}, "the hub has none of this name"),
        (503, {}, "it answers 503"),
    ],
)
def test_a_name_that_the_hub_does_not_give_is_one_question_and_one_sentence(stub, caplog, use, status, headers, words):
    stub.status, stub.headers = status, headers
    with caplog.at_level(logging.INFO), pytest.raises(BadFile, match=words) as error:
        use("me/model")
    assert len(stub.asked) == 1, stub.asked
    assert "\n" not in str(error.value) and "me/model" in str(error.value) and "Check the name" in str(error.value)
    assert not [r for r in caplog.records if r.name.startswith(("huggingface_hub", "transformers"))]


def test_a_hub_that_says_nothing_is_not_waited_for(stub, monkeypatch):
    monkeypatch.setattr(hub, "SECONDS", 0.2)
    stub.wait = 2.0
    with pytest.raises(BadFile, match=r"cannot be reached \((ReadTimeout|no answer)"):
        ws.load("me/model")


def test_nobody_at_the_address_is_one_sentence(stub, capfd):
    stub.server.shutdown()
    stub.server.server_close()
    assert main(["generate", "--prompt", "Hi", "--model", "me/model"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1, err
    assert "me/model" in err and "the hub cannot be reached (ConnectError)" in err


@pytest.fixture
def cached(stub, tmp_path) -> Path:
    """`me/model` in the cache: the files of `tiny`, as the hub's client keeps them."""
    commit = "0" * 40
    folder = tmp_path / "cache" / "models--me--model"
    shutil.copytree(FOLDER, folder / "snapshots" / commit, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    return folder


def test_what_is_in_the_cache_is_loaded_from_there_when_the_hub_is_away(stub, cached, tiny):
    stub.status = 503
    base = ws.load("me/model")
    assert base.fingerprint == tiny.fingerprint and base.revision == "0" * 40
    assert len(stub.asked) == 1, stub.asked
    shutil.rmtree(cached)
    with pytest.raises(BadFile, match="not in the local cache"):
        ws.load("me/model")


def test_offline_nothing_is_asked(stub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadFile, match="HF_HUB_OFFLINE is set"):
        ws.load("me/model")
    assert stub.asked == []
