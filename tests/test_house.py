"""The layout is a test: modules import only from rows above their own; importing costs little; doors open."""

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ws
from ws.eval import NAMES

ROOT = Path(ws.__file__).parent
ROWS = [
    "types",
    "errors settings signatures version progress",
    "hub",
    "stats pairs direction sources records extensions",
    "models behaviors batches presets numbers",
    "steer adapters prefix_cache sets",
    "slots derived",
    "generate",
    "answer_store",
    "endpoint streaming",
    "judge",
    "data train",
    "diff",
    "methods",
    "eval calibrate engine",
    "results",
    "study",
    "replicate",
    "grid",
    "analysis explain export report serve watch",
    "paper doctor",
    "verbs",
    "cli",
    "scripts run_sweep run_subspace vllm_plugin",
]
ROW = {unit: i for i, row in enumerate(ROWS) for unit in row.split()}
PART_OF = {"compare": "grid", "sweep": "grid"}
"""Their numbers and tables, which read what the cells of a grid are."""


def units_imported_by(path: Path) -> set[str]:
    """Top-level names under `ws` that this file imports, wherever in the file the import stands."""
    here, found = ("ws", *path.relative_to(ROOT).with_suffix("").parts), set()
    tree = ast.parse(path.read_text())
    tree.body = [n for n in tree.body if not ast.unparse(n).startswith("if __name__ ==")]  # a door is the last row
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level] if node.level else ()
            full = (*above, *(node.module or "").split("."))
            if full[0] == "ws":
                found |= {full[1]} if full[1:] and full[1] else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("ws.")}
    return found


def sources():
    return [p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py" and p.name != "__main__.py"]


def test_imports_point_one_way():
    assert len(sources()) > 30
    for path in sources():
        unit = path.relative_to(ROOT).with_suffix("").parts[0]
        unit = PART_OF.get(unit, unit)
        others = {PART_OF.get(m, m) for m in units_imported_by(path)} - {unit}
        wrong = {m for m in others if ROW[m] >= ROW[unit]}
        assert not wrong, f"{path} (row {ROW[unit]}) imports {sorted(wrong)} from its own row or below"


def test_every_unit_stands_in_one_row_and_on_the_map():
    units = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or any(p.glob("*.py"))}
    units -= {"__init__", "__main__"}
    page = (ROOT.parents[1] / "docs" / "all-of-ws.md").read_text()
    listed = re.findall(r"^\|[^|]*\| `(\w+)` \| (.*) \|$", page, re.M)
    assert sorted(u for row in ROWS for u in row.split()) == sorted(units)
    assert sorted(name for name, _ in listed) == sorted(units)
    assert all(8 < len(text) < 120 for _, text in listed if text != "the version")
    order = [ROW[name] for name, _ in listed]
    assert order == sorted(order)


def test_the_arrow_would_be_noticed_if_it_turned(tmp_path, monkeypatch):
    wrong = ROOT / "direction" / "direction.py"
    text = wrong.read_text() + "\nfrom ws.train import train\n"
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: text)
    assert "train" in units_imported_by(wrong)


def test_no_two_test_files_have_one_name():
    """They are imported by their names alone."""
    names = [p.name for p in Path(__file__).parent.rglob("*.py")]
    assert [n for n in names if names.count(n) > 1] == []


def test_the_package_imports_nothing_of_the_tools_that_are_not_shipped():
    for path in sources():
        roots = {n.module or "" for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)}
        assert not [m for m in roots if m.split(".")[0] in ("tools", "tests", "bench")], path


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


HEAVY = ["torch", "transformers", "peft", "datasets", "pandas", "scipy", "matplotlib", "accelerate", "pyarrow", "numpy"]


def test_importing_ws_loads_no_heavy_library():
    heavy = [*HEAVY, "pydantic", "typer", "rich"]
    assert run(f"import sys, ws; print([m for m in {heavy} if m in sys.modules])") == "[]"


LIGHT = [
    ["--help"],
    ["--version"],
    ["evla"],
    [],
    ["eval", "--help-all"],
    ["completion", "zsh", "--", "train", "--adapter", ""],
]


@pytest.mark.parametrize("arguments", LIGHT)
def test_help_the_version_and_a_typing_error_need_no_heavy_library(arguments):
    code = f"import sys; from ws.cli import main; main({arguments}); print([m for m in {HEAVY} if m in sys.modules])"
    assert run(code).splitlines()[-1] == "[]"


def test_help_of_a_verb_lists_its_options_and_help_of_all_lists_the_verbs(capsys):
    from ws.cli import COMMANDS, main

    assert main(["calibrate", "--help"]) == 0
    assert "--budget" in capsys.readouterr().out
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(verb in listed for verb in COMMANDS)


DOORS = [
    *("ws", "ws.replicate", "ws.eval", "ws.eval.kl_calibrate", "ws.eval.dilemmas_calibrated", "ws.run_sweep"),
    "ws.run_subspace",
    *("ws.scripts.readme_tinymfv_table", "ws.scripts.eval_tinymfv_calibrated"),
    *(f"ws.eval.{name.replace('-', '_')}" for name in NAMES),
]
OPENED = """
import json, os, runpy, sys, tempfile, traceback, warnings
with warnings.catch_warnings(action="ignore"):
    import jaxtyping, pandas, peft, torch, transformers.models.auto.modeling_auto, typer
    import ws.models.load
told = {}
for door in sys.argv[1].split(","):
    with tempfile.TemporaryFile("w+") as f:
        if (child := os.fork()) == 0:
            os.dup2(f.fileno(), 1), os.dup2(f.fileno(), 2)
            sys.argv, code = [door, "--help"], 0
            try:
                runpy.run_module(door, run_name="__main__", alter_sys=True)
            except SystemExit as e:
                code = e.code or 0
            except BaseException:
                code = traceback.print_exc() or 1
            sys.stdout.flush(), sys.stderr.flush(), os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        f.seek(0)
        told[door] = code, f.read()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def opened():
    """(exit code, output) of every door's help as `python -W error -m DOOR` runs it; other libraries are imported once for all."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OPENED, ",".join(DOORS)], capture_output=True, text=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_opens_without_a_warning(opened, door):
    code, told = opened[door]
    assert code == 0, told
    assert "Usage" in told


def test_the_door_of_an_evaluation_is_that_evaluation():
    command = [sys.executable, "-W", "error", "-m", "ws.eval.dilemmas", "--model", "nowhere/nothing", "--alphas=0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nowhere/nothing" in done.stderr


def test_exports_keep_their_types_after_every_module_was_imported():
    before = {n: type(getattr(ws, n)) for n in dir(ws) if not n.startswith("_")}
    for module in pkgutil.walk_packages(ws.__path__, "ws."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert callable(ws.train)
    assert callable(ws.steer)
    assert {n: type(getattr(ws, n)) for n in before} == before


def test_importing_changes_no_global_state():
    code = "import torch; a = torch.initial_seed(), torch.get_num_threads(), torch.get_default_dtype()\nimport ws\n"
    code += "import logging; print(a == (torch.initial_seed(), torch.get_num_threads(), torch.get_default_dtype()), logging.getLogger().handlers)"
    assert run(code) == "True []"


def test_no_pickle_and_no_remote_code():
    for path in sources():
        text = path.read_text()
        for word in ("pickle.load", "torch.load", "weights_only=False", "trust_remote_code=True", "yaml.load("):
            assert word not in text, f"{path} uses {word}"
