"""The layout is a test: modules import only from rows above their own; importing costs little; doors open."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ws

ROOT = Path(ws.__file__).parent
ROWS = [
    "errors settings plots tables version",
    "stats pairs direction",
    "models records behaviors batches presets processes tracking",
    "steer adapters reading",
    "generate sequences",
    "endpoint",
    "data train",
    "diff",
    "methods",
    "eval calibrate engine",
    "stages",
    "report",
    "replicate doctor study",
    "compare",
    "sweep",
    "analysis monitor export serve recipes",
    "cli",
    "scripts run_sweep run_subspace",
]
ROW = {unit: i for i, row in enumerate(ROWS) for unit in row.split()}


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
        wrong = {m for m in units_imported_by(path) - {unit} if ROW[m] >= ROW[unit]}
        assert not wrong, f"{path} (row {ROW[unit]}) imports {sorted(wrong)} from its own row or below"


def test_the_arrow_would_be_noticed_if_it_turned(tmp_path, monkeypatch):
    wrong = ROOT / "direction" / "direction.py"
    text = wrong.read_text() + "\nfrom ws.train import train\n"
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: text)
    assert "train" in units_imported_by(wrong)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_ws_loads_no_heavy_library():
    heavy = [
        "transformers",
        "peft",
        "datasets",
        "pandas",
        "scipy",
        "matplotlib",
        "accelerate",
        "pyarrow",
        "pydantic",
        "typer",
        "rich",
    ]
    assert run(f"import sys, ws; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_help_loads_at_most_torch():
    heavy = ["transformers", "peft", "datasets", "pandas", "scipy", "matplotlib", "accelerate", "pyarrow"]
    code = f"import sys; from ws.cli import main; main(['--help']); print([m for m in {heavy} if m in sys.modules])"
    assert run(code).splitlines()[-1] == "[]"


DOORS = [
    *("ws", "ws.replicate", "ws.eval", "ws.eval.kl_calibrate", "ws.eval.dilemmas_calibrated", "ws.run_sweep"),
    *("ws.scripts.readme_tinymfv_table", "ws.scripts.eval_tinymfv_calibrated"),
]


@pytest.mark.parametrize("door", DOORS)
def test_every_door_opens_without_a_warning(door):
    done = subprocess.run([sys.executable, "-W", "error", "-m", door, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


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
