"""The documentation as a site: `just docs` builds it into out/site, and a broken link fails.

The pages are those of docs/, which are written for a repository and stay so; this only says how they are laid out. Two more
stand in this folder: everything that `import ws` offers, and the notebook.
"""

import inspect
import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src"))

import ws  # noqa: E402

project = html_title = "ws: weight steering"
author = "The weight-steering authors"
release = version = ws.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 4
html_theme = "furo"
html_show_sphinx = html_show_copyright = False
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True


def api() -> str:
    """Every function and class that `import ws` offers, from its docstring."""
    parts = []
    for name, address in sorted(ws.EXPORTS.items()):
        module, _, attribute = address.partition(":")
        value = getattr(import_module(module), attribute)
        kind = "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else None
        if kind:
            members = "   :members:\n" if kind == "autoclass" else ""
            parts.append(f"## ws.{name}\n\n```{{eval-rst}}\n.. {kind}:: {module}.{attribute}\n{members}```\n")
    return "\n".join(parts)


def notebook() -> str:
    """The cells of the notebook, each with what it printed."""
    cells = json.loads((ROOT / "notebooks" / "first_hour.ipynb").read_text())["cells"]
    return "\n\n".join(map(shown, cells)) + "\n"


def shown(cell: dict[str, Any]) -> str:
    """A cell as a page has it."""
    text = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return text.replace("](../docs/", "](../")
    printed = "".join(line for output in cell["outputs"] for line in output["text"]).rstrip()
    return f"```python\n{text}\n```" + (f"\n\n```text\n{printed}\n```" if printed else "")


PAGES = {"site/api": api, "site/first_hour": notebook}
"""Pages that are made, each behind what its file says."""


def fill(app: object, page: str, source: list[str]) -> None:
    """Write the rest of a page that is made."""
    if page in PAGES:
        source[0] += PAGES[page]()


def readable(
    app: object, what: str, name: str, value: object, options: object, signature: str | None, returns: str | None
) -> Any:
    """A signature without values such as `<factory>`, which are no Python: of these sphinx shows every name in full, with marks."""
    return None if signature is None else (re.sub(r"<[^<>]*>", "...", signature), returns)


def plain(app: object, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain English, in which `|alpha|` is no markup."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app: Any) -> None:
    """What sphinx calls."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-signature", readable)
    app.connect("autodoc-process-docstring", plain)
