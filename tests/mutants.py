"""Small faults planted one at a time in one module, and which of them its tests do not see.

    python tests/mutants.py stats/estimates.py
    python tests/mutants.py train.py --tests tests/test_train.py --sample 40

cosmic-ray says where a fault can be planted and writes it, in a copy of this repository. Every mutant is tried in a fork
of one process that has torch loaded already, which is most of what a test run of a few seconds costs.
"""

import argparse
import ast
import difflib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = {
    "stats/": ["tests/test_stats.py", "tests/compare/test_seeds.py"],
    "calibrate/": ["tests/calibrate"],
    "direction/": ["tests/direction", "tests/test_steer.py"],
    "adapters/": ["tests/adapters", "tests/test_train.py"],
    "eval/scoring.py": ["tests/eval/test_scoring.py", "tests/eval/test_engine.py", "tests/eval/test_any_method.py"],
    "eval/informedness.py": ["tests/eval/test_informedness.py", "tests/eval/test_arms.py"],
    "eval/nulls.py": ["tests/eval/test_informedness.py"],
    "eval/marks.py": ["tests/eval/test_informedness.py"],
    "eval/": ["tests/eval"],
    "methods/": ["tests/methods"],
    "steer.py": ["tests/test_steer.py"],
    "train.py": ["tests/test_train.py"],
    "": ["tests"],
}
"""The tests of a module, by how its path begins; the first that fits."""


def main() -> None:
    options = argparse.ArgumentParser(description="Mutants of one module that its tests do not see.")
    options.add_argument("module", help="below src/ws, e.g. stats/estimates.py")
    options.add_argument("--tests", nargs="+", help="the module's own when not given")
    options.add_argument("--sample", type=int, help="so many of all mutants, drawn with the seed")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    tests = asked.tests or next(t for start, t in TESTS.items() if asked.module.startswith(start))
    code = (ROOT / "src/ws" / asked.module).read_text()
    every = list(mutants(code))
    chosen = every if asked.sample is None else random.Random(asked.seed).sample(every, min(asked.sample, len(every)))
    print(f"{asked.module}: {len(chosen)} of {len(every)} mutants against {' '.join(tests)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ws-mutants-") as folder:
        copy = Path(folder) / "ws"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "out", "*cache*"))
        preload(copy)
        start = time.monotonic()
        if not passes(tests, 3600):
            sys.exit("these tests fail without a mutant; mend them first")
        limit = 30 + 10 * (time.monotonic() - start)  # a mutant may also never end
        survivors = 0
        for at, (name, mutant) in enumerate(chosen, 1):
            (copy / "src/ws" / asked.module).write_text(mutant)
            if passes(tests, limit):
                survivors += 1
                print(f"\n{at}/{len(chosen)} survives: {name}\n{changed(code, mutant)}", flush=True)
        print(f"\n{asked.module}: {len(chosen)} mutants, {len(chosen) - survivors} seen, {survivors} not")


def mutants(code: str) -> Iterator[tuple[str, str]]:
    """(operator, whole changed source) of every mutant outside of annotations, which nobody runs."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    silent = [(n.lineno, n.col_offset, n.end_lineno, n.end_col_offset) for n in annotations(ast.parse(code))]
    for name in operator_names():
        if name.endswith(
            ("VariableReplacer", "VariableInserter", "NoOp")
        ):  # these want to be told a variable, or do nothing
            continue
        operator = get_operator(name)()
        places = [p for node in ast_nodes(get_ast(code)) for p in operator.mutation_positions(node)]
        for at, ((line, column), _) in enumerate(places):
            if any((a, b) <= (line, column) < (c, d) for a, b, c, d in silent):
                continue
            mutant = mutate_code(code, operator, at)
            if mutant is not None and mutant != code:
                yield name.removeprefix("core/"), mutant


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if isinstance(found := getattr(node, name, None), ast.expr):
                yield found


def preload(copy: Path) -> None:
    """All that tests import, and nothing of ours: forks read that anew, with the fault in it."""
    os.chdir(copy)
    sys.path[:0] = [str(copy / "src")]
    sys.dont_write_bytecode = True
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    for name in ("torch", "transformers", "peft", "pandas", "scipy.stats", "hypothesis", "pytest", "matplotlib.pyplot"):
        __import__(name)
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

        os._exit(int(pytest.main(["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *tests])))
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
