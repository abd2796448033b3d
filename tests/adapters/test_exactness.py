"""The factored change of every family is the very change peft's merge makes, in float64."""

import copy

import pytest
import small
import torch

from ws.adapters import FAMILIES, Adapter, direction_of
from ws.models.modules import is_conv1d, weight_of

PAIRS = [(f, m) for f in FAMILIES for m in ("llama", "qwen2", "qwen3")] + [
    (f, "gpt2") for f in FAMILIES if FAMILIES[f].conv1d
]


def trained(base, family, seed, layers=None):
    """An adapter whose tensors were moved at random, and the weights peft (or the definition) merges it to."""
    chosen = family.targets(layers or list(base.linears.values()))
    spec = family.spec(chosen, rank=4 if family.default_rank else None, lora_alpha=None)
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    start = family.start(base, spec) if family.start else {}
    with family.attached(base, spec, seed=seed) as attached:
        if start:
            attached.load(start)
        g = torch.Generator().manual_seed(100 + seed)
        with torch.no_grad():
            for p in attached.trainable.values():
                p.add_(0.05 * torch.randn(p.shape, generator=g, dtype=p.dtype))
        adapter = Adapter(spec, attached.state(), start)
        if family.whole:  # the state dict itself is the definition
            merged = dict(base.model.state_dict())
            for k in [k for k in merged if k in adapter.tensors and is_conv1d(base.linears[k[:-7]].module)]:
                merged[k] = merged[k].T
        elif family.attach:  # bias: the state-dict difference is the definition
            merged = dict(before)
            for k, v in adapter.tensors.items():
                merged[k] = before.get(k, torch.zeros_like(v)) + v
        else:
            whole = copy.deepcopy(attached.network).merge_and_unload()
            merged = dict(whole.state_dict())
    after = base.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    if start:  # peft merged s B A onto the whole base; PiSSA's start lies beside it
        for name in spec.modules:
            shift = spec.scale * start[f"{name}.lora_B.weight"] @ start[f"{name}.lora_A.weight"]
            merged[f"{name}.weight"] = merged[f"{name}.weight"] - (
                shift.T if is_conv1d(base.linears[name].module) else shift
            )
    return adapter, merged, before


def worst(direction, merged, before, base, scale=1.0):
    """max |factored - merged| over weights and biases, relative to the largest merged change."""
    largest, error = 0.0, 0.0
    for name in direction.forms:
        module = base.linears[name].module
        wanted = merged[f"{name}.weight"] - before[f"{name}.weight"]
        wanted = wanted.T if is_conv1d(module) else wanted
        got = direction.dense(name, lambda n: weight_of(base.linears[n].module))
        error, largest = max(error, float((got - wanted).abs().max())), max(largest, float(wanted.abs().max()))
        key = f"{name}.bias"
        if key in merged:
            moved = merged[key] - before.get(key, torch.zeros_like(merged[key]))
            shift = direction.bias(name)
            error = max(error, float(((0 if shift is None else shift) - moved).abs().max()))
            largest = max(largest, float(moved.abs().max()))
    return error / largest


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_direction_of_every_family_equals_the_merge_difference(name, kind):
    base, family = small.base(kind, dtype=torch.float64), FAMILIES[name]
    pos, merged_pos, before = trained(base, family, 0)
    neg, merged_neg, _ = trained(base, family, 1)
    plus, minus = direction_of(family, base, pos), direction_of(family, base, neg)
    for direction, merged, against in (
        (plus, merged_pos, before),
        (minus, merged_neg, before),
        (plus - minus, merged_pos, merged_neg),
    ):
        stored = direction.to(dtype=torch.float32).to(dtype=torch.float64)  # what a file holds
        assert worst(stored, merged, against, base) <= 1e-6
        assert worst(stored * 0.5, merged, against, base) > 0.1  # the check can fail
