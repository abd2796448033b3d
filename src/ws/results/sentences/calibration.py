"""The sentence on one search for a strength of a given KL."""

from ws.calibrate import Side

WHY = {
    "inert": "it has no effect at any strength",
    "no_bracket": "no strength it has reaches {target:.3g} nat",
    "jump": "it jumps over {target:.3g} nat: on both sides it is more than {tolerance:g} % off",
    "max_iter": "it was not reached in the number of tries allowed",
    "nan": "the divergence is not a number",
}


def reading(side: Side, tolerance: float) -> str:
    """One sign's search in a sentence: the strength, its KL here and on other prompts, and whether it may be compared."""
    at = f"alpha {side.alpha:+.4g}"
    if side.matched:
        return (
            f"{at}: {side.p95:.3f} nat of {side.target:.3g}, {side.audit:.3f} on other prompts: matched, so it may be "
            "compared with others that are."
        )
    if side.status == "ok":
        return (
            f"{at}: on target here, but {side.audit:.3f} nat on other prompts, more than 1.5 times off: unmatched. Use more "
            "prompts."
        )
    why = WHY[side.status].format(target=side.target, tolerance=100 * tolerance)
    return f"{at}: {side.p95:.3f} nat, {why}: unmatched, and not to be shown among matched ones."
