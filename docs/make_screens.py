"""The pictures of pages in docs/: `python docs/make_screens.py RUN COMPARISON REAL SWEEP REAL_COMPARISON ADDRESS`, or the
first few of these; an empty one is left out.

RUN and COMPARISON are folders of `tiny`, REAL is a run, SWEEP a sweep and REAL_COMPARISON a comparison of SmolLM2, ADDRESS that of a running `ws serve`. It needs a Chromium
on the path.
"""

import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tools.browser import Browser  # noqa: E402
from ws.report import place_of, write_report  # noqa: E402

COLORS, TALLEST = 96, 1500
ASKED = "/[0-9] answers written/.test(document.getElementById('status').textContent)"


def kept(picture: Path, name: str, tallest: int = TALLEST) -> None:
    """A picture in docs/, small: its upper part, in few colors."""
    image = Image.open(io.BytesIO(picture.read_bytes())).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, tallest)))
    # not by how often a color is seen: a dot is small, and says something by its color
    image.quantize(COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        ROOT / "docs" / name, optimize=True
    )
    print(name, (ROOT / "docs" / name).stat().st_size)


PAGES = (
    ("report.png", False, TALLEST),
    ("report_compare.png", True, TALLEST),
    ("report_smollm2.png", False, TALLEST),
    ("report_sweep.png", False, 1990),  # down to effect against cost
    ("report_compare_smollm2.png", False, TALLEST),
)
"""Pictures of reports, whether they are dark, and how much of them is shown."""


def main(*places: str) -> None:
    address = places[len(PAGES)] if len(places) > len(PAGES) else ""
    with Browser.found() as browser, TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        for place, (name, dark, tallest) in ((p, page) for p, page in zip(places, PAGES) if p):
            file = write_report(place_of(place, Path("out")), Path(folder) / "page.html")
            browser.open(file.as_uri(), width=900, dark=dark).picture(picture)
            kept(picture, name, tallest)
        for width, name, dark in (
            ((1180, "playground.png", False), (400, "playground_phone.png", True)) if address else ()
        ):
            page = browser.open(address, width=width, dark=dark)
            page.wait("document.querySelectorAll('.column').length > 1")
            page.value("document.getElementById('colors').click()")
            page.value("document.getElementById('go').click()")
            page.wait(ASKED)
            page.picture(picture)
            kept(picture, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
