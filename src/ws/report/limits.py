"""What a page does not show, said beside what it shows."""

from ws.report.effect import COST
from ws.report.study import Study
from ws.results.page import Html, note, points, section
from ws.results.sentences import ONE_SEED

BUILT_IN = "tiny was built so that steering works: an effect here says that the software works, not that a method does."
LARGEST = "The largest of several is also the one that luck favored most: only a new sample says how large it is."
NO_UNIT = "alpha 1 is no unit: it is another strength in every family and on every model."


def part(study: Study) -> Html:
    """The box of a run."""
    return box(_sentences(study))


def box(sentences: list[str]) -> Html:
    """Sentences on what is not shown, in a part of their own."""
    return section("What this does not show", note("Before you believe it", points(sentences)), name="limits")


def _sentences(study: Study) -> list[str]:
    run = study.folder.name
    lines = list(study.smoke)
    if study.tiny:
        lines.append(BUILT_IN)
    if study.evaluations:
        lines.append(ONE_SEED)
        if not study.random:
            lines.append("No random directions were measured beside it, so how far chance goes is not known here.")
        lines.append(
            "Answers that are scored were given to the model: how likely it finds them is not what it writes when nobody asks for one."
        )
    if study.evaluations and not any(m.protocol.eval == COST for m in study.evaluations):
        lines.append(f"What steering costs was not measured: `ws eval perplexity {run}` does.")
    if not study.searches:
        lines.append(f"{NO_UNIT} `ws calibrate {run}` finds the strengths of equal KL.")
    if study.samples:
        lines.append("The answers that are shown are a few, to see what the numbers are about. They measure nothing.")
    if study.evaluations and not study.intent:
        lines.append(
            f"{study.behavior} does not ship with ws, so which way it claims to move a metric is not known here."
        )
    return lines
