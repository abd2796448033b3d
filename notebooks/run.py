"""Run a notebook's cells from top to bottom and keep what they print in it: `python notebooks/run.py`.

    python notebooks/run.py [NOTEBOOK]

A test runs the same cells. Nothing but Python and `ws` is needed.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FIRST_HOUR = Path(__file__).parent / "first_hour.ipynb"


def printed(notebook: dict) -> Iterator[tuple[dict, str]]:
    """Every code cell with what it prints, run in one namespace and in the folder that is the current one."""
    space: dict = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile("".join(cell["source"]), f"cell {number}", "exec"), space)
            yield cell, out.getvalue()


def main(path: Path) -> None:
    """Run a notebook in an empty folder and write its outputs into it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    back = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, (cell, text) in enumerate(printed(notebook), 1):
                stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
                cell |= {"execution_count": number, "outputs": [stream] if text else []}
        finally:
            os.chdir(back)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else FIRST_HOUR)
