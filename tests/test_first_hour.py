"""What stood in a newcomer's way, each with what is said now."""

import sys
import tomllib
from pathlib import Path

from ws.version import how_to_add

ROOT = Path(__file__).parents[1]


def test_an_extra_that_is_missing_is_named_as_everybody_with_a_clone_can_add_it(told, monkeypatch):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    code, _, err = told("eval", "lm-eval", "--tasks", "arc_easy")
    assert (code, err.count("\n")) == (2, 1)
    assert how_to_add("lmeval") in err and "pip install -e '.[lmeval]'" in err
    assert {"lmeval", "ray"} <= extras.keys()
    texts = [*ROOT.glob("src/**/*.py"), ROOT / "README.md", *ROOT.glob("docs/*.md")]
    assert not [t for t in texts if t.name != "log.md" and "'weight-steering[" in t.read_text()]
