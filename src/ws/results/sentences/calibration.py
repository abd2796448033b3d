"""The sentence on one search for a strength of a given KL."""

from collections.abc import Mapping

from ws.calibrate import CalibrateSettings, Side

WHY = {
    "inert": "it has no effect at any strength",
    "no_bracket": "no strength it has reaches {target:.3g} nat",
    "jump": "it jumps over {target:.3g} nat: on both sides it is more than {tolerance:g} % off",
    "max_iter": "it was not reached in the number of tries allowed",
    "nan": "the divergence is not a number",
}


def reading(side: Side, settings: CalibrateSettings, there: Mapping[str, int]) -> str:
    """One sign's search in a sentence: the strength, its KL here and on other prompts, and whether it may be compared.

    `there` says how many prompts of each set there are, so that only what can be done is advised.
    """
    at = f"alpha {side.alpha:+.4g}"
    if side.matched:
        return (
            f"{at}: {side.p95:.3f} nat of {side.target:.3g}, {side.audit:.3f} on other prompts: matched, so it may be "
            "compared with others that are."
        )
    if side.status == "ok":
        seen = f"{side.audit:.3f} nat [{side.audit_lo:.3f}, {side.audit_hi:.3f}] on other prompts"
        off = (
            f"and the interval does not lie within a factor of {side.within:g} of the budget"
            if side.undecided
            else f"more than {side.within:g} times off"
        )
        return f"{at}: on target here, but {seen}, {off}: unmatched. {_advice(settings, there)}"
    why = WHY[side.status].format(target=side.target, tolerance=100 * settings.tolerance)
    return f"{at}: {side.p95:.3f} nat, {why}: unmatched, and not to be shown among matched ones."


def _advice(settings: CalibrateSettings, there: Mapping[str, int]) -> str:
    """What to type where other prompts do not agree: twice as many, where there are more."""
    used = {s: there[s] if n is None else n for s, n in (("calib", settings.n_calib), ("audit", settings.n_audit))}
    if any(used[s] < there[s] for s in used):
        return "Try " + " ".join(f"--n-{s} {min(2 * n, there[s])}" for s, n in used.items()) + "."
    return (
        f"All {used['calib']} + {used['audit']} prompts are in use: try a smaller one than --budget {settings.budget:g}, or claim "
        f"less with --within {1.5 if settings.within < 1.5 else 2:g}."
    )
