"""`ws data` killed again and again at random moments, beside the same command left alone.

    python bench/killed.py [--model smollm2] [--behavior pirate] [--kills 10] [--questions 48] [--cap 24] [--seed 0]

Each try is a process of its own, killed (SIGKILL) at a random moment after it has begun to answer; the last one may end.
Then the pairs must be the file that the undisturbed command wrote, byte for byte, and what was begun must be every answer
once, and again only those that were in flight at a kill. Prints a line per kill; exit 1 where either does not hold.
"""

import argparse
import importlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHILD = "--child"
LONGEST = 0.5  # of the undisturbed time: a kill comes at most so long after the first request


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--behavior", default="pirate")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--cap", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    if sys.argv[1:2] == [CHILD]:  # what follows is the command's, and not ours
        return watched(Path(sys.argv[2]), sys.argv[3:])
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder, "alone"), Path(folder, "killed")
        start = time.monotonic()
        process = begin(options, alone)
        first = first_request(process, alone)
        assert process.wait() == 0, "the undisturbed command failed"
        took, total = time.monotonic() - first, sum(begun(alone))
        print(f"undisturbed: {total} answers in {took:.0f} s, {first - start:.0f} s of loading before")
        lost = 0
        for kill in range(options.kills):
            before, entered = kept(killed), sum(begun(killed))
            process = begin(options, killed)
            start = first_request(process, killed)
            moment = chance.uniform(0, LONGEST * took)
            time.sleep(max(0.0, start + moment - time.monotonic()))
            if process.poll() is not None:
                print(f"finished before kill {kill + 1}")
                break
            process.kill()
            process.wait()
            new, tried = kept(killed) - before, sum(begun(killed)) - entered
            lost += tried - new
            print(
                f"kill {kill + 1}, {moment:4.1f} s in: {tried} begun, {new} kept, {tried - new} in flight", flush=True
            )
        assert begin(options, killed).wait() == 0, "the command that was killed did not end"
        files = [next(out.glob("data/*/*/*/pairs.jsonl")).read_bytes() for out in (alone, killed)]
        same, count = files[0] == files[1], sum(begun(killed))
        print(
            f"pairs {'are the same bytes' if same else 'DIFFER'}; {count} begun = {total} answers + {lost} in flight at kills"
        )
        return 0 if same and count == total + lost else 1


def begin(options: argparse.Namespace, out: Path) -> subprocess.Popen:
    """The command in a process of its own, which logs what it begins."""
    out.mkdir(exist_ok=True)
    words = ["data", "--model", options.model, "--behavior", options.behavior, "--out", out, "--threads", 1]
    words += ["--n-topics", options.questions, "--n-personas", 2, "--n-samples", 1, "--max-new-tokens", options.cap]
    command = [sys.executable, __file__, CHILD, out / "begun.log", *words]
    return subprocess.Popen([str(w) for w in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def watched(log: Path, command: list[str]) -> int:
    """`ws data`, and a line in the log for the requests that enter a batch."""
    from ws.cli import main as shell
    from ws.slots import Slots

    class Logged(Slots):
        def enter(self, prompts, alphas):
            with open(log, "a") as f:
                f.write(f"{os.getpid()} {len(prompts)}\n")
            super().enter(prompts, alphas)

    writing: Any = importlib.import_module("ws.generate")  # `ws.generate` itself is the verb
    writing.Slots = Logged
    return shell(command)


def begun(out: Path) -> list[int]:
    """How many requests entered, each time some did."""
    log = out / "begun.log"
    return [int(line.split()[1]) for line in log.read_text().splitlines()] if log.is_file() else []


def first_request(process: subprocess.Popen, out: Path) -> float:
    """The moment at which this process begins its first requests."""
    log, name = out / "begun.log", f"{process.pid} "
    while not (log.is_file() and any(line.startswith(name) for line in log.read_text().splitlines())):
        assert process.poll() is None, "it ended before it began to answer"
        time.sleep(0.02)
    return time.monotonic()


def kept(out: Path) -> int:
    """Answers in the store of a command that has not ended; a line that a kill cut off is none."""
    files = list(out.glob("data/*/*/.*.part/resume/answers.jsonl"))
    return sum(file.read_bytes().count(b"\n") - 1 for file in files)


if __name__ == "__main__":
    sys.exit(main())
