"""llama.cpp as a process beside this one: a GGUF model, and adapters that each of its requests scales.

It is the program `llama-server` where one is on the PATH, else the package `xllamacpp`, which brings the same server. It
listens on this machine alone, at a port and with a key that nobody else knows.
"""

import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ws.errors import Unsupported
from ws.types import Json

PROGRAM, PACKAGE = "llama-server", "xllamacpp"
KEY = "LLAMA_API_KEY"
"""Where `llama-server` looks for its key; an option would be shown by every list of processes."""
PATIENCE, POLL = 600.0, 0.1
"""Seconds that a model may take to be read, and between two looks."""
GRACE = 10
"""Seconds that it has to end."""


@dataclass(frozen=True)
class LlamaCpp:
    """A server of llama.cpp that is up."""

    port: int
    key: str = field(repr=False)


@contextmanager
def llama_cpp(model: Path, adapters: Sequence[Path], *, rows: int, threads: int) -> Iterator[LlamaCpp]:
    """llama.cpp with a model and adapters, up within the block and gone after it."""
    server = LlamaCpp(_free_port(), secrets.token_urlsafe(24))
    command = command_of(model, adapters, server.port, rows=rows, threads=threads)
    with tempfile.TemporaryFile() as log:
        environment = {**os.environ, KEY: server.key}
        # a session of its own: Ctrl-C in the terminal is for us, and answers under way are finished
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            _wait(process, server.port)
            yield server
        except _Ended:
            log.seek(0)
            why = _ending(process.wait(), log.read().decode("utf-8", "replace").splitlines())
            raise Unsupported(f"llama.cpp does not run {model.name}: {why}") from None
        finally:
            _end(process)


def command_of(model: Path, adapters: Sequence[Path], port: int, *, rows: int, threads: int) -> list[str]:
    """The command that starts it, with whatever of llama.cpp is here."""
    if (program := shutil.which(PROGRAM)) is not None:
        # one memory for all rows, as long as the model's own context
        options = [
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--parallel",
            str(rows),
            "--kv-unified",
            "--ctx-size",
            "0",
        ]
        loras = [text for file in adapters for text in ("--lora", str(file))]
        return [program, "--model", str(model), *options, "--threads", str(threads), *loras]
    if importlib.util.find_spec(PACKAGE) is not None:
        settings: Json = {"model": str(model), "adapters": list(map(str, adapters)), "port": port}
        settings |= {"rows": rows, "threads": threads}
        return [sys.executable, str(Path(__file__).with_name("run_xllamacpp.py")), json.dumps(settings)]
    raise Unsupported(f"llama.cpp is not here: put its {PROGRAM} on the PATH, or `pip install {PACKAGE}`")


class _Ended(Exception):
    """The process is no more."""


def _wait(process: subprocess.Popen, port: int) -> None:
    """Until it has read its model."""
    until = time.monotonic() + PATIENCE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < until:
        if process.poll() is not None:
            raise _Ended
        try:
            with opener.open(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (OSError, urllib.error.URLError):  # not yet
            time.sleep(POLL)
    raise Unsupported(f"llama.cpp was not up after {PATIENCE:g} s")


def _ending(code: int, lines: Sequence[str]) -> str:
    """Why it ended: its own words where they name an error, else how."""
    words = [line.strip() for line in lines if line.strip()]
    errors = [line for line in words if "error" in line.lower() or "failed" in line.lower()]
    if errors:
        return errors[-1][:240]
    if code < 0:
        other = ": that build is for another processor" if -code == signal.SIGILL else ""
        return f"it was ended by {signal.Signals(-code).name}{other}"
    return f"it ended with code {code}" + (f", and last said: {words[-1][:200]}" if words else "")


def _end(process: subprocess.Popen) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])
