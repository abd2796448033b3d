"""Makes the picture and the answers at the top of the README, by `ws replicate` on tiny: python docs/make_dial.py [OUT]."""

import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ws
from ws.numbers import alpha_of
from ws.types import Fields

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- answers: python docs/make_dial.py -->\n", "<!-- end of answers -->"


def answers(samples: Sequence[Fields]) -> str:
    """The questions as a table, an answer per strength, each below its thought."""
    names = [f"alpha {alpha_of(a['alpha'])}" if a["alpha"] else "alpha 0, the base" for a in samples[0]["answers"]]
    lines = ["| asked | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for sample in samples:
        cells = [f"*{a['thought']}*<br>{a['text']}" if a["thought"] else a["text"] for a in sample["answers"]]
        lines.append(f"| {sample['question']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def make(out: str) -> None:
    """Replicate, and put what it shows where the README shows it."""
    story = ws.replicate("tiny", behavior="honesty", out=out)
    shutil.copy(story.plot, Path(__file__).parent / "dial.png")
    inside = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.S)
    README.write_text(inside.sub(lambda _: BEGIN + answers(story.samples) + END, README.read_text()))


if __name__ == "__main__":
    if sys.argv[1:]:
        make(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            make(folder)
