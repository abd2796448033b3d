"""A worker process: `python -m ws.engine.worker FOLDER`. Tasks come as lines of JSON, answers go back the same way.

It lives as long as there is work, so that libraries and models are loaded once; after an error that no process gets over
(a broken CUDA context) another one takes its place. It ends with the process that started
it: when its input closes, nobody is left to answer to, and whatever it was making is resumable.
"""

import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterable
from typing import TextIO

from ws.engine.work import Order, Report, work

SPOILED_CODE = 3


def main(folder: str) -> int:
    """Do tasks until there are no more."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a child of a background job inherits an ignored one
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("ws").setLevel(logging.INFO)
    tasks: queue.Queue[Order | None] = queue.Queue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin, tasks, busy), daemon=True).start()
    try:
        while (task := tasks.get()) is not None:
            answer = work(task, folder)
            busy.clear()
            _send(answers, answer)
            if answer["last"]:
                return SPOILED_CODE
    except KeyboardInterrupt:
        return 130
    return 0


def _listen(lines: Iterable[str], tasks: "queue.Queue[Order | None]", busy: threading.Event) -> None:
    for line in lines:
        busy.set()
        tasks.put(json.loads(line))
    if busy.is_set():
        os._exit(1)
    tasks.put(None)


def _send(to: TextIO, answer: Report) -> None:
    to.write(json.dumps(answer) + "\n")
    to.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
