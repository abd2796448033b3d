"""A cached stage is never stale: whatever can change a number is in the key of every stage that holds the number."""

import copy
import inspect
import json
import shutil
import struct
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from safetensors.torch import load_file, save_file

import ws
from ws import records
from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings
from ws.cli import main
from ws.data import DataSettings, default_data
from ws.diff.named import diff_named
from ws.direction import Direction, save
from ws.direction.forms import Dense
from ws.errors import Unsupported
from ws.eval import PROTOCOLS, Evaluation, protocol
from ws.eval.questions import ItemQuestions, RunPairs, items_of
from ws.grid.cells import cell_plan, keep, place_of
from ws.grid.compare import cells_of
from ws.methods import as_method
from ws.methods.activation.method import Activation, Add, block_name
from ws.models.load import load
from ws.models.tiny import FOLDER
from ws.pairs import Pair, Pairs
from ws.records import canonical
from ws.study.evaluations import Subject, make_eval, make_reference
from ws.study.keys import base_key
from ws.study.plan import Plan
from ws.study.stages import calibration_place, make_pairs
from ws.train import TrainSettings, default_train

DILEMMAS = str(FOLDER.parent / "evals" / "dilemmas.jsonl")
QUICK = DataSettings(n_topics=6, n_samples=1, n_personas=1, max_new_tokens=6, min_distinct=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shutil.copytree(FOLDER, tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def honesty():
    return load_behavior("honesty", tiny=True)


def edit_row(weights: Path, row: int) -> None:
    """Draw one row of the embedding anew, where it stands in the file."""
    with open(weights, "r+b") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        told = json.loads(f.read(size))["model.embed_tokens.weight"]
        assert told["dtype"] == "F32"
        width = told["shape"][1]
        f.seek(8 + size + told["data_offsets"][0] + 4 * width * row)
        f.write(np.random.default_rng(row).normal(scale=0.3, size=width).astype("float32").tobytes())


class Asking(Exception):
    """Raised in place of making a stage."""


@pytest.fixture
def key(monkeypatch):
    """The key of the stage that a call would make; nothing is made."""

    def of(call, *args, **options):
        def instead(folder, stage, settings, inputs, make, **more):
            raise Asking(records.key_of(stage, settings, inputs))

        with monkeypatch.context() as m:
            m.setattr(records, "once", instead)
            with pytest.raises(Asking) as asked:
                call(*args, **options)
        return str(asked.value)

    return of


def change_of(base, size: float = 1.0) -> Direction:
    name = next(iter(base.linears))
    return Direction({name: (Dense(size * torch.ones_like(base.weight(name))),)}, {"base": base.described()})


def place(cell, base, behavior):
    """Where a cell lies of which this is the base and this the behavior, whatever they are called."""
    keep(base, cell.common)
    return place_of(cell, replace(cell_plan(cell)[0], behavior=behavior))


def keys_of(base, behavior, direction, out, key) -> dict[str, str]:
    """The key of every kind of stage on a base."""
    plan = Plan(base, behavior, default_data(base), default_train(base, "bias"), out)
    dilemmas = Evaluation("dilemmas", data=DILEMMAS)
    first = Evaluation("dilemmas", data=DILEMMAS, limit=2).questions(base)
    evals = [Evaluation("dilemmas", "dd-1f/1", data=DILEMMAS)]
    (cell,) = cells_of(base, behavior, ["sl:mean_diff"], evals=evals, alphas=(-1, 1), out=out)
    return {
        "data": plan.data_place.key,
        "train": plan.train_place.key,
        "direction": plan.direction_place.key,
        "calibrate": calibration_place(base, as_method(direction), CalibrateSettings(), out, behavior=behavior).key,
        "eval": key(make_eval, Subject(base, direction, out, "ws:x"), dilemmas, alphas=(-1, 1)),
        "eval of the bare model": key(make_eval, Subject(base, None, out, "ws:x"), dilemmas, alphas=(-1, 1)),
        "reference": key(make_reference, first, out),
        "cell": place(cell, base, behavior).key,
    }


# ---------------------------------------------------------------- the model


def test_one_edited_embedding_row_makes_every_stage_of_a_model_folder_again(folder, honesty, tmp_path, key):
    weights = folder / "model.safetensors"
    before = load(folder)
    row = before.tokenizer.convert_tokens_to_ids("Ġthe")
    direction = change_of(before)

    def made(base, out):
        pairs, record = make_pairs(Plan(base, honesty, QUICK, default_train(base, "bias"), out))
        questions = Evaluation("dilemmas", data=DILEMMAS, limit=6).questions(base)
        reference = make_reference(questions, out)
        scores = [s.logratio for s in questions.unsteered(reference.folder)]
        return pairs.content_hash, scores, (record.reused, reference.reused)

    old = made(before, tmp_path / "out")
    keys = keys_of(before, honesty, direction, tmp_path, key)
    edit_row(weights, row)
    after = load(folder)
    assert after.fingerprint == before.fingerprint  # a sample of 1,024 values of 364,000 does not see it
    again, fresh = made(after, tmp_path / "out"), made(after, tmp_path / "fresh")
    assert old[2] == again[2] == fresh[2] == (False, False)
    assert again[:2] == fresh[:2]
    assert max(abs(a - b) for a, b in zip(again[1], old[1])) > 0.01  # nats
    new = keys_of(after, honesty, direction, tmp_path, key)
    assert {stage for stage in keys if keys[stage] == new[stage]} == set()
    # and back again, byte for byte: everything is found
    shutil.copy(FOLDER / "model.safetensors", weights)
    assert made(load(folder), tmp_path / "out") == (*old[:2], (True, True))
    assert keys_of(load(folder), honesty, direction, tmp_path, key) == keys


def test_a_change_of_precision_keeps_a_direction_usable_and_no_stage(folder, tiny, honesty, tmp_path, key):
    direction = change_of(tiny)
    half = shutil.copytree(FOLDER, tmp_path / "half")
    load("tiny").model.to(torch.bfloat16).save_pretrained(half)
    for base in (load(folder, dtype="bfloat16"), load(half), load(half, dtype="bfloat16")):
        assert base.fingerprint == tiny.fingerprint
        with ws.steer(base, direction, 1.0):
            pass
        mine, other = (keys_of(b, honesty, direction, tmp_path, key) for b in (tiny, base))
        assert {stage for stage in mine if mine[stage] == other[stage]} == set()
    assert load(folder, dtype="bfloat16").weights_hash == tiny.weights_hash != load(half).weights_hash


def test_a_direction_made_on_other_bytes_of_its_base_steers_and_both_names_are_told(folder, tiny, tmp_path, capsys):
    weights, file = folder / "model.safetensors", tmp_path / "direction.safetensors"
    edit_row(weights, 7)
    edited = load(folder)
    direction = change_of(edited)
    shutil.copy(FOLDER / "model.safetensors", weights)
    base = direction.provenance["base"]
    assert (base["fingerprint"], base["weights_hash"]) == (tiny.fingerprint, edited.weights_hash)
    # one change, of which the two say different things: how it scores on a base does not depend on what made it
    assert direction.content_hash == change_of(tiny).content_hash
    assert direction.content_hashes[1] != change_of(tiny).content_hashes[1]
    one = Evaluation("dilemmas", data=DILEMMAS, limit=1)
    _, record = make_eval(Subject(tiny, direction, tmp_path, "ws:x"), one, alphas=(-1, 1))
    assert record.manifest["made_on"] == base
    assert record.manifest["inputs"]["weights"] == tiny.weights_hash != base["weights_hash"]
    save(direction, file)
    for model, other in (("tiny", tiny.weights_hash), (str(folder), tiny.weights_hash)):
        assert main(["inspect", str(file), "--model", model]) == 0
        assert f"other bytes (weights {other[:16]})" in " ".join(capsys.readouterr().out.split())
    save(change_of(tiny), file)
    assert main(["inspect", str(file), "--model", "tiny"]) == 0
    told = capsys.readouterr().out
    assert "other bytes" not in told and tiny.weights_hash[:16] in told


# ---------------------------------------------------------------- the settings


def altered(settings, name: str):
    """The same settings with another value of one field, possible or not: keys ask no questions."""
    value = getattr(settings, name)
    more = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v + 0.25, str: lambda v: v + "x"}
    changed = copy.copy(settings)
    object.__setattr__(changed, name, more.get(type(value), lambda v: (*v, 1.0) if isinstance(v, tuple) else 3)(value))
    return changed


def all_differ(keys: dict[str, str]) -> None:
    assert len(set(keys.values())) == len(keys), sorted(keys.items(), key=lambda item: item[1])


OF_THE_ASKER = ("accept", "strict")
"""What only says when to stop, and changes no pair."""


def test_a_change_of_any_one_setting_is_another_stage_of_data_training_and_calibration(tiny, honesty, tmp_path):
    plan = Plan(tiny, honesty, DataSettings(), TrainSettings(adapter="bias"), tmp_path)
    asked = [f.name for f in fields(DataSettings) if f.name not in OF_THE_ASKER]
    assert {replace(plan, data=altered(plan.data, n)).data_place.key for n in OF_THE_ASKER} == {plan.data_place.key}
    data = {n: replace(plan, data=altered(plan.data, n)) for n in asked}
    train = {f.name: replace(plan, train=altered(plan.train, f.name)) for f in fields(TrainSettings)}
    all_differ({n: p.data_place.key for n, p in data.items()} | {"": plan.data_place.key})
    # what changes the pairs changes all that is made from them; what changes training leaves the pairs
    all_differ({n: p.train_place.key for n, p in (data | train).items() if n not in data.keys() & train.keys()})
    all_differ({n: p.train_place.key for n, p in train.items()} | {"": plan.train_place.key})
    assert {p.data_place.key for p in train.values()} == {plan.data_place.key}
    modes = {m: replace(plan, mode=m).direction_place.key for m in ("contrastive", "tau+", "tau-")}
    all_differ(modes | {n: p.direction_place.key for n, p in train.items()})
    method, usual = as_method(change_of(tiny)), CalibrateSettings()

    def calibrated(settings, method=method):
        return calibration_place(tiny, method, settings, tmp_path, behavior=honesty).key

    keys = {f.name: calibrated(altered(usual, f.name)) for f in fields(CalibrateSettings)}
    all_differ(keys | {"": calibrated(usual), "method": calibrated(usual, as_method(change_of(tiny, 2.0)))})


NOT_IN_AN_EVALUATION = {
    "subject.base": "looked at itself, above",
    "subject.folder": "where it lies",
    "subject.pairs": "only the evaluation called pairs reads it, below",
    "questions": "those of the evaluation, where they are known already",
    "out": "where the unsteered arm lies",
}


def test_a_change_of_any_one_option_is_another_evaluation(tiny, honesty, tmp_path, key):
    edited = tmp_path / "dilemmas.jsonl"
    edited.write_text(Path(DILEMMAS).read_text().replace("the", "teh", 1))
    usual = {
        "subject": Subject(tiny, change_of(tiny), tmp_path, "ws:x"),
        "evaluation": Evaluation("dilemmas", data=DILEMMAS),
        "alphas": (-1, 1),
    }
    changes = {
        "subject": {"by": change_of(tiny, 2.0), "method": "ws:y", "seed": 1, "origin": small.base("gpt2")},
        "evaluation": {
            "name": "perplexity", "n_think": 16, "data": str(edited), "limit": 3,
            "protocol": next(i for n, i in PROTOCOLS if n == "dilemmas" and i != protocol("dilemmas").id),
        },
    }  # fmt: skip
    others = {f"{of}.{n}": {of: replace(usual[of], **{n: v})} for of, own in changes.items() for n, v in own.items()}
    others["evaluation.name"] = {"evaluation": Evaluation("perplexity")}  # it could not read this data
    others |= {"alphas": {"alphas": (-1, 2)}, "strength": {"strength": {"budget": 1.0}}}
    others["evaluation.judge"] = {"evaluation": Evaluation("syc-qa", judge="tiny")}
    options = {f"{n}.{f.name}" for n, of in (("subject", Subject), ("evaluation", Evaluation)) for f in fields(of)}
    options |= {n for n, p in inspect.signature(make_eval).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert options == others.keys() | NOT_IN_AN_EVALUATION.keys()
    keys = {n: key(make_eval, **{**usual, **change}) for n, change in others.items()}
    keys[""] = key(make_eval, **usual)
    keys["by rule"] = key(make_eval, **{**usual, "evaluation": Evaluation("syc-qa")})
    all_differ(keys)
    assert key(make_eval, **usual, out=tmp_path) == keys[""]
    chosen, items = protocol("dilemmas"), items_of(protocol("dilemmas"), tiny, data=DILEMMAS, limit=3)
    others = {"": (chosen, items), "thought": (chosen.thinking(16), items), "items": (chosen, items[:-1])}
    all_differ({n: key(make_reference, ItemQuestions(p, tiny, i), tmp_path) for n, (p, i) in others.items()})


def test_whatever_the_evaluation_of_pairs_reads_of_a_training_is_in_its_key(tiny, tmp_path, key):
    rows = tuple(Pair(f"What is {i}?", f" It is {i}.", f" It is {i + 1}.", f"q{i}", topic_idx=i) for i in range(20))
    read: set[str] = set()

    class Watched(TrainSettings):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    names = {f.name for f in fields(TrainSettings)}

    def of(settings):
        return Subject(tiny, change_of(tiny, 1e-3), tmp_path, "ws:x", pairs=RunPairs(Pairs(rows), settings))

    watched = Watched(max_len=128)
    read.clear()  # a settings value looks at itself when it is made
    make_eval(of(watched), Evaluation("pairs"), alphas=(-1, 1))
    asked = {n: replace(TrainSettings(max_len=128), **{n: v}) for n, v in {"val_share": 0.5, "seed": 5}.items()}
    asked |= {n: altered(TrainSettings(max_len=128), n) for n in (read & names) - asked.keys()}
    assert {"val_share", "seed"} <= asked.keys() & read
    asked[""] = TrainSettings(max_len=128)
    all_differ({n: key(make_eval, of(s), Evaluation("pairs"), alphas=(-1, 1)) for n, s in asked.items()})


NOT_IN_A_CELL = {
    "common.model": "the base itself is looked at: its bytes, config, tokenizer, precision and threads",
    "common.onto": "what is folded into it changes its bytes, and so its key",
    "common.behavior": "the behavior itself is looked at",
    "common.pairs": "a comparison takes none",
    "common.dtype": "the base's own precision is in its key",
    "common.quantize": "the base's fingerprint, bytes, config and precision are other ones then",
    "common.device": "changes how it is computed and not what",
    "common.device_map": "the same",
    "common.threads": "those of the process are in the base's key",
    "common.out": "where it lies",
    "lr": "stands among the options too",
    "study": "what is left beside the rows",
}


def test_a_change_of_anything_in_a_cell_is_another_cell(tiny, honesty, tmp_path):
    edited = tmp_path / "dilemmas.jsonl"
    edited.write_text(Path(DILEMMAS).read_text().replace("the", "teh", 1))
    (other,) = [i for n, i in PROTOCOLS if n == "dilemmas" and i != protocol("dilemmas").id][:1]
    asked = Evaluation("dilemmas", protocol("dilemmas").id, data=DILEMMAS)
    (cell,) = cells_of(
        tiny, honesty, ["ws:bias"], evals=[asked], settings=CalibrateSettings(), alphas=(-1, 1), out=tmp_path
    )

    def common(**changes):
        return replace(cell, common=replace(cell.common, **changes))

    def evals(**changes):
        return replace(cell, evals=(replace(asked, **changes),))

    assert cell.calibrate is not None
    cells = {
        "": cell,
        "common.preset": common(preset="pub"),
        "method": replace(cell, method="ws:bias:tau+"),
        "seed": replace(cell, seed=7),
        "options": replace(cell, options={"n_topics": 7}),
        "options of training": replace(cell, options={"epochs": 7.0}),
        "calibrate": replace(cell, calibrate={**cell.calibrate, "budget": 7.0}),
        "kl": replace(cell, kl={"n_calib": 7}),
        "alphas": replace(cell, alphas=(-2.0, 2.0)),
        "fractions": replace(cell, fractions=(0.3,)),
        "evals.name": evals(name="sycophancy", protocol=protocol("sycophancy").id, data=None),
        "evals.protocol": evals(protocol=other),
        "evals.n_think": evals(n_think=16),
        "evals.data": evals(data=str(edited)),
        "evals.limit": evals(limit=3),
        "evals.judge": replace(cell, evals=(Evaluation("syc-qa", judge="tiny"),)),
        "by rule": replace(cell, evals=(Evaluation("syc-qa"),)),
    }
    parts = {"common": cell.common, "evals": asked}
    names = {f.name for f in fields(cell) if f.name not in parts}
    names |= {f"{part}.{f.name}" for part, value in parts.items() for f in fields(value)}
    assert names == (cells.keys() - {"", "options of training", "by rule"}) | NOT_IN_A_CELL.keys()
    all_differ({n: place(c, tiny, honesty).key for n, c in cells.items()})
    for name, unlike in {"out": str(tmp_path / "b"), "device": "cuda", "model": "elsewhere"}.items():
        assert place(common(**{name: unlike}), tiny, honesty).key == place(cell, tiny, honesty).key


# ---------------------------------------------------------------- a model that is changed at the moment


def switched_on(way, base, block):
    """Something that changes what the model says, until the block ends."""
    name, linear = next(iter(base.linears.items()))
    if way in ("hook", "fold"):
        direction = Direction({name: (Dense(torch.ones_like(linear.module.weight)),)}, {"base": base.described()})
        block.enter_context(ws.steer(base, direction, 1.0, fold=way == "fold"))
    elif way == "activations":
        edit = Add(torch.ones(base.model.config.hidden_size))
        block.enter_context(Activation("sl:add", {block_name(base, 1): edit}).at(base, 1.0))
    else:
        block.callback(linear.module.register_forward_hook(lambda layer, args, out: out).remove)


@pytest.mark.parametrize("way", ["hook", "fold", "activations", "a hook of one's own"])
def test_a_model_that_is_steered_has_no_key_and_has_its_own_again_afterwards(tiny, way):
    plain = base_key(tiny)
    with ExitStack() as block:
        switched_on(way, tiny, block)
        with pytest.raises(Unsupported, match="is being steered, or has a hook"):
            base_key(tiny)
    assert base_key(tiny) == plain


def test_a_comparison_inside_a_steering_block_is_refused_and_keeps_nothing(tiny, tmp_path):
    with ExitStack() as block:
        switched_on("hook", tiny, block)
        with pytest.raises(Unsupported, match="cannot be kept"):
            ws.compare(tiny, methods=["prompt:simple"], evals=["dilemmas"], alphas=[-1, 1], limit=2, out=tmp_path)
    assert not list(tmp_path.rglob("*.parquet"))


# ---------------------------------------------------------------- the files


def test_an_edit_of_tokenizer_template_config_or_end_of_generation_is_another_base(tiny, tmp_path):
    model = shutil.copytree(FOLDER, tmp_path / "model")
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to(FOLDER / "model.safetensors")

    def edited(name, change):
        text = (model / name).read_text()
        assert change(text) != text
        (model / name).write_text(change(text))
        try:
            return canonical(base_key(load(model)))
        finally:
            (model / name).write_text(text)

    def among(**values):
        return lambda text: json.dumps({**json.loads(text), **values})

    def without_last_merge(text):
        told = json.loads(text)
        told["model"]["merges"].pop()
        return json.dumps(told)

    plain = canonical(base_key(load(model)))
    end = json.loads((model / "generation_config.json").read_text())["eos_token_id"]
    keys = {
        "": plain,
        "tokenizer": edited("tokenizer.json", without_last_merge),
        "template": edited("chat_template.jinja", lambda t: t + " "),
        "config": edited("config.json", among(rms_norm_eps=1e-3)),
        "end": edited("generation_config.json", among(eos_token_id=[*(end if isinstance(end, list) else [end]), 7])),
    }  # fmt: skip
    all_differ(keys)
    # answers are sampled by ws's own settings, so what a checkpoint would like for them changes nothing
    assert edited("generation_config.json", among(temperature=0.1, do_sample=True)) == plain
    assert edited("README.md", lambda t: t + "more") == plain
    assert canonical(base_key(tiny)) == plain


def test_an_edit_of_a_pack_or_of_a_file_of_pairs_is_another_study(tiny, tmp_path):
    pack = {
        "name": "kind", "pos_means": "kind", "neg_means": "rude", "template": "Be {persona}.",
        "pairs": [["kind", "rude"], ["warm", "cold"]],
        "prompts": {"source": "list", "list": ["How are you?", "Where is it?", "Who is he?"]},
        "engineered": {"pos": "Be kind in all.", "neg": "Be rude in all."},
    }  # fmt: skip
    pack["tiny"] = {k: pack[k] for k in ("template", "pairs", "prompts")}
    changes = {
        "": {},
        "name": {"name": "nice"},
        "template": {"template": "Please be {persona}."},
        "pairs": {"pairs": [["kind", "rude"], ["warm", "icy"]]},
        "prompts": {"prompts": {"source": "list", "list": ["How are you?", "Where is it?", "Who is she?"]}},
    }
    path = tmp_path / "pack.yaml"

    def read(change):
        path.write_text(json.dumps({**pack, **change}))
        return load_behavior(path)

    def key_of(behavior):
        return Plan(tiny, behavior, DataSettings(), TrainSettings(), tmp_path).data_place.key

    all_differ({n: key_of(read(c)) for n, c in changes.items()})
    worked_out = {"engineered": {"pos": "Be kind.", "neg": "Be rude in all."}}
    (cell,) = cells_of(
        tiny, read({}), ["prompt:engineered"], evals=[Evaluation("dilemmas", "dd-1f/1", data=DILEMMAS)],
        alphas=(-1, 1), pack=str(path), out=tmp_path,
    )  # fmt: skip
    assert key_of(read(worked_out)) == key_of(read({}))  # no pair comes from it
    assert place(cell, tiny, read(worked_out)).key != place(cell, tiny, read({})).key

    rows = tmp_path / "pairs.jsonl"

    def given(answer):
        told = {"prompt": "How are you?", "response_pos": " Good.", "response_neg": answer}
        rows.write_text(json.dumps(told) + "\n")
        return Plan(tiny, None, DataSettings(), TrainSettings(), tmp_path, pairs_file=rows).train_place.key

    assert given(" Bad.") == given(" Bad.") != given(" Bad!")


def test_an_edit_of_an_adapter_is_another_direction(tmp_path):
    import transformers
    from peft import LoraConfig, get_peft_model

    network = transformers.AutoModelForCausalLM.from_pretrained(FOLDER)
    shape = LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[1], init_lora_weights=False)
    get_peft_model(network, shape).save_pretrained(tmp_path / "adapter")
    weights, config = tmp_path / "adapter" / "adapter_model.safetensors", tmp_path / "adapter" / "adapter_config.json"

    def content():
        direction, _ = diff_named(f"tiny+{tmp_path / 'adapter'}")
        return direction.content_hash

    keys = {"": content()}
    assert content() == keys[""]
    tensors = load_file(weights)
    next(iter(tensors.values())).view(-1)[0] += 1e-3
    save_file(tensors, weights, metadata={"format": "pt"})
    keys["weights"] = content()
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 9}))
    keys["scale"] = content()
    all_differ(keys)
