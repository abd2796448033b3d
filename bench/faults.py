"""Kills a sweep again and again and compares what it ends with: python bench/faults.py --kills 40 [--engine ray].

A small sweep is run once undisturbed. Then it is run again in a new folder, and at a random moment its command gets
SIGKILL or SIGINT, or one of its workers gets SIGKILL; a command that ended is given again, as often as it takes. When it
is done all result files are compared byte for byte with the undisturbed ones (manifests less their times), and the next
round begins, until there were enough kills.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from results import differing, results_of  # noqa: E402

from ws.engine import State, task_states  # noqa: E402

GRID = [
    "--adapters", "lora,pissa", "--seeds", "0,1", "--evals", "sycophancy,pairs", "--n-topics", "40", "--n-personas", "1",
    "--epochs", "60", "--patience", "60", "--alphas=-1,1", "--retries", "3",
]  # fmt: skip
KINDS = ("SIGKILL of the command", "SIGINT of the command", "SIGKILL of a worker")


def start(out: Path, engine: str, log: Path) -> subprocess.Popen:
    """The sweep's command, in a process of its own that hears Ctrl-C."""
    with open(log, "ab") as f:
        return subprocess.Popen(
            [sys.executable, "-m", "ws", "sweep", *GRID, "--out", str(out), "--engine", engine],
            stdout=subprocess.DEVNULL,
            stderr=f,
            env={**os.environ, "WS_CHECKPOINT_SECONDS": "0"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def working(out: Path, process: subprocess.Popen) -> list[State]:
    """The tasks that say they are running, whose worker is there and was started by our command."""
    found = [s for folder in out.glob("sweep/*") for s in task_states(folder).values()]
    return [s for s in found if s.state == "running" and s.alive and descends(s.pid, process.pid)]


def descends(pid: int, from_: int) -> bool:
    """Whether a process was started by another, or by one that it started; Ray's workers are its children's children."""
    while pid > 1 and pid != from_:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            return False
    return pid == from_


def doing(task: State) -> str:
    """The stage a task was killed in."""
    kind, said = task.task.split("/")[0], str(task.told.get("doing", "starting"))
    if kind != "cell":
        return {"pairs": "pairs", "base": "unsteered model"}[kind]
    for word in ("loading", "training", "diff", "sycophancy", "pairs"):
        if word in said:
            return {"sycophancy": "evaluation", "pairs": "evaluation", "loading": "starting"}.get(word, word)
    return "between stages"


def strike(process: subprocess.Popen, out: Path, kind: str, dice: random.Random) -> str | None:
    """Do it; the stage that was hit, or None where there was nothing to hit."""
    tasks = working(out, process)
    if kind == "SIGKILL of a worker":
        if not tasks:
            return None
        victim = dice.choice(tasks)
        os.kill(victim.pid, signal.SIGKILL)
        return doing(victim)
    process.send_signal(signal.SIGKILL if "SIGKILL" in kind else signal.SIGINT)
    process.wait()
    return doing(dice.choice(tasks)) if tasks else "starting"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=25.0, help="longest time between two kills, in seconds")
    options = parser.parse_args()
    dice, began = random.Random(options.seed), time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="ws-faults-"))
    whole = place / "undisturbed"
    if start(whole, "local", place / "undisturbed.log").wait() != 0:
        sys.exit(f"the undisturbed sweep failed; see {place}/undisturbed.log")
    wanted = results_of(whole)
    print(f"undisturbed: {len(wanted)} result files, {time.monotonic() - began:.0f} s", flush=True)

    hits: Counter[tuple[str, str]] = Counter()
    kills = rounds = starts = bad = 0
    while kills < options.kills:
        rounds += 1
        out = place / f"round-{rounds}"
        process = start(out, options.engine, place / f"round-{rounds}.log")
        starts += 1
        while True:
            if kills < options.kills:
                try:
                    process.wait(timeout=dice.uniform(0.5, options.patience))
                except subprocess.TimeoutExpired:
                    kind = dice.choice(KINDS)
                    if (stage := strike(process, out, kind, dice)) is not None:
                        kills += 1
                        hits[kind, stage] += 1
                        print(f"  {kills:>3} {kind}, in {stage}", flush=True)
            else:
                process.wait()
            if process.poll() is None:
                continue
            if process.returncode == 0:
                break
            process = start(out, options.engine, place / f"round-{rounds}.log")
            starts += 1
        differ = differing(wanted, results_of(out))
        bad += len(differ)
        print(
            f"round {rounds}: {kills} kills so far, {starts} starts, {len(differ)} files differ {differ[:3]}",
            flush=True,
        )

    print(f"\n{'kill':<24}{'in':<18}{'times':>6}")
    for (kind, stage), n in sorted(hits.items()):
        print(f"{kind:<24}{stage:<18}{n:>6}")
    print(
        f"\nengine {options.engine}: {kills} kills in {rounds} rounds, {starts} starts, {time.monotonic() - began:.0f} s; "
        f"{len(wanted)} result files per round, {bad} lost or different"
    )
    print(f"logs: {place}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
