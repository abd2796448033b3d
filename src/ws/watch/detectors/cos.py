"""`cos`: the angle between what a fine-tune changed and the behavior's direction, both in weight space. Reads no prompt."""

from ws.numbers import signed
from ws.watch.detectors.case import Case
from ws.watch.detectors.detector import Reading, unable
from ws.watch.matrix import matrix

UNIT = "cosine with the direction"


def read(case: Case) -> Reading:
    """The cosine, beside those of the permuted directions and of the control behavior's."""
    watched = case.probe.watched
    if watched is None:
        why = f"there is no direction of {case.probe.behavior.name} on this base"
        return unable("cos", case, UNIT, why)
    if case.still:
        return unable("cos", case, UNIT, "every matrix that is compared is the base's, so there is no angle")
    (angle,) = matrix([case.change], [watched], case.probe.base, draws=0)
    layers = {g: part["cos"] for g, part in angle.parts["layer"].items() if part["cos"] is not None}
    places = [f"layer {g} {signed(cos)}" for g, cos in sorted(layers.items(), key=lambda x: -abs(x[1]))[:3]]
    words = [f"it moved {signed(angle.alphas)} alphas of the direction; largest cosines: {', '.join(places)}"]
    if angle.ceiling is not None:
        words.append(
            f"the same data trained twice, with a start that is {angle.start}, reaches {signed(angle.ceiling)}"
        )
    if angle.same_data:
        words.append("it was trained on the very pairs of the direction")
    return Reading(
        "cos", case.change.name, case.probe.behavior.name, angle.cos, angle.against, UNIT, words=tuple(words)
    )
