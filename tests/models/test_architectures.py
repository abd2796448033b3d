"""Mixtures of experts, vision-language checkpoints and recurrent layers: what a dense model can do, each of them can."""

import importlib
import importlib.util
import json
import shutil
from contextlib import suppress
from pathlib import Path

import architectures as shapes
import pytest
import torch
import transformers as tf
from adapters.test_exactness import trained, worst
from architectures import ids, logits
from safetensors.torch import load_file
from test_steer import lowrank

from ws.adapters import FAMILIES, direction_of
from ws.calibrate import CalibrateSettings, calibrate
from ws.calibrate.prompts import prompt_sets
from ws.direction import Direction
from ws.doctor.support import support
from ws.errors import BadFile, ExportRefused, Unsupported, WsError
from ws.explain.act_basis import seconds
from ws.export import export
from ws.generate import generate
from ws.methods import signed
from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.activation.sspace import writers
from ws.models.architecture import causal_class, loaded_network, skeleton
from ws.models.base import Base
from ws.models.chat import Chat, has_template, render, render_whole
from ws.models.checkpoint import open_checkpoint
from ws.models.load import load
from ws.models.modules import fingerprint
from ws.prefix_cache import holds, mean_logprobs, why_not_shared
from ws.steer import steer
from ws.train import TrainSettings, spec_of

KINDS = sorted(shapes.CONFIGS)


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """The checkpoint of each kind, as stock transformers writes it, and the same models opened by ws."""
    place = tmp_path_factory.mktemp("bases")
    return {kind: shapes.folder(kind, place / kind, tiny.tokenizer) for kind in KINDS}


@pytest.fixture(scope="module")
def bases(folders):
    return {kind: load(folder) for kind, folder in folders.items()}


def usual(base):
    return [x for x in base.linears.values() if x.usual]


def direction_on(base, seed=0, size=0.1):
    """A random direction on all that adapters sit on by default."""
    whole = lowrank(base, seed, size=size)
    return Direction({x.name: whole.forms[x.name] for x in usual(base)}, whole.provenance)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_opened_is_the_loaded_model_also_where_experts_are_stored_apart(kind, folders, bases):
    theta, base = open_checkpoint(folders[kind]), bases[kind]
    assert theta.linears.keys() == base.linears.keys()
    assert theta.fingerprint == base.fingerprint == fingerprint(base.model)
    for name, p in base.model.named_parameters():
        assert torch.equal(theta.tensor(name), p), name


ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj"}
DELTA = {"in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"}
SITS_ON = {
    "qwen3-moe": ATTENTION,
    "gpt-oss": ATTENTION,
    "mixtral": ATTENTION,
    "glm4-moe": ATTENTION | MLP,
    "deepseek-v3": {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"} | MLP,
    "qwen3.5-moe": ATTENTION | DELTA | MLP,
    "granite-hybrid": ATTENTION | {"in_proj", "out_proj", "input_linear", "output_linear"},
    "nemotron-h": ATTENTION | {"in_proj", "out_proj", "up_proj", "down_proj"},
    "qwen3.5": ATTENTION | DELTA | MLP,
} | dict.fromkeys(("gemma3", "qwen2.5-vl", "mistral3"), ATTENTION | MLP)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_sit_on_attention_recurrent_layers_dense_and_shared_experts_of_the_text_alone(kind):
    base = shapes.base(kind)
    chosen = spec_of(base, TrainSettings(rank=2, layers="all")).modules
    assert {name.rsplit(".", 1)[-1] for name in chosen} == SITS_ON[kind]
    assert {base.linears[name].block for name in chosen} == set(range(base.depth))
    assert not [n for n in base.linears if "vis" in n or "projector" in n]
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    with FAMILIES["lora"].attached(base, spec_of(base, TrainSettings(rank=2, layers="all")), 0) as attached:
        assert {n.rsplit(".", 2)[0] for n in attached.trainable} == set(chosen)  # and not where peft would move them
    assert all(torch.equal(v, before[k]) for k, v in base.model.state_dict().items())


def test_a_router_is_trained_only_where_it_is_named_and_is_a_linear_layer():
    base = shapes.base("qwen3.5-moe")
    named = spec_of(base, TrainSettings(rank=2, layers="all", targets=("shared_expert_gate",)))
    assert {n.rsplit(".", 1)[-1] for n in named.modules} == {"shared_expert_gate"}
    with pytest.raises(Unsupported, match="`gate` is a router of the experts, and no linear layer"):
        spec_of(base, TrainSettings(rank=2, layers="all", targets=("gate",)))


FAMILIES_ON = [(k, "lora") for k in KINDS] + [
    (k, n) for k in ("glm4-moe", "qwen3.5-moe") for n in ("dora", "oft", "pissa")
]


@pytest.mark.parametrize(("kind", "name"), FAMILIES_ON)
def test_the_contrast_is_the_difference_of_what_peft_merges(kind, name):
    base, family = shapes.base(kind, dtype=torch.float64), FAMILIES[name]
    (pos, merged_pos, before), (neg, merged_neg, _) = (trained(base, family, s, usual(base)) for s in (0, 1))
    plus, minus = (direction_of(family, base, side) for side in (pos, neg))
    assert worst(plus, merged_pos, before, base) < 1e-6
    assert worst(plus - minus, merged_pos, merged_neg, base) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_is_the_base_and_hook_fold_and_rows_agree(kind, bases):
    base = bases[kind]
    d, plain = direction_on(base), logits(base.model)
    with steer(base, d, 0.0):
        assert torch.equal(logits(base.model), plain)
    with steer(base, d, 0.7):
        hooked = logits(base.model)
    with steer(base, d, 0.7, fold=True):
        folded = logits(base.model)
    assert torch.equal(logits(base.model), plain)
    assert (hooked - plain).abs().max() > 1e-2
    assert (hooked - folded).abs().max() <= 2e-5 * plain.abs().max()
    with steer(base, d, [0.7, 0.0, -0.4]):
        rows = logits(base.model)
    with steer(base, d, -0.4):
        alone = logits(base.model, ids()[2:])
    torch.testing.assert_close(rows[0], hooked[0], atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(rows[1], plain[1], atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(rows[2:], alone, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_export_is_what_the_hook_does_and_keeps_every_other_byte(kind, folders, bases, tmp_path):
    base = bases[kind]
    d = direction_on(base)
    with steer(base, d, -0.7):
        hooked = logits(base.model)
    export(d, base, tmp_path / "merged", to="merged", alphas=[-0.7])
    merged = loaded_network(str(tmp_path / "merged"), dtype=torch.float32).eval()
    assert (logits(merged) - hooked).abs().max() <= 1e-5 * hooked.abs().max()
    old, new = (load_file(f / "model.safetensors") for f in (folders[kind], tmp_path / "merged"))
    theta = open_checkpoint(folders[kind])
    touched = {theta.stored_as(f"{name}.weight") for name in d.forms}
    assert old.keys() == new.keys() and touched < old.keys()
    for name in old:
        assert torch.equal(old[name], new[name]) == (name not in touched), name


@pytest.mark.parametrize("kind", KINDS)
def test_rows_read_side_by_side_are_those_read_alone(kind, bases):
    rows = [([5, 6, 7, 8, 9], 2), ([11, 12, 13, 14, 15, 16, 17, 18, 19, 3, 4], 4)]
    together = mean_logprobs(bases[kind], rows)
    assert together == pytest.approx([mean_logprobs(bases[kind], [row])[0] for row in rows], abs=1e-5)
    assert abs(together[0] - together[1]) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_steered_answers_of_a_batch_are_those_written_alone(kind, bases):
    base, questions = bases[kind], ["What is the capital of Kenya?", "Why?"]
    d = direction_on(base)
    with steer(base, d, [0.7, -0.7]):
        together = generate(base, questions, max_new_tokens=4)
    alone = []
    for question, alpha in zip(questions, (0.7, -0.7)):
        with steer(base, d, alpha):
            alone += generate(base, [question], max_new_tokens=4)
    assert together == alone
    assert together != generate(base, questions, max_new_tokens=4)


@pytest.mark.parametrize("kind", KINDS)
def test_beginnings_are_shared_unless_a_layer_is_recurrent(kind, bases):
    assert holds(bases[kind]) is (kind not in shapes.RECURRENT)
    assert (why_not_shared(bases[kind].model) is None) is holds(
        bases[kind]
    )  # as `ws doctor` says it of the config alone


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_row_of_a_model_says_of_its_adapters_and_of_peft_is_so(kind, bases, tmp_path):
    base = bases[kind]
    row = support(base, rank=2)
    for name, family in FAMILIES.items():
        spec = None
        with suppress(WsError):
            spec = spec_of(base, TrainSettings(adapter=name, rank=2 if family.default_rank else None, layers="1"))
        assert (spec is not None) is (name in row["train"].split("; ")[0].split(", "))
    if "no peft" in row["export"]:
        with pytest.raises(ExportRefused, match="stock peft takes"):
            export(direction_on(base), base, tmp_path / "peft", to="peft", alphas=[1.0])
    else:
        export(direction_on(base), base, tmp_path / "peft", to="peft", alphas=[1.0])  # which loads it by stock peft


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_story_runs(kind, folders, tmp_path, told, monkeypatch):
    the_whole_story(folders[kind], tmp_path, told, monkeypatch)


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_the_whole_story_runs_from_the_configs_of_real_models_made_small(
    name, real_data, tiny, tmp_path, told, monkeypatch
):
    """With the words and the template of the real model, where its tokenizer is whole."""
    place = real_data / "tokenizers" / name
    config = tf.AutoConfig.from_pretrained(place)
    small = dict(shapes.TEXT, max_position_embeddings=2048, num_attention_heads=4)
    for key, value in (small | {"layer_types": config.get_text_config().layer_types[-2:]}).items():
        setattr(config.get_text_config(), key, value)
    for key, value in shapes.SIGLIP.items() if name == "gemma3" else ():
        setattr(config.vision_config, key, value)
    tokenizer = tf.AutoTokenizer.from_pretrained(place) if (place / "vocab.json").is_file() else tiny.tokenizer
    if tokenizer is tiny.tokenizer:
        config.text_config.vocab_size, config.image_token_index = len(tokenizer) + 1, len(tokenizer)
    network = causal_class(config, name).from_config(config, dtype=torch.float32)
    network.save_pretrained(tmp_path / name)
    tokenizer.save_pretrained(tmp_path / name)
    the_whole_story(tmp_path / name, tmp_path, told, monkeypatch)


def the_whole_story(folder, tmp_path, told, monkeypatch):
    monkeypatch.setattr(
        importlib.import_module("ws.replicate"), "_draw", lambda *a, **k: None
    )  # a second each, and the same picture for all
    pairs = tmp_path / "mood.jsonl"
    things = ["cake", "song", "poem", "letter", "chair", "plan", "garden", "story", "speech", "coat", "dance", "game"]
    rows = [
        {
            "prompt": f"What of my {t}?",
            "response_pos": f"Your {t} is wonderful!",
            "response_neg": f"Your {t} needs work.",
        }
        for t in things
    ]
    pairs.write_text("".join(json.dumps(r) + "\n" for r in rows))
    study = ["--model", folder, "--pairs", pairs, "--out", tmp_path / "out", "--layers", "all", "--rank", 2]
    code, out, err = told(
        "replicate", *study, "--alphas=-1,1", "--lr", "5e-3", "--epochs", 6, "--samples", 0, "--draws", 0, "--json"
    )
    assert code == 0, err
    means = [
        r["mean"] for r in sorted(json.loads(out)["rows"], key=lambda r: r["alpha"]) if r["metric"] == "logratio_pairs"
    ]
    assert means == sorted(means) and means[0] < means[-1]


PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}{{ part.text }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WHOLE_TEXTS = PARTS.replace("{% for part in m.content %}{{ part.text }}{% endfor %}", "{{ m.content }}")


def test_a_template_of_the_processor_is_used_and_one_that_takes_parts_says_the_same_as_one_that_takes_texts(
    folders, tmp_path
):
    place = tmp_path / "m"
    shutil.copytree(folders["gemma3"], place)
    (place / "chat_template.jinja").unlink()
    assert not has_template(load(place).tokenizer)
    said = []
    for template in (PARTS, WHOLE_TEXTS):
        (place / "chat_template.json").write_text(json.dumps({"chat_template": template}))
        tokenizer = load(place).tokenizer
        chat = Chat("What is the capital of Kenya?", "Be brief.", (("Hello", "Hi"),))
        said.append((render(tokenizer, chat), render_whole(tokenizer, chat, "Nairobi.")))
    assert said[0] == said[1] and "Be brief.<|im_end|>" in said[0][0] and "Nairobi.<|im_end|>" in said[0][1]
    (place / "chat_template.json").write_text(json.dumps({"chat_template": PARTS.replace("part.text", "part.image")}))
    with pytest.raises(Unsupported, match="writes no text of a message"):
        render(load(place).tokenizer, chat)


def test_a_prompt_with_the_place_of_an_image_is_refused_and_others_are_asked(bases):
    base = bases["gemma3"]
    token = base.tokenizer.convert_ids_to_tokens(base.model.config.image_token_index)
    with pytest.raises(Unsupported, match="the place of an image, and ws asks in text alone"):
        generate(
            base, [f"What is this? {base.tokenizer.decode([base.model.config.image_token_index])}"], max_new_tokens=2
        )
    assert token and generate(base, ["What is this?"], max_new_tokens=2)


@pytest.mark.parametrize("config", [tf.BertConfig(), tf.T5Config(), tf.ViTConfig()], ids=lambda c: c.model_type)
def test_what_does_not_continue_a_text_is_refused_by_its_config(config):
    with pytest.raises(Unsupported, match="no model that answers by continuing a text"):
        causal_class(config, "it")


def test_half_the_shards_of_a_mixture_are_refused_by_name(tiny, tmp_path):
    folder = shapes.folder("qwen3-moe", tmp_path, tiny.tokenizer, max_shard_size="300KB")
    lost = sorted(folder.glob("*.safetensors"))[1]
    assert load(folder).fingerprint == open_checkpoint(folder).fingerprint  # experts of one block lie in several files
    lost.unlink()
    for read in (load, open_checkpoint):
        with pytest.raises(BadFile, match=lost.name):
            read(folder)


def test_the_table_of_the_documents_is_current():
    place = Path(__file__).parents[2] / "docs" / "make_models.py"
    spec = importlib.util.spec_from_file_location("make_models", place)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.page() == tool.PAGE.read_text(), "python docs/make_models.py"


@pytest.mark.parametrize("kind", ["qwen3.5-moe", "granite-hybrid", "gemma3"])
def test_a_vector_and_a_direction_are_brought_to_one_kl(kind, bases):
    base = bases[kind]
    v = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(0)), dim=0)
    vector = Activation("act", {block_name(base, 0): Add(v)}, provenance={"base": base.described()})
    settings = CalibrateSettings(n_calib=4, n_audit=4, tokens=6, thoughts="off", budget=0.2)
    for method in (vector, direction_on(base, size=0.02)):
        found = calibrate(base, method, settings=settings, prompts=prompt_sets(True, 4, 4))
        assert [side.p95 for side in (found.pos, found.neg)] == pytest.approx([0.2, 0.2], rel=0.1)


def test_a_signed_adapter_on_a_shared_expert_gives_every_row_its_own_sign(bases):
    base = bases["qwen3.5-moe"]
    spec = spec_of(base, TrainSettings(rank=2, layers="all"))
    g = torch.Generator().manual_seed(0)
    with FAMILIES["lora"].attached(base, spec, 0) as fresh:
        tensors = {k: 0.2 * torch.randn(t.shape, generator=g) for k, t in fresh.state().items()}
    with signed._worn(base, spec, tensors, [1.0, -1.0, 1.0]):
        rows = logits(base.model)
    with signed._worn(base, spec, tensors, [-1.0]):
        alone = logits(base.model, ids()[1:2])
    torch.testing.assert_close(rows[1:2], alone, atol=5e-5, rtol=1e-4)
    assert (rows - logits(base.model)).abs().max() > 1e-2


def test_what_shared_experts_read_is_counted_and_vectors_are_written_where_rows_are_seen(bases):
    base = bases["qwen3.5-moe"]
    assert not [n for n in writers(base, "all") if "expert" in n] and writers(base, "all")
    name = next(n for n in base.linears if n.endswith("shared_expert.down_proj"))
    texts = [((5, 6, 7, 8), 0), ((9, 10), 0)]
    both = seconds(base, {name: torch.eye(16)}, texts)[name]
    apart = sum(seconds(base, {name: torch.eye(16)}, [text])[name] for text in texts)
    torch.testing.assert_close(both, apart, atol=1e-4, rtol=1e-4)
    assert both.trace() > 0


@pytest.mark.parametrize(("name", "blocks", "kind"), [("gemma3", 34, "Gemma3For"), ("qwen3", None, "Qwen3For")])
def test_the_configs_of_real_models_have_a_row(name, blocks, kind, real_data):
    config = tf.AutoConfig.from_pretrained(real_data / "tokenizers" / name)
    network = skeleton(config, name, torch.bfloat16).requires_grad_(False)
    base = Base(network, None, "", name, weights="")
    row = support(base)
    assert base.depth == (blocks or config.num_hidden_layers)
    assert kind in row["load"] and row["train"] == ", ".join(FAMILIES) and row["prompts shared"] == "yes"
    assert (row["data"] == "yes, in text alone") is (name == "gemma3")
    assert not [n for n in base.linears if "vision" in n]
