"""The dial adds exactly what it promises, to every architecture, and leaves no trace."""

import random

import pytest
import small
import torch
from adapters.test_exactness import trained
from torch import nn

from ws.adapters import FAMILIES, direction_of
from ws.direction import Direction
from ws.direction.forms import LowRank, RowScale
from ws.errors import DirectionMismatch
from ws.models.load import Base
from ws.models.modules import fingerprint, weight_of
from ws.steer import steer


def logits(base, ids=None, **inputs):
    model = base.model if isinstance(base, Base) else base
    with torch.no_grad():
        return model(input_ids=small.ids() if ids is None else ids, use_cache=False, **inputs).logits


def contrast(base, name):
    family = FAMILIES[name]
    (pos, *_), (neg, *_) = trained(base, family, 0), trained(base, family, 1)
    d = direction_of(family, base, pos) - direction_of(family, base, neg)
    return Direction(d.to(dtype=torch.float32).forms, {"base": base.described(), "adapter": name})


def lowrank(base, seed=0, rank=2, size=0.3, only=None):
    g = torch.Generator().manual_seed(seed)
    forms = {}
    for name in base.linears:
        if only is None or only in name:
            o, i = weight_of(base.linears[name].module).shape
            forms[name] = (
                LowRank(size * torch.randn(o, rank, generator=g), torch.randn(rank, i, generator=g) / i**0.5),
            )
    return Direction(forms, {"base": base.described()})


def state(model):
    return {
        "tensors": {k: v.clone() for k, v in model.state_dict().items()},
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "grad": [p.requires_grad for p in model.parameters()],
        "training": [m.training for m in model.modules()],
        "ids": [id(p) for p in model.parameters()],
    }


def same(a, b):
    return (
        a["tensors"].keys() == b["tensors"].keys()
        and all(torch.equal(a["tensors"][k], b["tensors"][k]) for k in a["tensors"])
        and all(a[k] == b[k] for k in ("hooks", "grad", "training", "ids"))
    )


@pytest.mark.parametrize("kind", sorted(small.BUILD))
def test_hook_and_fold_agree_on_every_architecture(kind):
    base = small.base(kind)
    d, before = lowrank(base, size=0.05), logits(base)
    with steer(base, d, 0.7):
        hooked = logits(base)
    with steer(base, d, 0.7, fold=True):
        folded = logits(base)
    assert (hooked - before).abs().max() > 1e-3
    assert (hooked - folded).abs().max() <= 1e-5 * before.abs().max()
    assert torch.equal(logits(base), before)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_hook_fold_and_peft_merge_give_the_same_logits_for_every_family(name):
    base = small.base("qwen2")
    adapter, merged, _ = trained(base, FAMILIES[name], 0)
    d = direction_of(FAMILIES[name], base, adapter).to(dtype=torch.float32)
    with steer(base, d, 1.0):
        hooked = logits(base)
    with steer(base, d, 1.0, fold=True):
        folded = logits(base)
    plain = logits(base)
    if name == "bias":  # a bias where there was none: write it in by hand
        for module in d.forms:
            base.linears[module].module.bias = nn.Parameter(merged[f"{module}.bias"])
    else:
        base.model.load_state_dict(merged)
    reference = logits(base)
    scale = (reference - plain).abs().max()
    assert scale > 1e-3
    assert (hooked - reference).abs().max() <= 1e-5 * plain.abs().max() + 1e-5 * scale
    assert (folded - reference).abs().max() <= 1e-5 * plain.abs().max() + 1e-5 * scale


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_alpha_per_row_equals_separate_runs(name):
    base = small.base("qwen2")
    d, ids = contrast(base, name), small.ids(3)
    with steer(base, d, [-1.0, 0.0, 0.5]):
        together = logits(base, ids)
    for row, alpha in enumerate((-1.0, 0.0, 0.5)):
        with steer(base, d, alpha):
            alone = logits(base, ids[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=2e-5, rtol=1e-4)  # fp32, another batch shape
    assert (together[0] - logits(base, ids)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "boft"])
def test_a_strength_per_row_and_module_equals_one_run_per_part(name):
    base = small.base("qwen2")
    d = contrast(base, name)
    names = list(d.forms)
    table = torch.zeros(5, len(names))
    table[0] = 1
    table[1, [n for n, x in enumerate(names) if ".1." in x]] = 1  # one layer alone
    table[2] = 1 - table[1]  # all but that
    table[3, ::2] = -0.5
    ids = small.ids(1).repeat(5, 1)
    plain = logits(base, ids)
    with steer(base, d, table):
        together = logits(base, ids)
    assert torch.equal(together[4], plain[4])
    for row in range(4):
        scaled = {n: tuple(f.scaled(float(table[row, at])) for f in d.forms[n]) for at, n in enumerate(names)}
        with steer(
            base, Direction({n: fs for n, fs in scaled.items() if table[row, names.index(n)]}, d.provenance), 1.0
        ):
            alone = logits(base, ids[:1])
        assert (alone[0] - plain[0]).abs().max() > 1e-3
        torch.testing.assert_close(together[row], alone[0], atol=2e-5, rtol=1e-4)  # fp32, batches of another shape


def test_modules_that_no_row_changes_are_not_touched_and_a_table_of_another_width_is_refused():
    base = small.base()
    d = lowrank(base)
    table = torch.zeros(3, len(d.forms))
    before = state(base.model)
    with steer(base, d, table):
        assert same(before, state(base.model))
        table[0, 0] = 1
        with steer(base, d, table):
            assert sum(state(base.model)["hooks"]) == sum(before["hooks"]) + 1
    for bad in (table[:, 1:], table * torch.nan):
        with pytest.raises(ValueError, match="an alpha per row and module"), steer(base, d, bad):
            pass
    with pytest.raises(ValueError, match="needs fold=False"), steer(base, d, table, fold=True):
        pass


def test_the_gradient_by_strengths_is_what_small_steps_give():
    base = small.base(dtype=torch.float64)
    d = lowrank(base).to(dtype=torch.float64)
    ids = small.ids(2)
    table = torch.zeros(2, len(d.forms), dtype=torch.float64, requires_grad=True)
    with steer(base, d, table):
        base.model(input_ids=ids, use_cache=False).logits[:, -1, 5].sum().backward()
    for module in (0, len(d.forms) - 1):
        ends = []
        for step in (-1e-2, 1e-2):
            moved = torch.zeros(2, len(d.forms), dtype=torch.float64)
            moved[:, module] = step
            with steer(base, d, moved):
                ends.append(logits(base, ids)[:, -1, 5])
        torch.testing.assert_close(table.grad[:, module], (ends[1] - ends[0]) / 2e-2, atol=2e-4, rtol=1e-2)
    assert table.grad.abs().min() > 0


def test_alpha_zero_is_bit_identical_and_alpha_one_is_not():
    base = small.base()
    d, before = lowrank(base), logits(base)
    for alpha in (0.0, -0.0, [0.0, 0.0, 0.0]):
        with steer(base, d, alpha):
            assert torch.equal(logits(base), before)
    with steer(base, d, 0.0):
        assert not any(m._forward_hooks for m in base.model.modules())
    with steer(base, d, 1.0):
        assert not torch.equal(logits(base), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hundred_random_nestings_with_exceptions_leave_no_trace(dtype):
    base = small.base("qwen2", dtype=dtype)
    base.model.train()
    some = [lowrank(base, s, only=o) for s, o in ((0, None), (1, "mlp"), (2, "q_proj"))] + [
        contrast(base, "ia3"),
        contrast(base, "boft"),
        contrast(base, "bias"),
    ]
    before, rng = state(base.model), random.Random(0)

    def nest(depth):
        if depth == 0:
            raise RuntimeError("inside")
        with steer(base, rng.choice(some), rng.choice([-1.0, 0.0, 0.3]), fold=rng.random() < 0.5):
            nest(depth - 1)

    for _ in range(100):
        with pytest.raises(RuntimeError, match="inside"):
            nest(rng.randint(1, 4))
    assert same(before, state(base.model))


@pytest.mark.parametrize(
    "folds", [(False, False, False), (True, True, True), (True, False, True), (False, True, False)]
)
def test_blocks_add_and_unwind_in_any_order(folds):
    base = small.base("qwen2")
    parts = [contrast(base, "ia3"), lowrank(base, 1, size=0.05), contrast(base, "oft")]
    alphas, before = (0.5, -0.3, 0.8), logits(base)
    snapshot = state(base.model)
    blocks = [steer(base, d, a, fold=f) for d, a, f in zip(parts, alphas, folds)]
    for b in blocks:
        b.__enter__()
    total = sum((a * d for d, a in zip(parts[1:], alphas[1:])), alphas[0] * parts[0])
    got = logits(base)
    blocks[0].__exit__(None, None, None)  # the first one leaves first
    rest = logits(base)
    blocks[2].__exit__(None, None, None)
    blocks[1].__exit__(None, None, None)
    assert torch.equal(logits(base), before)
    assert same(snapshot, state(base.model))
    with steer(base, total, 1.0):
        torch.testing.assert_close(got, logits(base), atol=3e-5, rtol=1e-4)
    with steer(base, alphas[1] * parts[1] + alphas[2] * parts[2], 1.0):
        torch.testing.assert_close(rest, logits(base), atol=3e-5, rtol=1e-4)
    assert (got - rest).abs().max() > 1e-3


def test_an_error_while_entering_leaves_the_model_untouched():
    base = small.base()
    snapshot = state(base.model)
    good = lowrank(base)
    last = sorted(good.forms)[-1]
    broken = Direction({**good.forms, last: (RowScale(torch.ones(5)),)}, good.provenance)
    for fold in (False, True):
        with pytest.raises(DirectionMismatch, match="do not fit"), steer(base, broken, 1.0, fold=fold):
            pass
    assert same(snapshot, state(base.model))


def test_a_module_that_is_not_there_is_an_error_not_a_skip():
    base = small.base()
    d = Direction({"model.layers.9.mlp.up_proj": (RowScale(torch.ones(64)),)})
    with pytest.raises(DirectionMismatch, match=r"1 of the 1 modules .* not in this model"), steer(base, d, 1.0):
        pass


def test_a_direction_for_another_base_is_refused_also_on_a_bare_module():
    base, other = small.base(seed=0), small.base(seed=1)
    d = lowrank(base)
    for target in (other, other.model):
        with pytest.raises(DirectionMismatch, match="`origin`"), steer(target, d, 1.0):
            pass
    with steer(base.model, d, 1.0):
        assert (logits(base) - small.base(seed=0).model(input_ids=small.ids()).logits).abs().max() > 1e-3


def test_a_bare_module_that_is_folded_still_counts_as_its_base():
    base = small.base()
    before = logits(base)
    with steer(base.model, lowrank(base, 0), 0.5, fold=True), steer(base.model, lowrank(base, 1), 0.5):
        assert not torch.equal(logits(base), before)


@pytest.mark.parametrize("name", ["lora", "ia3", "oft", "boft", "dora"])
@pytest.mark.parametrize("fold", [False, True])
def test_on_a_fine_tune_the_direction_is_still_that_of_its_origin(name, fold):
    origin, tuned = small.base("qwen2", seed=0), small.model("qwen2", seed=0)
    with torch.no_grad():
        for p in tuned.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(7)))
    tuned = Base(tuned, None, fingerprint(tuned), "tuned")
    d = contrast(origin, name)
    with pytest.raises(DirectionMismatch), steer(tuned, d, 1.0):
        pass
    with steer(tuned, d, 0.6, origin=origin, fold=fold):
        got = logits(tuned)
    plain = logits(tuned)
    for module in d.forms:  # theta_ft + alpha * dW, with dW built from the origin's weights
        layer = tuned.linears[module].module
        with torch.no_grad():
            layer.weight += 0.6 * d.dense(module, origin.weight)
            if d.bias(module) is not None:
                layer.bias += 0.6 * d.bias(module)
    torch.testing.assert_close(got, logits(tuned), atol=3e-5, rtol=1e-4)
    assert (got - plain).abs().max() > 1e-3


def test_the_model_is_usable_after_a_batch_of_the_wrong_size():
    base = small.base()
    before = logits(base)
    with (
        pytest.raises(ValueError, match=r"alpha has 2 values, .* a batch of 3\."),
        steer(base, lowrank(base), [1.0, -1.0]),
    ):
        logits(base, small.ids(3))
    assert torch.equal(logits(base), before)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), [1.0, float("nan")], torch.ones(1, 1)])
def test_an_alpha_that_is_no_strength_is_refused(alpha):
    base = small.base()
    with pytest.raises(ValueError, match="alpha"), steer(base, lowrank(base), alpha):
        pass


def test_one_direction_in_two_blocks_counts_twice_also_with_an_alpha_per_row():
    base = small.base()
    d, before = lowrank(base, size=0.05), logits(base)
    with steer(base, d, [1.0, -0.5, 0.0]):
        with steer(base, d, [1.0, -0.5, 2.0]):
            twice = logits(base)
        once = logits(base)
    assert torch.equal(logits(base), before)
    for alphas, got in (([2.0, -1.0, 2.0], twice), ([1.0, -0.5, 0.0], once)):
        with steer(base, d, alphas):
            torch.testing.assert_close(got, logits(base), atol=1e-5, rtol=1e-4)
    assert (twice - once).abs().max() > 1e-3


def test_a_direction_of_another_precision_is_brought_to_that_of_the_sums():
    base = small.base()
    d = lowrank(base, size=0.05)
    with steer(base, d, 1.0):
        wanted = logits(base)
    with steer(base, d.to(dtype=torch.float64), 1.0):
        assert torch.equal(logits(base), wanted)


def test_folding_takes_one_strength_only():
    base = small.base()
    with pytest.raises(ValueError, match="fold=False"), steer(base, lowrank(base), [1.0, 0.0, 0.0], fold=True):
        pass


def test_a_step_that_rounding_swallows_is_said(caplog):
    base = small.base(dtype=torch.bfloat16)
    d, shares = lowrank(base, size=1e-3), []
    before = {name: base.weight(name).float().clone() for name in d.forms}
    with steer(base, d, 0.05, fold=True):
        for name, w in before.items():
            step = 0.05 * d.dense(name, lambda _, w=w: w)
            shares.append(float(((base.weight(name).float() - w) * step).sum() / step.square().sum()))
    assert 0.1 < (mean := sum(shares) / len(shares)) < 0.9
    assert f"let only {100 * mean:.0f} % of this step arrive" in caplog.text
    caplog.clear()
    with steer(base, lowrank(base, size=0.3), 1.0, fold=True):
        pass
    assert not caplog.text


def test_in_bf16_a_real_step_arrives_by_hook_as_by_fold():
    base, exact = small.base(dtype=torch.bfloat16), small.base()
    exact.model.load_state_dict({k: v.float() for k, v in base.model.state_dict().items()})
    d = lowrank(base, size=0.1)
    with steer(exact.model, Direction(d.forms), 1.0):
        wanted = logits(exact) - small.base().model(input_ids=small.ids()).logits * 0
    for fold in (False, True):
        with steer(base, d, 1.0, fold=fold):
            got = logits(base).float()
        noise = (got - wanted).norm() / (wanted - logits(exact)).norm()
        assert noise < 0.35  # bf16 activations: noise of this order, and no bias


def test_a_fold_that_fails_half_way_leaves_nothing_switched_on(monkeypatch):
    base = small.base()
    d, before = lowrank(base, size=0.3), state(base.model)
    dense, calls = LowRank.dense, []

    def fails_once(self, w):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("out of memory")
        return dense(self, w)

    monkeypatch.setattr(LowRank, "dense", fails_once)
    with pytest.raises(torch.OutOfMemoryError), steer(base, d, 1.0, fold=True):
        pass
    assert same(before, state(base.model))
    with steer(base, d, 0.5, fold=True):
        name = sorted(d.forms)[2]
        moved = weight_of(base.linears[name].module) - before["tensors"][f"{name}.weight"]
        torch.testing.assert_close(moved, 0.5 * d.dense(name, base.weight), atol=1e-6, rtol=1e-4)
    assert same(before, state(base.model))


def test_autocast_around_a_block_does_not_round_the_change():
    base = small.base()
    d = lowrank(base, size=0.3)
    name = sorted(d.forms)[0]
    before = weight_of(base.linears[name].module).clone()
    with torch.autocast("cpu", torch.bfloat16), steer(base, d, 1.0, fold=True):
        moved = weight_of(base.linears[name].module) - before
    torch.testing.assert_close(moved, d.dense(name, base.weight), atol=1e-6, rtol=1e-4)


def test_a_folded_bias_on_a_bare_module_does_not_make_it_another_base():
    base = small.base()
    d = contrast(base, "bias")
    with steer(base.model, d, 1.0, fold=True), steer(base.model, d, 1.0):
        assert base.linears[sorted(d.forms)[0]].module.bias is not None
        assert not base.model(
            input_ids=small.ids()
        ).logits.requires_grad  # nor does what folding adds ask for gradients
    assert base.linears[sorted(d.forms)[0]].module.bias is None


def test_a_direction_that_steered_where_no_gradient_is_kept_can_be_differentiated_after(tiny):
    direction = lowrank(tiny)
    with torch.inference_mode(), steer(tiny, direction, [1.0, -1.0]):
        tiny.model(input_ids=torch.tensor([[5, 9, 7]] * 2))
    alpha = torch.ones(1, requires_grad=True)
    with steer(tiny, direction, alpha[:, None].expand(1, len(direction.forms))):
        tiny.model(input_ids=torch.tensor([[5, 9, 7]])).logits.logsumexp(-1).sum().backward()
    assert alpha.grad.abs() > 0
