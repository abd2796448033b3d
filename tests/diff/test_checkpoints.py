"""A difference of checkpoints steers one into the other; what it cannot hold is counted."""

import json
import math
import shutil

import pytest
import small
import torch
from adapters.test_stock import MODULES, stock
from safetensors.torch import load_file, save_file
from test_steer import lowrank

from ws.adapters.stock import load_stock
from ws.diff import diff_adapters, diff_checkpoints, diff_named, from_tensors
from ws.direction import load as load_direction
from ws.direction import save
from ws.direction.forms import LowRank
from ws.errors import BadFile, DirectionMismatch
from ws.models.checkpoint import open_checkpoint
from ws.models.load import load
from ws.models.modules import linears_of
from ws.steer import steer


@pytest.fixture(scope="module")
def tuned(tiny, tmp_path_factory):
    """A base and two fine-tunes of it: `a` moves linear layers and biases alone, `b` also embeddings and norms."""
    root = tmp_path_factory.mktemp("tuned")
    for kind in ("qwen2", "gpt2"):
        for name, seed in (("base", None), ("a", 1), ("b", 2)):
            model = small.model(kind, vocabulary=len(tiny.tokenizer))
            inside = {f"{x.name}.{k}" for x in linears_of(model) for k in ("weight", "bias")}
            g = torch.Generator().manual_seed(seed or 0)
            for n, p in model.named_parameters():
                if seed and (name == "b" or n in inside):
                    p.data += 0.02 * torch.randn(p.shape, generator=g)
            model.save_pretrained(root / kind / name, max_shard_size="200KB")
            tiny.tokenizer.save_pretrained(root / kind / name)
    return root


def logits(model):
    x = torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(input_ids=x, use_cache=False).logits


@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
@pytest.mark.parametrize("fold", [False, True])
def test_a_base_plus_its_task_vector_is_the_fine_tune(tuned, kind, fold):
    base, tune = load(tuned / kind / "base"), load(tuned / kind / "a")
    tau, theta = diff_named(str(tuned / kind / "a"), str(tuned / kind / "base"))
    assert theta.fingerprint == base.fingerprint == tau.fingerprint
    assert tau.provenance["left_out"] == {"tensors": 0, "names": [], "energy_share": 0.0}
    plain = logits(base.model)
    with steer(base, tau, 1.0, fold=fold):
        steered = logits(base.model)
    assert (steered - logits(tune.model)).abs().max() < 1e-5 * plain.abs().max()
    assert (steered - plain).abs().max() > 1e-2


def test_what_a_direction_cannot_hold_is_counted_and_written_down(tuned, tmp_path):
    b, base = (open_checkpoint(tuned / "qwen2" / n) for n in ("b", "base"))
    told = diff_checkpoints(b, base).provenance["left_out"]
    pairs = {n: (b.tensor(n).double() - base.tensor(n).double()).square().sum() for n in b.names}
    inside = {f"{n}.{k}" for n in b.linears for k in ("weight", "bias")}
    outside = sum(float(v) for n, v in pairs.items() if n not in inside)
    assert told["tensors"] == len([n for n in b.names if n not in inside]) > 5
    assert told["energy_share"] == pytest.approx(outside / sum(map(float, pairs.values())))
    file = save(diff_checkpoints(b, base), tmp_path / "d.safetensors")
    assert load_direction(file).provenance["left_out"] == told


def test_two_fine_tunes_of_one_base_make_a_direction_for_that_base(tuned):
    a, b, base = (str(tuned / "qwen2" / n) for n in ("a", "b", "base"))
    d, theta = diff_named(a, b, model=base)
    whole, _ = diff_named(a, base)
    part, _ = diff_named(b, base)
    assert theta.id == "base" and d.fingerprint == whole.fingerprint
    less = whole - part
    assert (d - less).norm() < 1e-6 * d.norm()


def test_a_cut_difference_keeps_the_share_it_says(tuned):
    a, base = (str(tuned / "qwen2" / n) for n in ("a", "base"))
    whole, _ = diff_named(a, base)
    cut, _ = diff_named(a, base, rank=4)
    kept = cut.provenance["compressed"]["kept"]
    assert {f.kind for fs in cut.forms.values() for f in fs} == {LowRank.kind, "bias"}
    assert (cut.norm() / whole.norm()) ** 2 == pytest.approx(kept, abs=1e-5)
    assert 0.05 < kept < 0.9


def test_plain_tensors_make_the_same_direction_as_the_checkpoints(tuned, tmp_path):
    tune, base = (open_checkpoint(tuned / "gpt2" / n) for n in ("a", "base"))
    changes = {
        n: tune.tensor(n) - base.tensor(n)
        for n in base.names
        if n.removesuffix(".weight").removesuffix(".bias") in base.linears
    }
    d = from_tensors(base, changes)
    assert (d - diff_checkpoints(tune, base)).norm() < 1e-6 * d.norm()
    save_file(changes, tmp_path / "plain.safetensors")
    again, _ = diff_named(str(tmp_path / "plain.safetensors"), model=str(tuned / "gpt2" / "base"))
    assert {n: [f.kind for f in fs] for n, fs in again.forms.items()} == {
        n: [f.kind for f in fs] for n, fs in d.forms.items()
    }
    assert (again - d).norm() < 1e-6 * d.norm()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("model.layers.9.mlp.up_proj.weight", torch.zeros(64, 32), "no weight or bias of a linear layer"),
        ("model.layers.0.mlp.up_proj.scale", torch.zeros(64, 32), "no weight or bias of a linear layer"),
        ("model.layers.0.mlp.up_proj.weight", torch.zeros(32, 64), r"is \(32, 64\)"),
        ("model.layers.0.mlp.up_proj.weight", torch.full((64, 32), math.nan), "not finite"),
        ("model.layers.0.mlp.up_proj.weight", torch.zeros(64, 32, dtype=torch.int8), "holds int8"),
    ],
)
def test_plain_tensors_that_do_not_fit_are_refused(key, value, says):
    with pytest.raises((DirectionMismatch, BadFile), match=says):
        from_tensors(small.base("llama"), {key: value})


def test_models_that_cannot_be_subtracted_are_refused(tuned, tmp_path):
    base, a = str(tuned / "qwen2" / "base"), str(tuned / "qwen2" / "a")
    with pytest.raises(DirectionMismatch, match="different linear layers"):
        diff_named(base, str(tuned / "gpt2" / "base"))
    with pytest.raises(DirectionMismatch, match="same model"):
        diff_named(base, base)
    save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(BadFile, match="name no base"):
        diff_named(str(tmp_path / "x.safetensors"))
    d, _ = diff_named(a, base)
    save(d, tmp_path / "d.safetensors")
    with pytest.raises(DirectionMismatch, match="made from base"):
        diff_named(str(tmp_path / "d.safetensors"), model=a)
    with pytest.raises(BadFile, match=r"give it with `model`|cannot be reached"):
        diff_named(str(tmp_path / "d.safetensors"))

    shutil.copytree(a, tmp_path / "nan")
    shard = tmp_path / "nan" / open_checkpoint(a).places["model.layers.0.mlp.up_proj.weight"]
    tensors = load_file(shard)
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = math.nan
    save_file(tensors, shard, metadata={"format": "pt"})
    with pytest.raises(BadFile, match="not finite"):
        diff_named(str(tmp_path / "nan"), base)


def test_a_change_too_small_for_a_fingerprint_is_still_a_difference(tuned, tmp_path):
    """A fingerprint looks at 1,024 values a matrix, rounded; a difference looks at all."""
    base = tuned / "gpt2" / "base"
    shutil.copytree(base, tmp_path / "one")
    shard = tmp_path / "one" / open_checkpoint(base).places["transformer.h.1.mlp.c_fc.weight"]
    tensors = load_file(shard)
    weight, mark, at = tensors["transformer.h.1.mlp.c_fc.weight"], open_checkpoint(base).fingerprint, 0
    while True:  # a place that the fingerprint does not look at
        weight.view(-1)[at] += 1
        save_file(tensors, shard, metadata={"format": "pt"})
        if open_checkpoint(tmp_path / "one").fingerprint == mark:
            break
        weight.view(-1)[at] -= 1
        at += 1
    d, _ = diff_named(str(tmp_path / "one"), str(base))
    assert d.norm() == pytest.approx(1, abs=1e-6)
    save(d, tmp_path / "d.safetensors")
    with pytest.raises(DirectionMismatch, match="different bases"):
        diff_named(str(tmp_path / "one"), str(tmp_path / "d.safetensors"), model=str(base))


def test_where_a_folder_holds_both_kinds_the_one_that_transformers_loads_is_read(tuned, tmp_path):
    import transformers

    shutil.copytree(tuned / "qwen2" / "a", tmp_path / "both")
    other = small.model("qwen2", seed=7, vocabulary=len(load(tuned / "qwen2" / "a").tokenizer))
    other.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "both")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "both")
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(open_checkpoint(tmp_path / "both").tensor(name), loaded.get_parameter(name))


def test_stored_values_are_subtracted_whatever_the_config_says(tuned, tmp_path):
    a, base = tuned / "qwen2" / "a", tuned / "qwen2" / "base"
    exact, _ = diff_named(str(a), str(base))
    for name, source in (("a", a), ("base", base)):
        shutil.copytree(source, tmp_path / name)
        config = json.loads((source / "config.json").read_text())
        (tmp_path / name / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    d, _ = diff_named(str(tmp_path / "a"), str(tmp_path / "base"))
    for name, (dense, *_) in exact.forms.items():
        assert torch.equal(d.forms[name][0].m, dense.m)


def test_exports_and_hub_folders_are_sides_too(tuned, tmp_path):
    from ws.direction import save_pretrained
    from ws.export import export

    folder = tuned / "qwen2" / "base"
    base = load(folder)
    d = lowrank(base, size=0.05)
    export(d, base, tmp_path / "with+plus", to="peft", alphas=[0.5])
    save_pretrained(d, tmp_path / "hub")
    for side in (f"{folder}+{tmp_path / 'with+plus'}", str(tmp_path / "with+plus")):
        assert (diff_named(side)[0] - 0.5 * d).norm() < 1e-6 * d.norm()
    found, _ = diff_named(str(tmp_path / "hub"), model=str(folder))
    assert (found - d).norm() < 1e-6 * d.norm()
    with pytest.raises(DirectionMismatch, match="same model"):
        diff_named(str(tmp_path / "with+plus"), str(tmp_path / "with+plus"))
    for empty in ("tiny+", "+x"):
        with pytest.raises(BadFile, match="one of the two is empty"):
            diff_named(empty)


def test_nothing_but_a_direction_is_overwritten(tuned, tmp_path, capsys):
    from ws.cli import main

    shutil.copytree(tuned / "gpt2" / "a", tmp_path / "a")
    file = sorted((tmp_path / "a").glob("*.safetensors"))[0]
    before = file.read_bytes()
    sides = [str(tmp_path / "a"), str(tuned / "gpt2" / "base")]
    assert main(["diff", *sides, "--out", str(file)]) == 2
    assert "nothing else is overwritten" in capsys.readouterr().err
    assert file.read_bytes() == before
    for _ in range(2):
        assert main(["diff", *sides, "--out", str(tmp_path / "d.safetensors")]) == 0
    assert main(["diff", *sides, "--out", str(tmp_path / "no" / "d.safetensors")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_resized_vocabulary_is_left_out_and_said(tuned, tmp_path):
    theta = open_checkpoint(tuned / "qwen2" / "base")
    model = small.model("qwen2", seed=3, vocabulary=len(load(tuned / "qwen2" / "base").tokenizer) + 8)
    model.save_pretrained(tmp_path / "wide")
    told = diff_checkpoints(open_checkpoint(tmp_path / "wide"), theta).provenance["left_out"]
    assert "model.embed_tokens.weight" in told["names"]
    assert told["energy_share"] is None


def test_adapters_runs_and_direction_files_are_named_by_text(tiny, tmp_path, monkeypatch):
    """The same direction, reached from the study, the run, the adapters and the file."""
    from test_train import PAIRS, quick

    from ws.behaviors import load_behavior
    from ws.data import default_data
    from ws.pairs import save_pairs
    from ws.study.plan import Plan
    from ws.study.stages import make_direction, make_pairs, make_sides

    save_pairs(PAIRS, tmp_path / "p.jsonl")
    plan = Plan(
        tiny,
        load_behavior("honesty", tiny=True),
        default_data(tiny),
        quick(),
        out=tmp_path / "out",
        pairs_file=tmp_path / "p.jsonl",
    )
    sides, _ = make_sides(plan, make_pairs(plan)[0])
    direction, record = make_direction(plan, sides)
    run = plan.run_folder
    pos, neg, file = run / "train" / "pos", run / "train" / "neg", record.folder / "direction.safetensors"
    tau, _ = diff_named(f"tiny+{pos}")
    for left, right in [
        (str(run), None),
        (run.name, "tiny"),
        (str(file), None),
        (f"tiny+{pos}", f"tiny+{neg}"),
        (str(pos), str(neg)),
    ]:
        found, theta = diff_named(left, right, out=tmp_path / "out")
        assert theta.fingerprint == tiny.fingerprint
        assert (found - direction).norm() <= 1e-6 * direction.norm(), (left, right)
    assert (diff_named(str(run), str(pos))[0] - (direction - tau)).norm() < 1e-6 * direction.norm()
    assert (diff_named("tiny", str(file))[0] + direction).norm() < 1e-6 * direction.norm()
    with pytest.raises(BadFile, match=r"no adapter folder at \.\./nowhere"):
        diff_named("tiny+../nowhere")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["lora", "dora", "pissa", "ia3"])
def test_the_direction_of_two_adapters_is_the_same_on_an_opened_checkpoint(tiny, tmp_path, kind):
    small.model("llama").save_pretrained(tmp_path / "base")
    tiny.tokenizer.save_pretrained(tmp_path / "base")
    stock(kind, tmp_path / "a")
    stock(kind, tmp_path / "b", seed=1)
    made = []
    for base in (load(tmp_path / "base"), open_checkpoint(tmp_path / "base")):
        made.append(diff_adapters(base, load_stock(tmp_path / "a", base), load_stock(tmp_path / "b", base)))
    assert made[0].content_hash == made[1].content_hash
    assert sorted(made[0].forms) == sorted(MODULES)
