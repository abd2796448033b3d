"""The published fork's subspace table: its columns, and its definitions on whole matrices."""

import small
import torch
from test_steer import lowrank

from ws.explain.published import per_layer, summary
from ws.run_subspace import arguments

COLUMNS = [
    *("name", "layer_idx", "kind", "shape", "norm", "k", "r", "energy_top", "null_top", "ratio_top"),
    *("energy_weak", "null_weak", "ratio_weak"),
]


def test_the_table_has_the_published_columns_and_numbers():
    base = small.base()
    direction = lowrank(base, only="layers.1")
    lines = per_layer(base, direction)
    assert [list(line) for line in lines] == [COLUMNS] * 7
    head = torch.linalg.svd(base.model.lm_head.weight.double(), full_matrices=False)[2]
    for line in lines:
        name = line["name"].removesuffix(".weight")
        w, dw = base.weight(name).double(), direction.dense(name, base.weight).double()
        u, s, vh = torch.linalg.svd(w, full_matrices=False)
        inside = u.mT @ dw @ vh.mT
        k = line["k"]
        assert (line["r"], k) == (len(s), max(1, round(0.1 * len(s))))
        want = float(inside[:k, :k].square().sum() / inside.square().sum())
        assert abs(line["energy_top"] - want) < 1e-4 and abs(line["ratio_top"] - want * (len(s) / k) ** 2) < 1e-2
        assert abs(line["norm"] - float(dw.norm())) < 1e-4
        if line["kind"] in ("o_proj", "down_proj"):
            weak = float((head[-1:] @ dw).square().sum() / dw.square().sum())
            assert abs(line["energy_weak"] - weak) < 1e-4
        else:
            assert line["energy_weak"] is None
    kinds = summary(lines)
    assert [k["kind"] for k in kinds] == sorted(line["kind"] for line in lines)
    assert list(kinds[0]) == [
        "kind",
        "mean_ratio_top",
        "std_ratio_top",
        "mean_ratio_weak",
        "std_ratio_weak",
        "mean_norm",
        "n",
    ]


def test_the_door_names_the_run_as_the_fork_did():
    tail = ["--what", "svd_align,weak_readout", "--evals", "none"]
    assert arguments(["--behavior", "honesty", "--adapter=oft"]) == ["explain", "honesty/oft", *tail]
    assert arguments([]) == ["explain", "sycophancy/lora", *tail]
    assert arguments(["tiny-s0", "--out", "x"]) == ["explain", *tail, "tiny-s0", "--out", "x"]
