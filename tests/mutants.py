"""Small faults planted one at a time in one module, and which of them its tests do not see.

    python tests/mutants.py stats/estimates.py
    python tests/mutants.py train/loop.py --sample 40 --tests "tests/test_training.py -k by_hand"

cosmic-ray says where a fault can be planted and writes it, in a copy of this repository. Every mutant is tried in a fork
of one process that has torch loaded already, which is most of what a test run of a few seconds costs.
"""

import argparse
import ast
import difflib
import gc
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
INFORMEDNESS = ["tests/eval/test_informedness.py"]
TESTS = {
    "stats/informedness.py": INFORMEDNESS,
    "stats/nulls.py": INFORMEDNESS,
    "stats/marks.py": INFORMEDNESS,
    "stats/arms.py": ["tests/eval/test_arms.py", *INFORMEDNESS],
    "stats/shift.py": ["tests/eval/test_arms.py"],
    "stats/seeds.py": ["tests/compare/test_seeds.py"],
    "stats/": ["tests/test_stats.py", "tests/compare/test_seeds.py", "tests/eval/test_changes.py"],
    "calibrate/": ["tests/calibrate"],
    "direction/forms.py": ["tests/direction/test_algebra.py", "tests/test_steer.py"],
    "direction/merging.py": ["tests/direction/test_merging.py"],
    "direction/random.py": ["tests/direction/test_random.py"],
    "direction/": ["tests/direction"],
    "adapters/": ["tests/adapters", "tests/test_train.py"],
    "eval/scoring.py": [f"tests/eval/test_{name}.py" for name in ("scoring", "engine", "response", "thinking")],
    "eval/": ["tests/eval"],
    "methods/": ["tests/methods"],
    "steer.py": ["tests/test_steer.py"],
    "train/processes.py": ["tests/test_processes.py"],
    "train/sequences.py": ["tests/test_train.py", "tests/test_splits.py", "tests/test_training.py"],
    "train/tracking.py": ["tests/test_tracking.py"],
    "train/": ["tests/test_training.py", "tests/test_train.py"],
    "pairs/": ["tests/test_pairs.py", "tests/test_splits.py"],
    "data.py": ["tests/test_data.py", "tests/test_endpoint.py"],
    "": ["tests"],
}
"""The tests of a module, by how its path begins; the first that fits."""
WITHOUT = ("cacheprovider", "unraisableexception", "anyio", "xdist", "timeout")
LIGHT = ["-o", "addopts=", *(x for name in WITHOUT for x in ("-p", f"no:{name}"))]
"""Without plugins and the check of annotations, which take 2 of the 2.5 seconds that a fork costs before its first test."""


def main() -> None:
    options = argparse.ArgumentParser(description="Mutants of one module that its tests do not see.")
    options.add_argument("module", help="below src/ws, e.g. stats/estimates.py")
    options.add_argument("--tests", type=shlex.split, help="paths and options of pytest in one string")
    options.add_argument("--sample", type=int, help="so many of the places, drawn with the seed")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    tests = asked.tests or next(t for start, t in TESTS.items() if asked.module.startswith(start))
    code = (ROOT / "src/ws" / asked.module).read_text()
    every = faults(code, asked.seed)
    chosen = every[: asked.sample]
    print(f"{asked.module}: {len(chosen)} of {len(every)} places against {' '.join(tests)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ws-mutants-") as folder:
        copy = Path(folder) / "ws"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "out", "__pycache__", ".*_cache"))
        preload(copy)
        path = copy / "src/ws" / asked.module
        start, first = time.monotonic(), int(path.stat().st_mtime)
        if not passes(tests, 3600):
            sys.exit("these tests fail without a mutant; mend them first")
        limit = 30 + 10 * (time.monotonic() - start)  # a mutant may also never end
        tried = survivors = 0
        for fault in chosen:
            if (mutant := planted(code, fault)) is None:
                continue
            tried += 1
            path.write_text(mutant)
            os.utime(
                path, (first, first + tried)
            )  # or bytecode of a mutant of the same second would be taken for this one's
            if passes(tests, limit):
                survivors += 1
                print(f"\n{tried} survives: {fault[0]}\n{changed(code, mutant)}", flush=True)
            print(".", end="", flush=True)
        print(f"\n{asked.module}: {tried} mutants, {tried - survivors} seen, {survivors} not")


def faults(code: str, seed: int) -> list[tuple[str, int]]:
    """One fault for every place that can have one, in random order: (operator, which of its occurrences)."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(code)))
    silent = [(n.lineno, n.col_offset, n.end_lineno, n.end_col_offset) for n in annotations(ast.parse(code))]
    every = []
    for name in operator_names():
        if name.endswith(
            ("VariableReplacer", "VariableInserter", "NoOp")
        ):  # they need a variable's name, or do nothing
            continue
        operator = get_operator(name)()
        for at, (place, _) in enumerate(p for node in nodes for p in operator.mutation_positions(node)):
            if not any((a, b) <= place < (c, d) for a, b, c, d in silent):  # annotations are not run
                every.append((place, name, at))
    random.Random(seed).shuffle(every)
    return [(name, at) for name, at in {place: (name, at) for place, name, at in every}.values()]


def planted(code: str, fault: tuple[str, int]) -> str | None:
    """The source with one fault in it, or None where that is no Python, as of the star before keywords."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    name, at = fault
    mutant = mutate_code(code, get_operator(name)(), at)
    try:
        compile(mutant or "not changed", "mutant", "exec")
    except SyntaxError:
        return None
    return mutant


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if isinstance(found := getattr(node, name, None), ast.expr):
                yield found


def preload(copy: Path) -> None:
    """All that tests import, and nothing of ours: forks read that anew, with the fault in it."""
    os.chdir(copy)
    sys.path[:0] = [str(copy / "src")]
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    for name in ("torch", "transformers", "peft", "pandas", "scipy.stats", "hypothesis", "pytest", "matplotlib.pyplot"):
        __import__(name)
    gc.freeze()  # or every fork would copy what it does not change
    assert not any(m == "ws" or m.startswith("ws.") for m in sys.modules), "ws must be imported in the forks"


def passes(tests: list[str], limit: float) -> bool:
    """Whether the tests pass in a fork within so many seconds."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()  # what tests start ends with them
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        import pytest

        os._exit(int(pytest.main(["-q", "-x", "-m", "not slow", *LIGHT, *tests])))
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def changed(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return "\n".join(x for x in lines if not x.startswith(("---", "+++")))


if __name__ == "__main__":
    main()
