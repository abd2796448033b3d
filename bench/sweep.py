"""What a sweep costs as it grows: python bench/sweep.py [--cells 1 2 4 8] [--workers 2].

Wall time, processor time and peak memory (of all its processes together) for sweeps of so many studies, each from
nothing and again from what it made. The engine's own cost per study is that of tasks that do nothing, and of studies
that are all there, less what one worker needs to look them up.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
GRID = ["--adapter", "ia3", "--evals", "perplexity,pairs", "--n-topics", "40", "--n-personas", "1", "--epochs", "2"]
NOTHING = """
import sys, time
from pathlib import Path
from ws.engine import Task, run
n, workers = int(sys.argv[2]), int(sys.argv[3])
run([Task("warm", "builtins:dict")], folder=Path(sys.argv[1]) / "warm", workers=1)
start = time.perf_counter()
run([Task(f"t{i}", "builtins:dict") for i in range(n)], folder=Path(sys.argv[1]) / str(n), workers=workers)
print(time.perf_counter() - start)
"""


def memory_of(root: int) -> int:
    """Bytes held by a process and all its descendants (shared pages once: PSS)."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(after[1]), []).append(int(stat.parent.name))
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        todo += parents.get(pid, [])
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def timed(out: Path, cells: int, workers: int) -> tuple[float, float, float]:
    """(wall seconds, processor seconds, peak GB) of one sweep."""
    before, start, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), [0]
    seeds = ",".join(map(str, range(cells)))
    process = subprocess.Popen(
        [sys.executable, "-m", "ws", "sweep", *GRID, "--seeds", seeds, "--workers", str(workers), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])},
    )

    def look() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], memory_of(process.pid))
            time.sleep(0.3)

    thread = threading.Thread(target=look)
    thread.start()
    assert process.wait() == 0
    thread.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used, peak[0] / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ws-sweep-"))
    print(f"{'studies':>8}{'wall s':>9}{'cpu s':>9}{'peak GB':>9}   {'again: wall s':>13}{'cpu s':>9}")
    again = {}
    for n in options.cells:
        wall, cpu, peak = timed(place / str(n), n, options.workers)
        again[n], cpu_again, _ = timed(place / str(n), n, options.workers)
        print(f"{n:>8}{wall:>9.1f}{cpu:>9.1f}{peak:>9.2f}   {again[n]:>13.1f}{cpu_again:>9.1f}", flush=True)
    few, many = min(again), max(again)
    if many > few:
        print(
            f"\neach further study that is done already: {(again[many] - again[few]) / (many - few):.2f} s of wall time"
        )
    for n in (1, 101):
        done = subprocess.run(
            [sys.executable, "-c", NOTHING, str(place), str(n), str(options.workers)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )
        took = float(done.stdout)
        if n == 1:
            alone = took
            print(f"starting {options.workers} workers and one task of nothing: {took:.2f} s")
        else:
            print(f"each further task of nothing: {1000 * (took - alone) / (n - 1):.1f} ms")


if __name__ == "__main__":
    main()
