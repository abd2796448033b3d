"""`ws data` killed again and again at random moments, beside the same command left alone.

    python bench/killed.py [--model smollm2] [--behavior pirate] [--kills 10] [--questions 24] [--cap 8] [--seats 16] [--seed 0]

Each try is a process of its own, killed (SIGKILL) at a random step of its answers; the last one may end. `--seats` is how many
are written side by side: fewer than usual, so that few answers are several batches.
Then the pairs must be the file that the undisturbed command wrote, byte for byte, and what was begun must be every answer
once, and again only those that were in flight at a kill. Prints a line per kill; exit 1 where either does not hold.
"""

import argparse
import importlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHILD = "--child"
LATEST = 0.25  # of the steps of the undisturbed command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--behavior", default="pirate")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--cap", type=int, default=8)
    parser.add_argument("--seats", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    if sys.argv[1:2] == [CHILD]:  # what follows is the command's, and not ours
        return watched(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder, "alone"), Path(folder, "killed")
        assert begin(options, alone).wait() == 0, "the undisturbed command failed"
        total, steps = sum(begun(alone)), len(begun(alone))
        print(f"undisturbed: {total} answers in {steps} steps, {options.seats} side by side")
        lost = 0
        for kill in range(options.kills):
            before, entered, seen = kept(killed), sum(begun(killed)), len(begun(killed))
            process = begin(options, killed)
            moment = seen + chance.randint(1, round(LATEST * steps))
            while len(begun(killed)) < moment and process.poll() is None:
                time.sleep(0.02)
            if process.poll() is not None:
                print(f"finished before kill {kill + 1}")
                break
            process.kill()
            process.wait()
            log = begun(killed)
            new, tried = kept(killed) - before, sum(log) - entered
            lost += tried - new
            print(
                f"kill {kill + 1}, step {len(log) - seen}: {tried} begun, {new} kept, {tried - new} in flight",
                flush=True,
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
    command = [sys.executable, __file__, CHILD, out / "begun.log", options.seats, *words]
    return subprocess.Popen([str(w) for w in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def watched(log: Path, seats: int, command: list[str]) -> int:
    """`ws data`, and a line in the log for every step and for the requests that enter a batch."""
    from ws.cli import main as shell
    from ws.slots import Slots

    def note(count: int) -> None:
        with open(log, "a") as f:
            f.write(f"{count}\n")

    class Logged(Slots):
        def enter(self, prompts, alphas):
            note(len(prompts))
            super().enter(prompts, alphas)

        def go(self, tokens):
            note(0)
            return super().go(tokens)

    writing: Any = importlib.import_module("ws.generate")  # `ws.generate` itself is the verb
    writing.Slots, writing.batch_of = Logged, lambda model: seats
    return shell(command)


def begun(out: Path) -> list[int]:
    """How many requests entered before each step, and 0 for the steps themselves."""
    log = out / "begun.log"
    return [int(line) for line in log.read_text().split("\n")[:-1]] if log.is_file() else []


def kept(out: Path) -> int:
    """Answers in the store of a command that has not ended; a line that a kill cut off is none."""
    files = list(out.glob("data/*/*/.*.part/resume/answers.jsonl"))
    return sum(file.read_bytes().count(b"\n") - 1 for file in files)


if __name__ == "__main__":
    sys.exit(main())
