"""The change that a table prints is that of each row against itself, whatever order rows stand in and whichever are missing."""

import pytest
from planted import planted

from ws.eval import protocol
from ws.eval.questions import items_of
from ws.eval.table import summarize

DILEMMAS = protocol("dilemmas")


def row(table, alpha):
    (found,) = [r for r in table if r["alpha"] == alpha and r["metric"] == "logratio_honesty"]
    return found


@pytest.fixture(scope="module")
def rows(tiny):
    """Units far apart from each other, and every one moves by exactly a quarter."""
    items = items_of(DILEMMAS, tiny)
    level = {u: (7 * at) % 40 - 20 for at, u in enumerate(items.units)}
    return planted(DILEMMAS, items, lambda i, a: i.label * (level[i.unit_id] + 0.25 * a), alphas=(0.0, 1.0))


def test_a_change_does_not_depend_on_the_order_of_rows(rows):
    for some in (rows, rows.sample(frac=1, random_state=0), rows.sort_values(["alpha", "row_key"], ascending=[1, 0])):
        found = row(summarize(DILEMMAS, some), 1.0)
        assert [found[k] for k in ("delta", "delta_lo", "delta_hi")] == pytest.approx([0.25] * 3)


def test_units_that_were_not_scored_at_one_strength_are_no_change(rows):
    low = sorted(rows["unit_id"].unique())[::3]
    gated = rows.assign(y=rows["y"].where((rows["alpha"] == 0) | ~rows["unit_id"].isin(low)))
    found = row(summarize(DILEMMAS, gated.sample(frac=1, random_state=1)), 1.0)
    assert [found[k] for k in ("delta", "delta_lo", "delta_hi")] == pytest.approx([0.25] * 3)
    plain = row(summarize(DILEMMAS, rows), 0.0)["mean"]
    assert found["mean"] != pytest.approx(plain + 0.25, abs=0.05)  # what is left lies elsewhere
