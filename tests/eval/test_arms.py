"""Arms are joined by key, and what cannot be joined is refused in one sentence."""

import numpy as np
import pandas as pd
import pytest
from planted import rows_of

from ws.stats.arms import folded, join_arms
from ws.stats.shift import decomposition


@pytest.fixture
def rows():
    return rows_of([1.0, -1.0, 2.0], [3.0, 4.0, 5.0], [-3.0, -4.0, -5.0])


def test_rows_are_joined_by_key_and_never_by_order(rows):
    shuffled = rows.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(join_arms(rows).table, join_arms(shuffled).table)
    assert join_arms(rows).table["fwd"].tolist() == [3, 4, 5]
    assert join_arms(rows, sign=-1).table["fwd"].tolist() == [-3, -4, -5]
    one = rows[rows["arm"] != "neg"]
    assert [(a.fwd, a.rev) for a in (join_arms(rows), join_arms(rows, sign=-1), join_arms(one))] == [
        (1, -1),
        (-1, 1),
        (1, None),
    ]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: pd.concat([r, r[r["arm"] == "pos"].head(1)]), "1 row keys occur twice in the pos arm"),
        (lambda r: r.drop(r[r["arm"] == "pos"].index[0]), "1 row keys stand in only one of the arms ref and pos"),
        (lambda r: r.drop(r[r["arm"] == "neg"].index[0]), "1 row keys stand in only one of the arms ref and neg"),
        (
            lambda r: r.assign(unit_id=r["unit_id"].where(r["arm"] != "pos", "x")),
            "another unit or label in the pos arm",
        ),
        (lambda r: r.assign(label=r["label"].where(r["arm"] != "neg", -1)), "another unit or label in the neg arm"),
        (lambda r: r.assign(alpha=[1.0, 2.0, 2.0] * 3), "the ref arm has the strengths"),
        (lambda r: r.assign(protocol=["a", "b", "c"] * 3), "different protocols are not joined"),
        (lambda r: r.assign(metric=["a", "b", "c"] * 3), "different metrics are not joined"),
        (lambda r: r.assign(method=["a", "b", "c"] * 3), "one steered method at a time"),
        (lambda r: r[r["arm"] == "ref"], "one steered method at a time"),
        (lambda r: r[r["arm"] != "ref"], "no rows of the ref arm"),
        (lambda r: r[r["arm"] != "pos"], "no rows of the pos arm"),
        (lambda r: r.drop(columns="pmass"), "lack the columns"),
    ],
)
def test_rows_that_cannot_be_joined_are_refused(rows, spoil, said):
    with pytest.raises(ValueError, match=said) as refused:
        join_arms(spoil(rows))
    assert "\n" not in str(refused.value)


def test_several_strengths_of_a_side_must_be_chosen_among(rows):
    more = pd.concat([rows, rows[rows["arm"] == "pos"].assign(alpha=2.0, y=9.0)])
    with pytest.raises(ValueError, match=r"the pos arm has the strengths \[1.0, 2.0\]; say which, as pos="):
        join_arms(more)
    assert join_arms(more, pos=2.0).table["fwd"].tolist() == [9, 9, 9]
    with pytest.raises(ValueError, match="no rows of the pos arm at 3"):
        join_arms(more, pos=3.0)


def test_the_base_may_have_another_method_name_than_the_steered_rows(rows):
    assert join_arms(rows.assign(method=rows["method"].where(rows["arm"] != "ref", "base"))).method == "ws:lora"


def test_answer_orders_fold_into_one_item():
    rows = rows_of([1.0, 3.0, 5.0, np.nan], [2.0, 4.0, 6.0, 8.0], units=["a", "a", "b", "b"])
    rows["row_key"] = [f"{u}/0/{o}" for u, o in zip(rows["unit_id"], [0, 1] * 4)]
    ref = folded(rows).query("arm == 'ref'").set_index("row_key")["y"]
    assert ref["a/0"] == 2.0
    assert np.isnan(ref["b/0"])  # one order alone would carry the bias that two cancel
    assert list(folded(rows).columns) == list(rows.columns)
    assert len(folded(rows.assign(kind=np.nan))) == len(folded(rows)) == 4  # what says nothing of a row loses none
    with pytest.raises(ValueError, match="1 items have more or fewer rows"):
        folded(rows.drop(index=0))


def test_a_shift_is_told_from_sharpening():
    rng = np.random.default_rng(0)
    ref, noise = rng.normal(0.8, 1, 300), rng.normal(0, 0.2, 300)
    units = [f"u{i // 2}" for i in range(300)]
    shifted = decomposition(rows_of(ref, ref + 1 + noise, units=units))
    sharper = decomposition(rows_of(ref, 2 * ref + noise, units=units))
    assert shifted.a.ci_lo <= 1 <= shifted.a.ci_hi
    assert shifted.b.ci_lo <= 1 <= shifted.b.ci_hi
    assert sharper.a.ci_lo <= 0 <= sharper.a.ci_hi  # the mean has moved by 0.8 all the same
    assert sharper.b.ci_lo > 1.8


def test_the_shift_is_the_least_squares_line_over_scored_rows():
    rng = np.random.default_rng(1)
    ref, pos = rng.normal(5, 1, 40), rng.normal(2, 1, 40)
    pos[3], ref[7] = np.nan, np.nan
    ok = np.isfinite(ref) & np.isfinite(pos)
    b, a = np.polyfit(ref[ok], pos[ok], 1)
    found = decomposition(rows_of(ref, pos))
    assert (found.a.mean, found.b.mean) == (pytest.approx(a), pytest.approx(b))
    assert (found.a.n, found.a.n_valid, found.a.n_total) == (38, 38, 40)


def test_a_line_through_one_value_or_no_rows_is_nan():
    for rows in (rows_of([1.0] * 9, range(9)), rows_of([np.nan] * 9, range(9)), rows_of([1.0], [2.0])):
        assert np.isnan(decomposition(rows).b.mean)


def noisy(rng, middle, spread, noise, n=4000, b=1.0):
    """(y at 0, y steered) of items that nothing has moved: what differs is chance, and with b above 1 how sure the model is."""
    items = rng.normal(middle, spread, n)
    return items + rng.normal(0, noise, n), b * items + rng.normal(0, noise, n)


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("spread", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("middle", [0.0, 0.5, 2.0])
def test_a_shift_that_is_printed_is_none_that_chance_has_feigned(middle, spread, noise):
    ref, pos = noisy(np.random.default_rng(0), middle, spread, noise)
    found = decomposition(rows_of(ref, pos), resamples=2)
    if found.fits:
        assert abs(found.a.mean) < ref.std() / 8
    if (middle, spread, noise) == (2.0, 0.5, 1.0):  # right everywhere, and as unsure as chance
        assert found.a.mean > 1.5 and not found.fits
    if (middle, spread, noise) == (0.5, 2.0, 0.3):
        assert found.fits


def test_what_only_sharpens_is_said_to_and_what_moves_is_not():
    rng = np.random.default_rng(0)
    ref, sharper = noisy(rng, 0.4, 2.0, 0.05, n=300, b=1.5)
    assert decomposition(rows_of(ref, sharper)).only_sharper
    assert not decomposition(rows_of(ref, sharper + 1)).only_sharper
    assert not decomposition(rows_of(ref + 9, sharper + 13.5)).only_sharper  # right everywhere: not to be told
