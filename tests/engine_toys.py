"""Tasks for the tests of the engine: they answer, fail, warn, sleep and die on request."""

import logging
import os
import signal
import time
from pathlib import Path

from ws.engine import note


def double(given):
    return {"twice": 2 * given["x"], "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}


def refuse(given):
    raise ValueError("the number 3 is not allowed; take another")


def unspeakable(given):
    return {"a": object()}


def break_down(given):
    print("a line on stdout")
    raise RuntimeError("something\nbroke")


def die(given):
    """Killed on the first so many tries, counted in a file."""
    marks = Path(given["marks"])
    with open(marks, "a") as f:
        f.write("x")
    if len(marks.read_text()) <= given["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"tries": len(marks.read_text())}


def leave(given):
    os._exit(3)


def sleep(given):
    note({"doing": "sleeping"})
    Path(given["marks"]).write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        Path(given["marks"]).write_text("interrupted")
        raise


def warn(given):
    logging.getLogger("ws.toys").warning("this was made again")
    return {}


def hog(given):
    """Waits to be killed; each try is a mark in a file."""
    with open(given["marks"], "a") as f:
        f.write("x")
    time.sleep(60)


class AcceleratorError(RuntimeError):
    """torch's, by its name."""


def spoil(given):
    try:
        raise AcceleratorError("CUDA error: device-side assert triggered")
    except AcceleratorError as e:
        raise ValueError("the step failed") from e


def run_short(given):
    raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")


def visible(given):
    return {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid()}
