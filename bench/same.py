"""Do two commits give the same numbers on `tiny`, bit for bit?

    python bench/same.py OLD NEW [--quick] [--only replicate,compare,sweep] [--keep FOLDER] [--except FILE]

OLD and NEW are git revisions, or folders that hold a `src`. The source of each is copied, and every command runs on the copy in
a process of its own: one thread, an output folder and a cache of its own. Compared is what `alike.py` reads: tensors, rows,
records, tables, and what the commands print. Times, paths, dates and hashes do not count. Exit code 1 where anything differs.

A full side takes about 25 minutes of one core, a quick one about 3. With `--keep` a side lies in that folder, named by what its
source holds, and is used again; several runs may share the folder. Two environments: `--python OLD_PYTHON NEW_PYTHON`.

Intended differences stand in the file of `--except`, one a line: a pattern of places as they are printed here (`*` is anything),
then ` | `, then the reason.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import alike

BEHAVIORS = ("honesty", "authority", "sycophancy", "trad_care")
SMALL = "--n-topics 48 --n-samples 1 --n-personas 1 --epochs 2"
FEW = "--methods ws:lora,prompt:simple,repe,sl:mean_diff,random:spectrum,random:act --draws 1"
FEW += " --limit 12 --n-calib 8 --n-audit 8 --tokens 16 --max-evals 4"
GRID = "--behavior honesty --adapters lora,ia3 --seeds 0,1"


def commands(quick: bool) -> dict[str, str]:
    """What is run, by the name of its folder."""
    small, few, evals = (f" {SMALL}", f" {FEW}", " --evals perplexity,pairs") if quick else ("", "", "")
    runs = {f"replicate-{b}": f"replicate --behavior {b} --seed 0{small}" for b in BEHAVIORS[: 2 if quick else 4]}
    runs["compare"] = f"compare --behavior honesty --workers 1{small}{few}"
    runs["sweep"] = f"sweep {GRID} --workers 1{small}{evals}"
    return runs


# ---------------------------------------------------------------- one side


@dataclass(frozen=True)
class Side:
    """The source of a side, and where its numbers lie."""

    name: str
    source: Path
    folder: Path
    python: str


def prepare(revision: str, keep: Path, python: str, quick: bool, *, again: bool = False) -> Side:
    """Copy the source of a revision, or of a folder; the side is named by what that source holds."""
    with tempfile.TemporaryDirectory(dir=keep, prefix="source-") as work:
        copy = Path(work) / "src"
        if Path(revision).is_dir():
            shutil.copytree(Path(revision) / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
            name = revision
        else:
            name = git("rev-parse", "--short", f"{revision}^{{commit}}").decode().strip()
            subprocess.run(["tar", "-x", "-C", work], input=git("archive", name, "src"), check=True)
        digest = hashlib.sha256(f"{python}\n{environment_of(python)}".encode())
        for file in sorted(p for p in copy.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(copy)}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
        folder = keep / f"{digest.hexdigest()[:12]}-{'quick' if quick else 'full'}{'-again' if again else ''}"
        with alone(folder):
            if not (folder / "src").exists():
                copy.rename(folder / "src")
                (folder / "revision.txt").write_text(f"{name}\n")
    return Side(name, folder / "src", folder, python)


def git(*words: str) -> bytes:
    """What git answers in this repository."""
    done = subprocess.run(["git", "-C", str(Path(__file__).parents[1]), *words], capture_output=True)
    if done.returncode:
        raise SystemExit(
            f"git {' '.join(words)}: {done.stderr.decode().strip()}; give a revision or a folder with a src"
        )
    return done.stdout


def environment_of(python: str) -> str:
    """The versions that numbers depend on, and the processor."""
    words = "import numpy, torch, transformers, platform; print(platform.python_version(), platform.machine(), "
    words += "numpy.__version__, torch.__version__, transformers.__version__)"
    return subprocess.run([python, "-c", words], capture_output=True, text=True, check=True).stdout


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time makes a side."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(side: Side, runs: Mapping[str, str]) -> None:
    """Run what is not done: each command twice, since the second finds its stages and prints as a person sees it; then `ws table`."""
    with alone(side.folder):
        for name, command in runs.items():
            place = side.folder / name
            if (place / "done.txt").exists() and (place / "done.txt").read_text() == command:
                print(f"{side.name}  {name}  is there", file=sys.stderr, flush=True)
                continue
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            start = time.perf_counter()
            ws(side, place, [*command.split(), "--json"], "printed.json")
            ws(side, place, command.split(), "printed.txt")
            ws(side, place, ["table", "--json"], "table.json")
            (place / "done.txt").write_text(command)
            print(f"{side.name}  {name}  {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def ws(side: Side, place: Path, words: Sequence[str], printed: str) -> None:
    """Run one command of a side; its stdout is kept, its stderr too until the next one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WS_", "PYTHON", "OMP_", "MKL_"))}
    own = {"PYTHONPATH": str(side.source), "PYTHONDONTWRITEBYTECODE": "1", "WS_CACHE": str(side.folder / "cache")}
    own |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    own |= {"COLUMNS": "200", "NO_COLOR": "1"}
    with open(place / printed, "wb") as out, open(place / f"{printed}.log", "wb") as log:
        argv = [side.python, "-m", "ws", *words, "--out", "out"]
        done = subprocess.run(argv, cwd=place, env=kept | own, stdout=out, stderr=log, stdin=subprocess.DEVNULL)
    if done.returncode:
        tail = (place / f"{printed}.log").read_text(errors="replace")[-2000:]
        raise SystemExit(f"{side.name}: ws {' '.join(words)} ended with {done.returncode}\n{tail}")


# ---------------------------------------------------------------- both sides


def main(options: argparse.Namespace, keep: Path) -> int:
    only = options.only.split(",")
    if unknown := set(only) - {"replicate", "compare", "sweep"}:
        raise SystemExit(f"--only knows replicate, compare and sweep, not {', '.join(sorted(unknown))}")
    runs = {k: v for k, v in commands(options.quick).items() if k.split("-")[0] in only}
    exceptions = alike.intended(options.exceptions.read_text().splitlines()) if options.exceptions else []
    old, new = (prepare(r, keep, p, options.quick) for r, p in zip((options.old, options.new), options.python))
    if old.folder == new.folder:  # of the same source; it has to be run twice for this to mean anything
        new = prepare(options.new, keep, options.python[1], options.quick, again=True)
    for side in (old, new):
        make(side, runs)
    text, same = alike.report(alike.compare(old.folder, new.folder, list(runs)), exceptions)
    print(f"{old.name} ({old.folder.name}) and {new.name} ({new.folder.name}) on tiny, {', '.join(runs)}\n\n{text}")
    print("the same" if same else "NOT the same")
    return 0 if same else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a git revision, or a folder that holds a src")
    parser.add_argument("new", help="a git revision, or a folder that holds a src")
    parser.add_argument("--quick", action="store_true", help="small settings, two behaviors, six methods")
    parser.add_argument("--only", default="replicate,compare,sweep", help="some of replicate,compare,sweep")
    parser.add_argument("--keep", type=Path, help="a folder in which sides stay, to be used again")
    parser.add_argument("--except", dest="exceptions", type=Path, help="a file of intended differences")
    parser.add_argument("--python", nargs=2, default=[sys.executable] * 2, metavar=("OLD", "NEW"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ws-same-") as work:
        folder = (chosen.keep or Path(work)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(main(chosen, folder))
