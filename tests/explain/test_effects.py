"""The whole keeps all of its effect, nothing keeps none of it, and parts are measured together as each alone."""

import math
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
import small
import torch
from explain.worlds import METRIC, MODULES, gradients, measure, planted, scrambled
from test_steer import lowrank

from ws.direction import Direction
from ws.direction.algebra import restricted
from ws.direction.forms import LowRank
from ws.direction.variants import Flags, complement, cropped
from ws.eval import Evaluation
from ws.explain import measure as measuring
from ws.explain.measure import FULL, ZERO, spread
from ws.explain.protocol import Variant
from ws.explain.shared import sharing
from ws.models.modules import blocks_of
from ws.prefix_cache import extended
from ws.steer import steer


@pytest.fixture(scope="module")
def slopes(tiny):
    return gradients(tiny, Evaluation("dilemmas", limit=4), MODULES)


@pytest.fixture(scope="module")
def honesty(tiny, slopes):
    """Along the gradient in every module."""
    parts = [restricted(planted(tiny, slopes, n, 0), keep=n) for n in slopes]
    return Direction({n: fs for p in parts for n, fs in p.forms.items()}, {"base": tiny.described()})


def test_the_whole_keeps_all_and_nothing_keeps_exactly_nothing(tiny, honesty, tmp_path):
    effects = {e.variant: e for e in measure(tiny, honesty, tmp_path)([])}
    full, zero = effects[FULL], effects[ZERO]
    assert (full.retained.mean, full.retained.ci_lo, full.retained.ci_hi) == (1.0, 1.0, 1.0)
    assert full.delta.ci_lo > 0.5 and full.size == pytest.approx(1)
    assert (zero.delta.mean, zero.retained.mean, zero.delta.ci_lo, zero.delta.ci_hi, zero.size) == (0, 0, 0, 0, 0)


def test_parts_that_share_a_batch_are_what_each_is_alone(tiny, honesty, tmp_path):
    parts = [Variant(f"only:{n}", scales={n: 1.0}) for n in honesty.forms]
    alone = [Variant(f"alone:{n}", direction=restricted(honesty, keep=n)) for n in honesty.forms]
    effects = {e.variant: e for e in measure(tiny, honesty, tmp_path)([*parts, *alone])}
    for n in honesty.forms:
        one, other = effects[f"only:{n}"], effects[f"alone:{n}"]
        assert one.retained.mean == pytest.approx(other.retained.mean, abs=1e-4)
        assert one.size == pytest.approx(other.size, rel=1e-5)
        assert other.retained.mean > 0.02
    assert len(list(tmp_path.rglob("rows.parquet"))) == 1 + len(alone)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "neox", "phi3"])
def test_rows_that_are_alike_up_to_a_block_are_computed_once_up_to_there(kind):
    base = small.base(kind)
    direction = lowrank(base)
    blocks = [base.linears[m].block for m in direction.forms]
    own = torch.tensor([[float(b == at) for b in blocks] for at in (3, 1, 2)] + [[0.5] * len(blocks)])
    table, k = own.repeat(2, 1), len(own)
    beginnings, rests = ([list(r) for r in small.ids(2, n, seed=n).tolist() for _ in range(k)] for n in (5, 3))

    def logits(*ways):
        with torch.inference_mode(), steer(base, direction, table), ExitStack() as stack:
            for way in ways:
                stack.enter_context(way)
            first, cache, mask = extended(base, None, None, beginnings)
            return torch.stack([first, extended(base, cache, mask, rests)[0]])

    seen, counted = [], []
    apart = logits(_counting(base, seen))
    together = logits(sharing(base, table, list(direction.forms), k), _counting(base, counted))
    assert seen == [2 * k] * 8
    assert counted == [4, 6, 8, 8] * 2  # two prompts: two parts begin with block 0 or later, then three, then all four
    assert float((together - apart).abs().max()) < 1e-5
    assert float((apart[:, 0] - apart[:, 1]).abs().max()) > 1e-3


@contextmanager
def _counting(base, counted):
    """How many rows each block is given, in turn."""
    with ExitStack() as hooks:
        for block in blocks_of(base.model)[1]:
            hook = block.register_forward_pre_hook(
                lambda _, args, kwargs: counted.append(len(args[0] if args else kwargs["hidden_states"])),
                with_kwargs=True,
            )
            hooks.callback(hook.remove)
        yield


def test_a_variant_is_measured_once(tiny, honesty, tmp_path, monkeypatch):
    m = measure(tiny, honesty, tmp_path)
    first = m([Variant("a", scales={MODULES[0]: 1.0})])
    monkeypatch.setattr(measuring, "make_eval", None)
    again = m([Variant("a", scales={MODULES[0]: 1.0})])
    assert [e.delta for e in first] == [e.delta for e in again]


def test_a_share_of_an_effect_that_may_be_none_is_no_number(tiny, slopes, tmp_path):
    nothing = Direction(
        {n: (LowRank(torch.full((w.shape[0], 1), 1e-9), torch.ones(1, w.shape[1])),) for n, w in slopes.items()},
        {"base": tiny.described()},
    )
    effects = measure(tiny, nothing, tmp_path)([])
    assert abs(effects[0].delta.mean) < 1e-4
    assert all(math.isnan(e.retained.mean) for e in effects)


def test_random_controls_are_as_large_and_do_far_less(tiny, honesty, tmp_path):
    m = measure(tiny, honesty, tmp_path)
    effects = m(m.controls(5))
    low, high = spread(effects)
    assert -0.3 * effects[0].delta.mean < low < high < 0.3 * effects[0].delta.mean
    assert [e.size for e in effects[2:]] == pytest.approx([1.0] * 5, rel=1e-4)


def test_what_is_kept_and_what_is_left_say_what_they_are(tiny, honesty, tmp_path):
    kept = cropped(honesty, "rank:1")
    crop = Variant("cropped:rank:1", direction=kept, flags=Flags("same_direction", tautology=True, rank=1.0))
    half = restricted(honesty, keep=MODULES[:3])
    rest = complement(honesty, half)
    effects = {
        e.variant: e
        for e in measure(tiny, honesty, tmp_path)(
            [crop, Variant("half", direction=half), Variant("rest", direction=rest)]
        )
    }
    assert effects["cropped:rank:1"].retained.mean == pytest.approx(1, abs=1e-4)  # a rank-one direction at rank one
    assert effects["cropped:rank:1"].flags.tautology and effects["cropped:rank:1"].flags.circular
    assert 0.1 < effects["half"].retained.mean < 0.9 and 0.1 < effects["rest"].retained.mean < 0.9


def test_units_are_chosen_on_one_half_and_reported_on_the_other(tiny, honesty, tmp_path):
    m = measure(tiny, honesty, tmp_path)
    whole, even, odd = (replace(m, units=u)([])[0].delta for u in ("all", "even", "odd"))
    assert even.n + odd.n == whole.n and {even.n, odd.n} == {2}
    assert even.mean != odd.mean


def test_strength_zero_and_two_variants_of_one_name_are_refused(tiny, honesty, tmp_path):
    with pytest.raises(ValueError, match="at alpha 0 every variant is the untouched model"):
        measure(tiny, honesty, tmp_path, alpha=0.0)
    with pytest.raises(ValueError, match="two variants are called 'a'"):
        measure(tiny, honesty, tmp_path)([Variant("a", scales={}), Variant("a", scales={})])


def test_a_scrambled_direction_has_no_effect_worth_a_share(tiny, honesty, tmp_path):
    whole = measure(tiny, honesty, tmp_path / "a")([])[0].delta.mean
    assert abs(measure(tiny, scrambled(tiny, honesty, 0), tmp_path / "b")([])[0].delta.mean) < 0.2 * whole
    assert METRIC == "logratio_honesty"
