"""Tasks one after the other, in this process: what an engine does with several workers.

A task is the name of a function and JSON for it, so that any process can do it. One that fails does not stop the others;
what needs it is skipped, and both are told with a sentence.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ws.errors import WsError


@dataclass(frozen=True)
class Task:
    """One piece of work: a function by name, and the JSON it is called with."""

    name: str
    call: str
    """`package.module:function`; it takes one mapping."""
    given: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Names of the tasks that must be done before."""


Ended = Callable[[Task, str], None]
"""(task, why it failed or nothing) when a task has ended."""
Runner = Callable[[Sequence[Task], Ended], dict[str, str]]
"""Does tasks, in an order that their needs allow; name to why it failed, of those that did."""


def serially(tasks: Sequence[Task], ended: Ended = lambda task, why: None) -> dict[str, str]:
    """Do the tasks in their order, in this process."""
    failed: dict[str, str] = {}
    for task in tasks:
        if lacking := [n for n in task.needs if n in failed]:
            failed[task.name] = f"it needs {lacking[0]}, which failed"
        else:
            module, _, function = task.call.partition(":")
            try:
                getattr(importlib.import_module(module), function)(task.given)
            except Exception as e:  # one cell that breaks, however, is a row that says so and no end of the others
                failed[task.name] = sentence(e)
        ended(task, failed.get(task.name, ""))
    return failed


def sentence(error: BaseException) -> str:
    """An error as one line: our own say what to do, others are named by their kind."""
    text = " ".join(str(error).split())
    return text[:500] if isinstance(error, (WsError, ValueError)) and text else f"{type(error).__name__}: {text[:300]}"
