"""The published bf16 way loses small updates and keeps large ones; the table says how much."""

import copy
import math

import pytest
import small
import torch

from ws.adapters import FAMILIES, Adapter
from ws.analysis.rounding import upstream_bf16


def sides(base, size):
    """Two LoRA sides whose changes have entries of about `size`."""
    spec = FAMILIES["lora"].spec(list(base.linears.values()), rank=4, lora_alpha=4.0)
    made = []
    for seed in (0, 1):
        g = torch.Generator().manual_seed(seed)
        tensors = {}
        for name in spec.modules:
            o, i = base.weight(name).shape
            tensors[f"{name}.lora_A.weight"] = torch.randn(4, i, generator=g) / i**0.5
            tensors[f"{name}.lora_B.weight"] = size * torch.randn(o, 4, generator=g)
        made.append(Adapter(spec, tensors, {}, base.described()))
    return made


def test_small_updates_are_lost_in_bf16_and_large_ones_are_not():
    base = small.base("llama")
    lost, kept = (upstream_bf16(base, *sides(base, size)) for size in (1e-5, 1e-1))
    assert lost["cosine"] < 0.8 < 0.99 < kept["cosine"]
    assert lost["entries_changed"] < 0.5 < kept["entries_changed"]
    assert lost["energy_beyond_rank"] > 0.05 > kept["energy_beyond_rank"]
    assert kept["norm_ratio"] == pytest.approx(1, abs=0.01)


def test_a_small_alpha_arrives_less_than_a_large_one():
    base = small.base("llama")
    arrives = upstream_bf16(base, *sides(base, 1e-4))["arrives"]
    assert arrives[0.05] < arrives[1.0]
    assert 0.8 < arrives[1.0] < 1.2


def test_swapping_the_sides_changes_no_loss_and_equal_sides_have_none():
    base = small.base("llama")
    pos, neg = sides(base, 1e-3)
    assert upstream_bf16(base, neg, pos)["cosine"] == pytest.approx(upstream_bf16(base, pos, neg)["cosine"], abs=1e-6)
    assert math.isnan(upstream_bf16(base, pos, copy.copy(pos))["norm_ratio"])
