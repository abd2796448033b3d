"""Where does the effect sit? Layers and kinds of matrices alone, and all but one of them."""

from ws.explain import equal_kl, places
from ws.explain.measure import FULL, spread
from ws.explain.protocol import Analysis, Bars, Effect, Finding, Subject, Table, measured
from ws.explain.show import bars_of


def run(subject: Subject) -> Finding:
    """The effect of every group, beside random directions as large as the whole; layers and kinds also at the whole's KL."""
    measure, names = measured(subject), list(subject.direction.forms)
    layers, kinds = places.layers(names), places.kinds(names)
    alone = [*places.only(kinds), *places.only(layers)]
    shares = equal_kl.matched(measure, alone)
    equal = [equal_kl.scaled(v, shares[v.name][0], f"{v.name} at equal KL") for v in alone]
    parts = [
        *places.only({**places.compounds(names), **places.bands(names)}),
        *alone,
        *places.without({**kinds, **layers}, names),
        *equal,
    ]
    effects = measure([*parts, *measure.controls(seed=subject.seed)])
    missed = [name.removeprefix("only:") for name, (_, kl) in shares.items() if not equal_kl.is_equal(kl)]
    readings = [f"Of another KL after all, so not to be compared there: {', '.join(missed)}."] if missed else []
    return Finding(
        (Table("what a part of the direction does, beside the whole", effects),),
        tuple(_pictures(effects)),
        (*_readings(effects), *readings),
    )


def _pictures(effects: list[Effect]) -> list[Bars]:
    return [
        bars_of([e for e in effects if e.metric == metric], f"{metric}: what each part keeps of the effect")
        for metric in dict.fromkeys(e.metric for e in effects)
    ]


def _readings(effects: list[Effect]) -> list[str]:
    lines = []
    for metric in dict.fromkeys(e.metric for e in effects):
        own = [e for e in effects if e.metric == metric]
        low, high = spread(own)
        whole = next(e for e in own if e.variant == FULL)
        lines.append(
            f"{metric}: the whole moves it by {whole.delta.mean:+.3g}; random directions as large move it by {low:+.3g} to {high:+.3g}."
        )
    return lines


LAYER_MODULE = Analysis(
    "layer_module",
    "Which layers and which kinds of matrices carry the effect?",
    "Parts need not add up: one may only work on what another has prepared. A part that keeps little alone may still be needed "
    "(see what is lost without it), and a part alone is smaller than the whole, so it is measured at a lower strength.",
    run,
    measures=True,
)
