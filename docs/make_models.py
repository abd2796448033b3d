"""Writes the table of docs/models.md: what ws can do with one small model of every tested architecture, by its config alone.

python docs/make_models.py [--check]
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import architectures  # noqa: E402
import small  # noqa: E402

from ws.doctor.support import support  # noqa: E402
from ws.models.architecture import skeleton  # noqa: E402
from ws.models.base import Base  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
START, END = "<!-- table: python docs/make_models.py -->\n", "<!-- end of table -->\n"
COLUMNS = ("load", "data", "sits on", "train", "steer", "export", "prompts shared")


def table() -> str:
    """A row for each architecture."""
    configs = {kind: small.model(kind).config for kind in sorted(small.BUILD)}
    configs |= {kind: make(96) for kind, make in sorted(architectures.CONFIGS.items())}
    lines = ["| shape | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for kind, config in configs.items():
        network = skeleton(config, kind, torch.bfloat16).eval().requires_grad_(False)
        row = support(Base(network, None, "", kind, weights=""), rank=4)
        lines.append(f"| {kind} | " + " | ".join(row[c].replace("_", "\\_") for c in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with its table as it is today."""
    head, _, rest = PAGE.read_text().partition(START)
    return head + START + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        sys.exit(0 if text == PAGE.read_text() else "docs/models.md is out of date: python docs/make_models.py")
    PAGE.write_text(text)
