"""Doing one task in this process: its output goes to its log, its end is a sentence."""

import importlib
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict

from ws.engine import state as current_state
from ws.engine.graph import Outcome, Task
from ws.engine.state import Writer
from ws.errors import WsError
from ws.types import Json

SPOILED = re.compile(r"(CUDA|HIP) error")


class Order(TypedDict):
    """A task as a worker is sent it."""

    name: str
    call: str
    given: Json
    file: str


class Report(TypedDict):
    """The end of a task as a worker answers it."""

    state: str
    value: Any
    """JSON, where the task is done."""
    error: str
    seconds: float
    warnings: list[str]
    last: bool
    """True where this process can do no other task."""


def order_of(task: Task) -> Order:
    """A task as the JSON that a worker is sent."""
    return {"name": task.name, "call": task.call, "given": dict(task.given), "file": task.file}


def work(task: Order, folder: str) -> Report:
    """Do a task; how it ended, as JSON. Only an interruption leaves as an exception.

    `last` says that this process can do no other task.
    """
    start, last = time.perf_counter(), False
    writer = Writer(Path(folder) / "tasks" / f"{task['file']}.json", task["name"])
    with _warnings() as warnings:
        current_state.current = writer
        try:
            with _output_to(Path(folder) / "logs" / f"{task['file']}.log"):
                value = _done(task)
            state, error = "done", ""
        except Exception as e:  # any error is this task's own end, and no other's
            state, value, error, last = "failed", None, sentence(e), spoils(e)
        except KeyboardInterrupt:
            writer.change("stopped")
            raise
        finally:
            current_state.current = None
    writer.change(state, error=error)
    seconds = round(time.perf_counter() - start, 3)
    return Report(state=state, value=value, error=error, seconds=seconds, warnings=warnings, last=last)


def spoils(error: BaseException) -> bool:
    """True for an error after which no task can succeed in this process: the first real error breaks a CUDA context for good.

    Memory that ran out is none, and is free again when the task is over.
    """
    cause: BaseException | None = error
    while cause is not None:
        kinds = {c.__name__ for c in type(cause).__mro__}
        if ("AcceleratorError" in kinds or SPOILED.search(str(cause))) and "out of memory" not in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _done(task: Order) -> object:
    """The answer of the task's function; an error leaves its traceback in the log."""
    try:
        value = function_of(task["call"])(task["given"])
        json.dumps(value)  # an answer that cannot be sent is the task's error, and not its worker's death
        return value
    except Exception:
        traceback.print_exc()
        raise


def outcome(task: Task, ended: Report, folder: Path) -> Outcome:
    """The outcome of a task, from a worker's answer."""
    return Outcome(
        task,
        ended["state"],
        value=ended["value"],
        error=ended["error"],
        log=folder / "logs" / f"{task.file}.log",
        seconds=ended["seconds"],
        warnings=tuple(ended["warnings"]),
    )


def sentence(error: BaseException) -> str:
    """An error as one line: our own say what to do, others are named by their kind."""
    text = " ".join(str(error).split())
    return text[:500] if isinstance(error, (WsError, ValueError)) and text else f"{type(error).__name__}: {text[:300]}"


def function_of(call: str) -> Callable[[Mapping[str, Any]], Any]:
    """The function that `package.module:function` names."""
    module, _, name = call.partition(":")
    return getattr(importlib.import_module(module), name)


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """All that this process prints, also from libraries in C, goes to the end of a file meanwhile."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # a full disk takes no more lines
                stream.flush()
        for number, old in zip((1, 2), before):
            os.dup2(old, number)
            os.close(old)
        os.close(log)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Our own warnings, which a person should read and not only a log."""
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(" ".join(record.getMessage().split()))

    collect, ours = Collect(logging.WARNING), logging.getLogger("ws")
    ours.addHandler(collect)
    try:
        yield messages
    finally:
        ours.removeHandler(collect)
