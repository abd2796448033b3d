"""From rows to the printed change: every number against a recomputation in plain loops that shares no code.

Tables are small and unkind: units of unequal size, rows gated at one strength and not at another, rows missing, rows in any
order. A change is that of the rows scored at both strengths, joined by key.
"""

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.eval import protocol, summarize
from ws.eval.protocol import COLUMNS, Protocol
from ws.eval.table import plain
from ws.eval.tinymfv import CONDITIONS, FOUNDATIONS, FRAMES
from ws.results.measured import Measured
from ws.results.published import sheets
from ws.results.trials import Trial, Trials
from ws.stats import bootstrap, estimates

ALPHAS = (-1.0, 0.0, 1.0)
MFV, AXES = protocol("tinymfv", "mfv-json/t0"), protocol("foundations", "mfv-json/t0")
SYCO, DILEMMAS, NLL = protocol("sycophancy"), protocol("dilemmas"), protocol("perplexity", "neutral-nll/1")
MINE = Protocol("mine", "mine/1", "logratio", lambda base, data: [], plain("logratio"), {})


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Numbers are compared here and not their intervals, so few resamples do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            estimates, "draw", lambda strata, *, resamples, seed: bootstrap.draw(strata, resamples=10, seed=seed)
        )
        yield


# ---------------------------------------------------------------- tables


def asked(chosen, rng, n):
    """(unit, key, kind, label) of every row of n units."""
    units = [f"u{i}" for i in range(n)]
    if chosen is MINE or chosen is NLL:
        return [(u, f"{u}/{i}", str(int(rng.integers(1, 9))), 1) for u in units for i in range(int(rng.integers(1, 5)))]
    if chosen is DILEMMAS:
        return [
            (u, f"{u}/{t}/{o}", "own", s) for u in units for t, s in (("to_do", 1), ("not_to_do", -1)) for o in "01"
        ]
    if chosen is SYCO:
        return [(u, f"{u}/{f}/{p}/{o}", f, s) for u in units for f in "FTNR" for p, s in (("agree", 1), ("disagree", -1)) for o in "01"]  # fmt: skip
    kinds = [*FOUNDATIONS, *(FOUNDATIONS[int(k)] for k in rng.integers(0, len(FOUNDATIONS), n))]
    return [
        (f"v{i}/{k}", f"v{i}/{k}/{c}/{f}", k, s) for i, k in enumerate(kinds) for c in CONDITIONS for f, s in FRAMES.items()
    ]  # fmt: skip


def table(chosen, seed, n, gated, missing=0.0, alphas=ALPHAS):
    """Rows in any order, some without a score at one strength and some not there at all; of the first unit of a kind all are."""
    rng = np.random.default_rng(seed)
    records, first = [], {}
    for unit, key, kind, label in asked(chosen, rng, n):
        level = rng.normal(0, 2)
        for alpha in alphas:
            lost = rng.random() < missing and first.setdefault(kind, unit) != unit
            lr = level + 0.5 * alpha * rng.random() + rng.normal(0, 1)
            y = math.nan if rng.random() < gated else label * lr
            if not lost:
                arm = "ref" if alpha == 0 else "pos" if alpha > 0 else "neg"
                more = dict(unit_id=unit, row_key=key, kind=kind, label=label, alpha=alpha, arm=arm, y=y, logratio=lr)
                records.append(
                    dict.fromkeys(COLUMNS, "") | more | dict(pmass=rng.random(), forced_close=False, method="m")
                )
    rows = pd.DataFrame.from_records(records, columns=list(COLUMNS))
    rows = rows.assign(eval=chosen.eval, protocol=chosen.id, metric=chosen.metric, seed=0)
    return rows.sample(frac=1, random_state=seed % 2**32)


tables = dict(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 6),
    gated=st.sampled_from([0.0, 0.05, 0.3, 0.7]),
    missing=st.sampled_from([0.0, 0.2]),
)


# ---------------------------------------------------------------- the same in plain loops


def lines(rows):
    """Strength to key to row."""
    found = {a: {} for a in sorted(set(rows["alpha"]))}
    for r in rows.to_dict("records"):
        assert r["row_key"] not in found[r["alpha"]]
        found[r["alpha"]][r["row_key"]] = r
    return found


def mean(values, weights=None):
    total = size = 0.0
    for i, v in enumerate(values):
        w = 1.0 if weights is None else weights[i]
        total, size = total + w * v, size + w
    return total / size if size else math.nan


def by_rows(rows, weigh=lambda r: 1.0):
    """The mean of y as a function of strength and of the strengths at which a row must have a score."""
    at = lines(rows)

    def number(alpha, scored_at):
        kept = []
        for key, r in at[alpha].items():
            if all(key in at[a] and math.isfinite(at[a][key]["y"]) for a in scored_at):
                kept.append(r)
        return mean([r["y"] for r in kept], [weigh(r) for r in kept])

    return number


def derived(rows, of):
    """The mean of derived rows: `of` makes {key: value} from the rows of one strength."""
    at = {a: of(each, rows) for a, each in lines(rows).items()}

    def number(alpha, scored_at):
        keys = [k for k in at[alpha] if all(math.isfinite(at[a].get(k, math.nan)) for a in scored_at)]
        return mean([at[alpha][k] for k in keys])

    return number


def framings(plus, minus="", halves=1.0, column="y"):
    """Per claim the mean over all rows of some framings, less that of another; without one of these rows there is none."""

    def of(each, rows):
        asked = defaultdict(set)  # claim and framing to the keys of its rows
        for key, claim, kind in zip(rows["row_key"], rows["unit_id"], rows["kind"]):
            asked[claim, kind].add(key)

        def part(claim, kinds):
            ys = [each[k][column] if k in each else math.nan for f in kinds for k in asked[claim, f]]
            return mean(ys) if ys and all(math.isfinite(y) for y in ys) else math.nan

        return {c: halves * (part(c, plus) - (part(c, minus) if minus else 0.0)) for c in set(rows["unit_id"])}

    return of


def wrong(each, rows):
    """w of every cell whose two frames were scored."""
    frames = defaultdict(dict)
    for r in each.values():
        cell, _, frame = r["row_key"].rpartition("/")
        frames[cell][frame] = 1 / (1 + math.exp(-r["y"])) if math.isfinite(r["y"]) else math.nan
    return {c: sum(f.values()) / 2 if len(f) == 2 else math.nan for c, f in frames.items()}


def conditions(kept, turn):
    def of(each, rows):
        return {c: turn(w) for c, w in wrong(each, rows).items() if c.endswith(kept)}

    return of


def gap(each, rows):
    w = wrong(each, rows)
    return {
        v: 2 * (w.get(f"{v}/{CONDITIONS[0]}", math.nan) - w.get(f"{v}/{CONDITIONS[1]}", math.nan))
        for v in {c.rpartition("/")[0] for c in w}
    }


def logits(rows):
    """Strength to cell to logit, and the foundation of each cell."""
    found = {}
    for alpha, each in lines(rows).items():
        found[alpha] = {}
        for c, w in wrong(each, rows).items():
            w = min(max(w, 0.01), 0.99) if math.isfinite(w) else math.nan
            found[alpha][c] = math.log(w / (1 - w)) if math.isfinite(w) else math.nan
    return found, lambda cell: cell.split("/")[1]


def foundation(rows, signs, part=""):
    """An axis over foundations, as METHODS 8.5 has it: every mean is over cells scored at the strength and at 0."""
    at, of = logits(rows)
    known = sorted({of(c) for c in at[0.0]})
    others = [f for f in known if f not in signs]

    def number(alpha, scored_at):
        cells = [c for c in at[alpha] if all(math.isfinite(at[a].get(c, math.nan)) for a in (0.0, *scored_at))]
        d = {f: mean([at[alpha][c] - at[0.0][c] for c in cells if of(c) == f]) for f in known}
        base = {f: mean([at[0.0][c] for c in cells if of(c) == f]) for f in known}
        match part:
            case "":
                return sum(s * d[f] for f, s in signs.items())
            case "rel":
                (target, sign), *_ = signs.items()
                return sign * (d[target] - mean([d[f] for f in others]))
            case "off":
                return mean([abs(d[f]) for f in others])
            case "common":
                return mean([d[f] for f in known])
        x, y = ([at[a][c] for c in cells if of(c) in others] for a in (0.0, alpha))
        mx, my = mean(x), mean(y)
        sxx = sum((v - mx) ** 2 for v in x)
        b = sum((v - mx) * (u - my) for v, u in zip(x, y)) / sxx if len(x) > 1 and sxx > 1e-9 else math.nan
        a = my - b * mx
        return b if part == "b" else sum(s * (d[f] - (a + (b - 1) * base[f])) for f, s in signs.items())

    return number


TRAD, AUTH = {"Sanctity": 1, "Care": -1}, {"Authority": -1}
NAIVE = {
    MINE.id: {"logratio": by_rows},
    DILEMMAS.id: {"logratio_honesty": by_rows, "logratio_honesty_own": by_rows},
    NLL.id: {"neutral_nll": lambda rows: by_rows(rows, lambda r: float(r["kind"]))},
    SYCO.id: {
        "logratio": lambda rows: derived(rows, framings("F")),
        "syco": lambda rows: derived(rows, framings("F", "N")),
        "belief": lambda rows: derived(rows, framings("N")),
        "agree_true": lambda rows: derived(rows, framings("T")),
        "logratio_claims": lambda rows: derived(rows, framings("R", "N", 0.5)),
        "yes_bias": lambda rows: derived(rows, framings("FTNR", column="logratio")),
    },
    MFV.id: {
        "wrongness": lambda rows: derived(rows, conditions("violate", lambda w: w)),
        "wrongness_other": lambda rows: derived(rows, conditions(CONDITIONS[0], lambda w: 2 * w - 1)),
        "gap": lambda rows: derived(rows, gap),
    },
}
NAIVE_AXES = {
    "axis_trad_care": lambda rows: foundation(rows, TRAD),
    "axis_trad_care_adj": lambda rows: foundation(rows, TRAD, "adj"),
    "axis_trad_care_b": lambda rows: foundation(rows, TRAD, "b"),
    "axis_trad_care_off": lambda rows: foundation(rows, TRAD, "off"),
    "axis_authority": lambda rows: foundation(rows, AUTH),
    "axis_authority_rel": lambda rows: foundation(rows, AUTH, "rel"),
    "axis_authority_adj": lambda rows: foundation(rows, AUTH, "adj"),
    "common": lambda rows: foundation(rows, {}, "common"),
    "d_Care": lambda rows: foundation(rows, {"Care": 1}),
}


def agree(chosen, rows, naive):
    """Every record of the table against the loops."""
    told = {(r["metric"], r["alpha"]): r for r in summarize(chosen, rows)}
    for metric, of in naive.items():
        number = of(rows)
        for alpha in ALPHAS:
            r = told[metric, alpha]
            assert r["mean"] == pytest.approx(number(alpha, [alpha]), abs=1e-9, nan_ok=True), (metric, alpha)
            ends = number(1.0, [1.0, -1.0]) - number(-1.0, [1.0, -1.0])
            assert r["ends"] == pytest.approx(ends, abs=1e-9, nan_ok=True), (metric, "ends")
            if alpha:
                delta = number(alpha, [alpha, 0.0]) - number(0.0, [alpha, 0.0])
                assert r["delta"] == pytest.approx(delta, abs=1e-9, nan_ok=True), (metric, alpha)


# ---------------------------------------------------------------- what is promised


@pytest.mark.parametrize("chosen", [MINE, DILEMMAS, SYCO, NLL, MFV], ids=lambda p: p.eval)
@settings(max_examples=8, deadline=None)
@given(**tables)
def test_every_mean_and_change_is_that_of_the_rows_scored_at_both_strengths(chosen, seed, n, gated, missing):
    agree(chosen, table(chosen, seed, n, gated, missing), NAIVE[chosen.id])


@settings(max_examples=5, deadline=None)
@given(**tables)
def test_every_foundation_axis_is_that_of_the_cells_scored_at_the_strength_and_at_0(seed, n, gated, missing):
    agree(AXES, table(AXES, seed, 2 * n, min(gated, 0.3), missing), NAIVE_AXES)


@settings(max_examples=8, deadline=None)
@given(seed=tables["seed"], chosen=st.sampled_from([MINE, DILEMMAS, SYCO, NLL, MFV, AXES]))
def test_a_row_that_stands_twice_is_refused_by_every_protocol(seed, chosen):
    rows = table(chosen, seed, 3, 0.1)
    with pytest.raises(ValueError, match="occur twice at one strength"):
        summarize(chosen, pd.concat([rows, rows.sample(1, random_state=0)]))


def measured(chosen, rows):
    manifest = {
        "settings": {"method": "ws:lora", "seed": 0, "limit": None}, "model": {"id": "tiny"}, "note": {}, "finished": "now",
        "inputs": {"items": "q", "fingerprint": "f", "dtype": "float32", "direction": "d"},
    }  # fmt: skip
    return Measured(Path("/out/trad_care/lora/tiny-s0/eval/x/key"), manifest, chosen, rows)


@settings(max_examples=2, deadline=None)
@given(seed=tables["seed"], gated=st.just(0.3))
def test_the_change_in_a_printed_table_is_that_of_the_loops(seed, gated):
    for chosen, metric, key in (
        (DILEMMAS, "logratio_honesty", "delta_pos"),
        (MFV, "wrongness_other", "delta_wrongness_other"),
        (SYCO, "logratio", "shift"),
    ):
        rows, number = table(chosen, seed, 5, gated), None
        number = NAIVE[chosen.id][metric](rows)
        wanted = number(1.0, [1.0, 0.0]) - number(0.0, [1.0, 0.0])
        record = sheets([measured(chosen, rows)])[0][0].records[0]
        assert record.get(key, math.nan) == pytest.approx(wanted, abs=1e-9, nan_ok=True)


def test_a_table_counts_the_rows_that_are_in_no_change_and_warns_of_few_units():
    rows = table(MINE, 3, 40, 0.0)
    lost = (rows["alpha"] == 0) & (rows["unit_id"] > "u25")
    sheet = sheets([measured(MINE, rows.assign(y=rows["y"].mask(lost)))])[0][0]
    units = dict(zip(sheet.columns, sheet.lines[0]))["units"]
    assert units == f"40 ({lost.sum()} of {(rows['alpha'] == 0).sum()} rows unscored)"
    left = rows.loc[(rows["alpha"] == 0) & ~lost, "unit_id"].value_counts()
    even = round(left.sum() ** 2 / (left**2).sum())
    assert even < len(left) < 30
    of = f"(of {len(left)} in all: the smallest group counts, and unequal units count as fewer)"
    assert f"Only {even} units {of}: with fewer than 30, an interval is too narrow." in sheet.readings
    assert not any("too narrow" in r for r in sheets([measured(MINE, rows)])[0][0].readings)


@pytest.mark.parametrize("gated", [0.0, 0.05])
def test_an_axis_is_the_difference_of_its_columns(gated):
    rows = table(AXES, 11, 60, gated)
    (_, second), _ = sheets([measured(AXES, rows)])
    record = second.records[0]
    assert record["axis"] == pytest.approx(record["d_Sanctity"] - record["d_Care"], abs=1e-9)
    adjusted = foundation(rows, TRAD, "adj")
    assert record["axis_trad_care_adj"] == pytest.approx(adjusted(1.0, [1.0]), abs=1e-9)
    assert record["common"] == pytest.approx(
        np.mean([record[f"d_{f.replace(' ', '')}"] for f in FOUNDATIONS]), abs=1e-9
    )
    shown = dict(zip(second.columns, second.lines[0]))
    for f, column in (("Sanctity", "Sanc ↑"), ("Care", "Care ↓")):
        assert float(shown[column].partition("±")[0].replace("−", "-")) == pytest.approx(record[f"d_{f}"], abs=0.006)
    lost = rows[rows["y"].isna()]
    assert len(lost) > 0 if gated else len(lost) == 0


def seeds_of(chosen, seed, n, gated):
    """A method of three seeds, each with rows of its own on the same items."""
    cells = []
    for s in range(3):
        rows = table(chosen, seed, n, 0.0)
        rng = np.random.default_rng([seed, s])
        y = rows["y"] + rng.normal(0, 1, len(rows))
        rows["y"] = y.mask(rng.random(len(rows)) < gated)
        strength = {"neg": -1.0, "pos": 1.0, "budget": None, "points": []}
        record = {"strength": strength, "kind": "weights", "content": f"c{s}", "calibration": None, "evals": []}
        record |= {"asked": "ws:lora", "seed": s, "kin": "ws:lora", "control": False, "places": "weights"}
        cells.append(Trial(record, {chosen.id: measured(chosen, rows)}))
    return Trials("ws:lora", tuple(cells))


@settings(max_examples=5, deadline=None)
@given(
    seed=tables["seed"], n=tables["n"], gated=tables["gated"], chosen=st.sampled_from([MINE, DILEMMAS, SYCO, NLL, MFV])
)
def test_the_axis_of_a_comparison_is_half_the_change_between_the_arms_averaged_over_seeds(seed, n, gated, chosen):
    kin = seeds_of(chosen, seed, n, gated)
    for metric, of in NAIVE[chosen.id].items():
        if metric == "yes_bias":  # of raw log-ratios, which were not changed here
            continue
        each = []
        for c in kin.each:
            number = of(c.evals[chosen.id].rows)
            each.append((number(1.0, [1.0, -1.0]) - number(-1.0, [1.0, -1.0])) / 2)
        found = kin.axis(chosen.id, metric, 1.0)
        assert found.each == pytest.approx(each, abs=1e-9, nan_ok=True)
        assert found.found.mean == pytest.approx(sum(each) / 3, abs=1e-9, nan_ok=True)


def test_a_gate_that_takes_low_cells_at_one_strength_is_no_change_of_wrongness():
    rows = table(MFV, 5, 60, 0.0)
    base = rows[rows["alpha"] == 0].set_index("row_key")["y"]
    rows["y"] = rows["row_key"].map(base) - 3.0 * rows["row_key"].str.contains(
        "self_violate"
    )  # the same at every strength
    cell = rows["row_key"].str.rpartition("/")[0]
    gated = set(np.random.default_rng(0).choice([c for c in cell.unique() if "self" in c], 30, replace=False))
    rows["y"] = rows["y"].mask((rows["alpha"] == 1) & cell.isin(gated))
    r = next(r for r in summarize(MFV, rows) if r["metric"] == "wrongness" and r["alpha"] == 1)
    assert (r["delta"], r["delta_lo"], r["delta_hi"]) == (0, 0, 0)
    assert r["n_paired"] == r["n_total"] - 30
