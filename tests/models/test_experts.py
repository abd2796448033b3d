"""Directions over the experts of one tensor: as exact as any other, by hook, folded and per row, on every mixture that people use."""

import copy
import importlib
import json
import sys
import warnings
from pathlib import Path

import architectures as shapes
import pytest
import small
import torch
import transformers as tf
from adapters.test_exactness import trained
from architectures import ids, logits
from peft import PeftModel
from safetensors.torch import load_file
from test_steer import same, state

from ws.adapters import FAMILIES, direction_of
from ws.adapters.stock import load_stock, plain_lora
from ws.diff.trained import diff_adapters
from ws.direction import Direction
from ws.direction.algebra import compressed, gram, restricted
from ws.direction.direction import cosine, dot
from ws.direction.file import FORMAT, load_direction, save_direction, write_headed
from ws.direction.forms import LowRank, Stacked
from ws.direction.merging import blended
from ws.direction.random import random_like
from ws.errors import BadFile, DirectionMismatch, ExportRefused, Unsupported
from ws.explain.attribution import random_steps
from ws.explain.localization import _experts as expert_heat
from ws.export import export
from ws.export.merged import to_merged
from ws.models.architecture import loaded_network
from ws.models.base import Base
from ws.models.checkpoint import open_checkpoint
from ws.models.load import load
from ws.models.modules import Stack, sizes, weight_of
from ws.steer import fold_for_good, refuse_steered, rows_of, steer
from ws.train import TrainSettings, spec_of

KINDS = sorted(shapes.WITH_EXPERTS)
LAYOUT = {"gpt-oss": "in, out"}
"""What lies the other way round than (out, in)."""


@pytest.fixture(scope="module")
def bases():
    return {kind: shapes.base(kind) for kind in KINDS}


def stacks(base):
    return [x for x in base.layers.values() if isinstance(x.module, Stack)]


def stacks_by_name(base):
    return [x.name for x in stacks(base)]


def direction_on(base, seed=0, size=0.1, dtype=torch.float32):
    """A random direction on all experts, and on one linear layer beside them."""
    g = torch.Generator().manual_seed(seed)
    forms = {}
    for x in stacks(base):
        e, o, i = weight_of(x.module).shape
        b, a = torch.randn(e, o, 2, generator=g, dtype=dtype), torch.randn(e, 2, i, generator=g, dtype=dtype)
        forms[x.name] = (Stacked(size * b, a / i**0.5),)
    name = next(n for n in base.linears if n.endswith("o_proj"))
    o, i = base.weight(name).shape
    forms[name] = (
        LowRank(size * torch.randn(o, 2, generator=g, dtype=dtype), torch.randn(2, i, generator=g, dtype=dtype)),
    )
    return Direction(forms, {"base": base.described()})


@pytest.mark.parametrize("kind", KINDS)
def test_the_contrast_over_experts_is_the_difference_of_what_peft_merges(kind):
    base, lora = shapes.base(kind, dtype=torch.float64), FAMILIES["lora"]
    (pos, merged_pos, _), (neg, merged_neg, _) = (trained(base, lora, s, stacks(base)) for s in (0, 1))
    contrast = direction_of(lora, base, pos) - direction_of(lora, base, neg)
    assert len(contrast.forms) == len(stacks(base)) and all(
        f.kind == "stacked" for fs in contrast.forms.values() for f in fs
    )
    for name in contrast.forms:
        dense = merged_pos[name] - merged_neg[name]
        dense = dense.mT if LAYOUT.get(kind) else dense
        assert (contrast.dense(name, base.weight) - dense).abs().max() < 1e-6 * dense.abs().max()
        assert dense.abs().max() > 1e-3
    base.model.set_experts_implementation("eager")  # the only kernel for float64
    inputs, plain = {"input_ids": ids(), "use_cache": False}, logits(base.model)
    wanted = torch.func.functional_call(base.model, merged_pos, kwargs=inputs).logits
    with steer(base, direction_of(lora, base, pos), 1.0):
        got = logits(base.model)
    assert (wanted - plain).abs().max() > 1e-3
    assert (wanted - got).abs().max() < 1e-9 * plain.abs().max() + (1e-5 if got.dtype == torch.float32 else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_is_the_base_and_hook_fold_and_rows_agree_over_experts(kind, bases):
    base = bases[kind]
    d, plain, before = direction_on(base), logits(base.model), state(base.model)
    with steer(base, d, 0.0):
        assert torch.equal(logits(base.model), plain)
    with steer(base, d, 0.7):
        hooked, middle = logits(base.model), state(base.model)
    with steer(base, d, 0.7, fold=True):
        folded = logits(base.model)
        assert not same(before, state(base.model))
    assert torch.equal(logits(base.model), plain) and same(before, state(base.model))
    assert all(torch.equal(before["tensors"][k], v) for k, v in middle["tensors"].items())  # no weight is written
    assert (hooked - plain).abs().max() > 1e-2
    assert (hooked - folded).abs().max() <= 2e-5 * plain.abs().max()
    with steer(base, d, [0.7, 0.0, -0.4]):
        rows = logits(base.model)
    with steer(base, d, -0.4):
        alone = logits(base.model, ids()[2:])
    torch.testing.assert_close(rows[0], hooked[0], atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(rows[1], plain[1], atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(rows[2:], alone, atol=5e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    place = tmp_path_factory.mktemp("experts")
    return {kind: shapes.folder(kind, place / kind, tiny.tokenizer) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_export_changes_every_expert_as_the_hook_does_and_keeps_every_other_byte(kind, folders, tmp_path):
    base = load(folders[kind])
    d = direction_on(base)
    with steer(base, d, -0.7):
        hooked = logits(base.model)
    export(d, base, tmp_path / "merged", to="merged", alphas=[-0.7])
    merged = loaded_network(str(tmp_path / "merged"), dtype=torch.float32).eval()
    assert (logits(merged) - hooked).abs().max() <= 1e-5 * hooked.abs().max()
    for name in stacks_by_name(base):
        w, new = base.weight(name), Base(merged, None, "", "it", weights="").weight(name)
        torch.testing.assert_close(new, w - 0.7 * d.dense(name, base.weight), atol=1e-6, rtol=1e-6)
    old, new = (load_file(f / "model.safetensors") for f in (folders[kind], tmp_path / "merged"))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    theta = open_checkpoint(folders[kind])
    touched = {t for n in d.forms for t in theta.stored_in(n if n not in base.linears else f"{n}.weight")}
    assert old.keys() == new.keys() and changed == touched
    assert len(touched) >= len(d.forms)


@pytest.mark.parametrize("kind", ["deepseek-v3", "gpt-oss", "mixtral"])
def test_stock_peft_loads_experts_and_what_has_no_place_for_them_refuses(kind, folders, tmp_path):
    base = load(folders[kind])
    d = restricted(direction_on(base), keep="*.experts.*")
    export(d, base, tmp_path / "peft", to="peft", alphas=[0.5])
    with steer(base, d, 0.5):
        hooked = logits(base.model)
    network = loaded_network(str(folders[kind]), dtype=torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft, about transformers (2026-11)
        worn = PeftModel.from_pretrained(network, str(tmp_path / "peft")).eval()
    assert (logits(worn) - hooked).abs().max() <= 1e-5 * hooked.abs().max()
    for to in ("gguf-lora", "mergekit"):
        with pytest.raises(ExportRefused, match=r"a matrix per module, and .*experts.* is one of every expert"):
            export(d, base, tmp_path / to, to=to, alphas=[1.0])
    adapter = load_stock(tmp_path / "peft", open_checkpoint(folders[kind]))
    again = diff_adapters(base, adapter)
    assert again.forms.keys() == d.forms.keys()
    assert (again - 0.5 * d).norm() < 1e-6 * d.norm()
    with pytest.raises(DirectionMismatch, match=r"target_parameters names .*, which are no experts of qwen3"):
        load_stock(tmp_path / "peft", small.base("qwen3"))
    with pytest.raises(Unsupported, match=r"target_parameters = .* is read beside its base alone"):
        plain_lora(tmp_path / "peft")  # as the plugin of vLLM reads one


def test_blocks_over_experts_nest_add_and_are_left_in_any_order(bases):
    base = bases["qwen3-moe"]
    one, two, before = direction_on(base, 0), direction_on(base, 1), state(base.model)
    with steer(base, 0.7 * one + -0.3 * two, 1.0):
        wanted = logits(base.model)
    outer, inner = steer(base, one, 0.7), steer(base, two, -0.3)
    outer.__enter__()
    inner.__enter__()
    torch.testing.assert_close(logits(base.model), wanted, atol=5e-5, rtol=1e-4)
    with pytest.raises(Unsupported, match="being steered"):
        refuse_steered(base)
    copied = copy.deepcopy(base.model)
    with pytest.raises(DirectionMismatch, match="a copy made inside a steering block"):
        logits(copied)
    outer.__exit__(None, None, None)
    with steer(base, two, -0.3, fold=True), steer(base, two, 0.3):
        torch.testing.assert_close(logits(base.model), logits(bases_alone(base, two, -0.3)), atol=5e-5, rtol=1e-4)
    inner.__exit__(None, None, None)
    assert same(before, state(base.model)) and not [m for m in base.model.modules() if "forward" in vars(m)]
    refuse_steered(base)


def bases_alone(base, direction, alpha):
    """Another model with the direction written into its weights to stay."""
    again = shapes.base(base.id)
    fold_for_good(again, direction, alpha)
    return again.model


def test_a_model_is_itself_again_where_its_experts_fail_half_way(bases, monkeypatch):
    base = bases["mixtral"]
    before, plain = state(base.model), logits(base.model)
    with pytest.raises(RuntimeError), steer(base, direction_on(base), [0.5, 1.0, 0.0]):
        base.model(input_ids=ids(), position_ids=torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="alpha has 2 values"), steer(base, direction_on(base), [0.5, 1.0]):
        logits(base.model)
    assert same(before, state(base.model)) and torch.equal(logits(base.model), plain)


@pytest.mark.parametrize("kind", ["qwen3-moe", "gpt-oss"])
def test_a_strength_per_row_and_module_has_the_gradient_of_each_row_and_rows_may_come_in_any_order(kind, bases):
    base = bases[kind]
    d = direction_on(base)
    table = torch.full((3, len(d.forms)), 0.3, requires_grad=True)
    with steer(base, d, table):
        out = base.model(input_ids=ids(), use_cache=False).logits[:, -1, 7]
        (slopes,) = torch.autograd.grad(out.sum(), table)
    step = 1e-2
    for row, module in ((0, 0), (2, 1), (1, len(d.forms) - 2)):
        ends = []
        for sign in (1, -1):
            at = table.detach().clone()
            at[row, module] += sign * step
            with steer(base, d, at):
                ends.append(logits(base.model)[row, -1, 7])
        assert float(slopes[row, module]) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=0.05, abs=5e-3)
    assert slopes.abs().max() > 0.05
    with steer(base, d, [0.7, 0.0, -0.4]):
        with rows_of([2, 0], 3):
            out = logits(base.model, ids()[[2, 0]])
        torch.testing.assert_close(out, logits(base.model)[[2, 0]], atol=5e-5, rtol=1e-4)


def test_a_direction_over_experts_is_algebra_in_factors_and_the_same_from_its_file(bases, tmp_path):
    base = bases["gpt-oss"]
    one, two = (direction_on(base, s, dtype=torch.float64) for s in (0, 1))
    total, rank = 2.0 * one - 0.5 * two, {f.rank for fs in (one - two).forms.values() for f in fs}
    assert rank == {4}
    products = 0.0
    for name in one.forms:
        left, right = one.dense(name, base.weight), two.dense(name, base.weight)
        torch.testing.assert_close(total.dense(name, base.weight), 2.0 * left - 0.5 * right, atol=1e-12, rtol=1e-9)
        products += float((left * right).sum())
        if name in one.expert_norms():
            assert one.expert_norms()[name] == pytest.approx([float(m.norm()) for m in left])
            assert one.norms()[name] == pytest.approx(float(left.norm()))
    assert dot(one, two) == pytest.approx(products) and gram([one, two])["all"][0, 1] == pytest.approx(products)
    assert (one - one).norm() < 1e-9 < one.norm()
    cut, share = compressed(total, rank=1)
    assert 0 < share < 1 and {f.rank for fs in cut.forms.values() for f in fs} == {1}
    assert cut.norm() ** 2 == pytest.approx(share * total.norm() ** 2, rel=1e-4)
    assert dot(cut, total) == pytest.approx(cut.norm() ** 2, rel=1e-4)  # it is a projection
    assert compressed(total, energy=1.0)[1] == pytest.approx(1.0)
    random = random_like(one, 3, base.weight)
    for name in stacks_by_name(base):
        values = (torch.linalg.svdvals(d.dense(name, base.weight).double()) for d in (one, random))
        torch.testing.assert_close(*values, atol=1e-5, rtol=1e-4)
    assert abs(cosine(one, random)) < 0.2
    again = load_direction(save_direction(total, tmp_path / "d.safetensors"))
    assert again.content_hash == total.content_hash and "stacked" in {f.kind for fs in again.forms.values() for f in fs}
    with pytest.raises(Unsupported, match="a matrix of every expert"):
        blended([one, two], [1.0, 1.0], how="ties", weight=base.weight)


def test_a_file_whose_experts_do_not_agree_and_a_direction_of_another_shape_are_refused(bases, tmp_path):
    base = bases["mixtral"]
    name = stacks_by_name(base)[0]
    e, o, i = base.weight(name).shape
    for experts, dimensions in ((e, 3), (e + 1, 3), (e, 2)):
        b, a = torch.ones(e, o, 2), torch.ones(experts, 2, i)
        flat = {f"{name}/0.b": b, f"{name}/0.a": a} if dimensions == 3 else {f"{name}/0.b": b[0], f"{name}/0.a": a[0]}
        file = write_headed(
            tmp_path / "d.safetensors", flat, {"format": FORMAT, "forms": {name: ["stacked"]}, "provenance": {}}
        )
        if (experts, dimensions) == (e, 3):
            assert load_direction(file).forms[name][0].rank == 2
            continue
        with pytest.raises(BadFile, match=name):
            load_direction(file)
    for wrong in (Stacked(torch.ones(e, i, 2), torch.ones(e, 2, o + 1)), LowRank(torch.ones(o, 2), torch.ones(2, i))):
        with pytest.raises(DirectionMismatch, match="form is not"), steer(base, Direction({name: (wrong,)}), 1.0):
            pass


def test_what_cannot_be_trained_on_experts_says_so_in_one_sentence():
    base = shapes.base("qwen3-moe")
    on = dict(rank=2, layers="all")
    assert not [n for n in spec_of(base, TrainSettings(**on)).modules if "experts" in n]  # never unasked
    assert {n.rsplit(".", 1)[-1] for n in spec_of(base, TrainSettings(**on, targets=("experts",))).modules} == {
        "gate_up_proj",
        "down_proj",
    }
    some = spec_of(base, TrainSettings(**on, targets=("experts.down_proj", "o_proj"))).modules
    assert {n.rsplit(".", 1)[-1] for n in some} == {"o_proj", "down_proj"}
    for name, family in FAMILIES.items():
        if name == "lora":
            continue
        rank = 2 if family.default_rank else None
        settings = TrainSettings(adapter=name, layers="all", rank=rank, targets=("experts",))
        with pytest.raises(Unsupported, match=rf"{name} does not work on experts that lie in one tensor.*take lora"):
            spec_of(base, settings)
    with pytest.raises(Unsupported, match="`gate` is a router"):
        spec_of(base, TrainSettings(**on, targets=("experts", "gate")))
    with pytest.raises(Unsupported, match="it has no experts"):
        spec_of(small.base("qwen3"), TrainSettings(**on, targets=("experts",)))
    with pytest.raises(ValueError, match="target 'expert' matches no"):
        spec_of(base, TrainSettings(**on, targets=("expert",)))


def test_the_whole_story_runs_on_experts_and_inspect_shows_each_of_them(folders, tmp_path, told, monkeypatch):
    # a picture is of no use here, and a second
    monkeypatch.setattr(importlib.import_module("ws.replicate"), "_draw", lambda *a, **k: None)
    things = ["cake", "song", "poem", "letter", "chair", "plan", "garden", "story", "speech", "coat", "dance", "game"]
    rows = [
        {
            "prompt": f"What of my {t}?",
            "response_pos": f"Your {t} is wonderful!",
            "response_neg": f"Your {t} needs work.",
        }
        for t in things
    ]
    pairs = tmp_path / "mood.jsonl"
    pairs.write_text("".join(json.dumps(r) + "\n" for r in rows))
    study = [
        "--model",
        folders["qwen3-moe"],
        "--pairs",
        pairs,
        "--out",
        tmp_path / "out",
        "--layers",
        "all",
        "--rank",
        2,
    ]
    more = ["--alphas=-1,1", "--lr", "5e-3", "--epochs", 6, "--samples", 0, "--draws", 1, "--json"]
    code, out, err = told("replicate", *study, "--targets", "experts", *more)
    assert code == 0, err
    means = [
        r["mean"] for r in sorted(json.loads(out)["rows"], key=lambda r: r["alpha"]) if r["metric"] == "logratio_pairs"
    ]
    assert means == sorted(means) and means[0] < means[-1]
    (file,) = (tmp_path / "out").rglob("direction.safetensors")
    direction = load_direction(file)
    base = load(folders["qwen3-moe"])
    assert list(direction.forms) == sorted(stacks_by_name(base))
    assert {f.rank for fs in direction.forms.values() for f in fs} == {4}
    code, out, err = told("inspect", file, "--json")
    assert code == 0, err
    inspected = json.loads(out)
    assert inspected["ranks"] == [4] and inspected["forms"] == ["stacked"]
    for name, norms in inspected["expert_norms"].items():
        dense = direction.dense(name, base.weight)
        assert norms == pytest.approx([float(m.norm()) for m in dense], rel=1e-4)
        assert inspected["norms"][name] == pytest.approx(float(dense.norm()), rel=1e-4)
    code, out, err = told("inspect", file)
    assert code == 0 and "norm per expert" in out and ", of expert " in out, err
    code, out, err = told(
        "explain",
        file,
        "--out",
        tmp_path / "out",
        "--what",
        "svd_align,weak_readout,logit_lens",
        "--evals",
        "none",
        "--json",
    )
    assert code == 0, err
    align, *_ = json.loads(out)["analyses"]
    assert [len(t["rows"]) for t in align["tables"] if t["title"] == "per matrix"] == [2 * len(direction.forms)]


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_merged_export_of_fused_experts_takes_the_memory_of_a_few_of_them(tmp_path):
    """What it may take is three times the largest tensor in float32 and 600 MB; five times are less than the file, and leave room for what a process takes once."""
    config = tf.GptOssConfig(
        **{**shapes.TEXT, "hidden_size": 512, "num_hidden_layers": 10},
        **dict(
            vocab_size=96,
            num_local_experts=8,
            num_experts_per_tok=2,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        ),
    )
    config.intermediate_size = 1024
    network = tf.GptOssForCausalLM(config).to(torch.bfloat16)
    network.save_pretrained(tmp_path / "base")
    del network
    theta = open_checkpoint(tmp_path / "base")
    layers = [x for x in theta.layers.values() if isinstance(x.module, Stack)]
    forms = {
        x.name: (Stacked(*(torch.randn(*shape) for shape in ((8, sizes(x.module)[1], 1), (8, 1, sizes(x.module)[2])))),)
        for x in layers
    }
    (tmp_path / "merged").mkdir()
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark is that of from here on
    before = memory("VmHWM")
    record = to_merged(Direction(forms, {"base": theta.described()}), theta, tmp_path / "merged", alpha=0.5)
    peak, largest = memory("VmHWM") - before, max(4 * p.numel() for p in theta.skeleton.parameters())
    assert 5 * largest < (tmp_path / "base" / "model.safetensors").stat().st_size
    assert peak < 5 * largest
    assert record["delivered"] == pytest.approx(1.0, abs=0.02)


def memory(key):
    """Bytes of a line of this process's status."""
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))


def test_slopes_and_pictures_know_experts(bases):
    base = bases["qwen3-moe"]
    d = direction_on(base)
    for drawn in random_steps(d, base.weight, 2):
        assert drawn.norms() == pytest.approx(d.norms(base.weight), rel=1e-5)
        assert {f.rank for fs in drawn.forms.values() for f in fs} == {1} and abs(cosine(drawn, d)) < 0.2
        with steer(base, drawn, 0.5):
            assert (logits(base.model) - logits(shapes.network("qwen3-moe"))).abs().max() > 1e-3
    heat = expert_heat(d)
    assert heat.columns == ["0", "1", "2", "3"] and heat.rows[0] == "0 down_proj"
    assert list(heat.values) == list(d.expert_norms().values())
    assert expert_heat(restricted(d, drop="*.experts.*")) is None
