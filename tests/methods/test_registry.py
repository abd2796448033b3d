"""Every name in the list makes a method of that name on the embedded model, and steers it."""

import re
from dataclasses import replace
from functools import cache

import pytest
import torch

from ws import methods
from ws.behaviors import load_behavior
from ws.calibrate import PromptSets
from ws.calibrate.prompts import refuse_overlap
from ws.errors import Unsupported
from ws.methods import Material
from ws.methods.activation.states import answer_texts, persona_texts
from ws.pairs import Pair, Pairs
from ws.train import Sides, TrainSettings, default_train, train

BEHAVIOR = load_behavior("honesty", tiny=True)


def told_pairs() -> Pairs:
    """What the two personas would say, without asking them."""
    rows = []
    for t, prompt in enumerate(BEHAVIOR.train[:16]):
        pos, neg = BEHAVIOR.systems(t % 5)
        rows.append(Pair(prompt.text, "I admit that I am late.", "I say that the bus is late.", prompt.id, pos, neg, t))
    return Pairs(tuple(rows))


@pytest.fixture(scope="module")
def material(tiny):
    pairs = told_pairs()

    def quick(adapter: str) -> TrainSettings:
        return replace(default_train(tiny, adapter), epochs=1, batch_size=16, lr=(4e-3,))

    @cache
    def sides(adapter: str, draw: int | None = None) -> Sides:
        return train(tiny, pairs if draw is None else pairs.shuffled(draw), quick(adapter))

    asked = [r.prompt for r in pairs.rows[:10]]
    return Material(
        tiny,
        BEHAVIOR,
        questions=lambda: asked,
        pairs=lambda: Pairs(pairs.rows[:10]),
        held=lambda: Pairs(pairs.rows[10:]),
        sides=sides,
        controls=sides,
        settings=quick,
        items=16,
    )


HERE = [n for n in methods.names() if n.split(":")[0] not in ("ws", "ft") or n.split(":")[1] in ("lora", "ia3")]


PARTS = [
    "only:layer3",
    "without:o_proj",
    "cropped:top:.5",
    "dir_only",
    "mag_only:0",
    "random_norm:1",
    "project:act4",
    "normmatched:act4",
    "complement:act4",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_direction_is_a_method_by_name(part, material, tiny):
    whole = methods.make("ws:lora", material)
    method = methods.make(f"ws:lora/{part}", material)
    assert method.name == f"ws:lora/{part}" and methods.needs(method.name).adapter == "lora"
    assert method.direction.provenance["variant"]["name"] == part
    size = method.direction.norm(tiny.weight) / whole.direction.norm(tiny.weight)
    assert size == pytest.approx(1, abs=1e-4) if part[:3] in ("dir", "mag", "ran") else size < 1
    with method.at(tiny, [1.0, 0.0]):
        ids = torch.tensor([[5, 6, 7]] * 2)
        rows = tiny.model(input_ids=ids).logits
    plain = tiny.model(input_ids=ids).logits
    assert torch.equal(rows[1], plain[1]) and not torch.equal(rows[0], plain[0])


def test_what_a_direction_has_inside_and_outside_of_a_space_adds_up(material, tiny):
    inside, outside, whole = (
        methods.make(f"ws:lora{p}", material).direction for p in ("/project:act4", "/complement:act4", "")
    )
    for name in inside.forms:
        both = inside.dense(name, tiny.weight) + outside.dense(name, tiny.weight)
        torch.testing.assert_close(both, whole.dense(name, tiny.weight), atol=1e-6, rtol=1e-5)
    assert inside.provenance["variant"]["circular"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ws:lora/half", "a part of a direction is one of only, without"),
        ("ws:lora/only", "only is written like only:layer7"),
        ("ws:lora/complement:32", "complement is written like complement:act32"),
        ("ws:lora/mag_only", "mag_only is written like mag_only:0"),
        ("ws:lora/cropped:best:1", "a crop is top:"),
        ("ws:lorra/only:layer7", "there is no adapter 'lorra'"),
    ],
)
def test_a_part_that_is_none_is_refused_before_any_work(name, words):
    with pytest.raises(ValueError, match=words):
        methods.check(name)


def test_a_group_that_a_direction_has_not_is_named_with_what_was_meant(material):
    with pytest.raises(ValueError, match="did you mean 'o_proj'"):
        methods.make("ws:lora/only:o_prj", material)


@pytest.mark.parametrize("name", HERE)
def test_every_name_makes_a_method_that_steers(name, material, tiny):
    method = methods.make(name, material)
    assert method.name == name
    ids = torch.tensor([[5, 9, 400, 31, 77]])
    with torch.inference_mode():
        plain = tiny.model(input_ids=ids).logits
        with method.at(tiny, 1.0):
            moved = float((tiny.model(input_ids=ids).logits - plain).abs().max())
        assert torch.equal(tiny.model(input_ids=ids).logits, plain)
    assert (moved > 0) == (method.kind != "prompt")
    assert methods.make(name, material).content_hash == method.content_hash


def test_the_single_layer_is_the_one_that_does_most_on_held_out_pairs(material):
    made = methods.make("paper:single", material)
    effects = {int(k): v for k, v in made.provenance["effects"].items()}
    assert sorted(effects) == material.blocks and made.provenance["block"] == max(effects, key=lambda k: effects[k])
    assert list(made.edits) == [material.block_names[material.blocks.index(made.provenance["block"])]]  # type: ignore


def test_the_bisector_halves_the_angle_of_the_sides_and_is_as_large_as_the_contrast(material, tiny):
    from ws.direction import cosine

    plus, minus, whole, half = (
        methods.make(f"ws:lora{m}", material).direction  # type: ignore[attr-defined]
        for m in (":tau+", ":tau-", "", ":bisector")
    )
    w = tiny.weight
    assert cosine(half, plus, w) == pytest.approx(cosine(half, minus, w), abs=1e-4)
    assert half.norm(w) == pytest.approx(whole.norm(w), rel=1e-4)


@pytest.mark.parametrize("name", ["ws:lora", "ft:lora", "ws:lora:tau+", "repe", "paper:all", "sl:mean_diff"])
def test_a_method_says_which_questions_it_was_made_from(name, material):
    made = methods.make(name, material)
    asked = material.pairs().rows[0].prompt if name[:2] in ("ws", "ft") else BEHAVIOR.train[0].text
    with pytest.raises(ValueError, match="was made from the question"):
        refuse_overlap(PromptSets((asked,), ("What is nobody's question?",)), made.provenance)
    refuse_overlap(PromptSets(("What is nobody's question?",), ("Nor is this?",)), made.provenance)


def test_random_draws_differ_by_number_and_repeat(material):
    one, two = (methods.make(f"random:act:{k}", material).content_hash for k in (1, 2))
    assert one != two == methods.make("random:act:2", material).content_hash
    with pytest.raises(ValueError, match="FORM"):
        methods.make("random:act:x", material)
    with pytest.raises(ValueError, match="no gates"):
        methods.make("random:gate:0", material)


def test_both_personas_are_read_over_the_same_words(tiny):
    pos, neg = persona_texts(tiny, BEHAVIOR, [p.text for p in BEHAVIOR.train], n=12)
    assert len(pos) == len(neg) == 12
    for (a, at), (b, bt) in zip(pos, neg):
        assert at == len(a) - 1 and bt == len(b) - 1 and a != b and a[-4:] == b[-4:]
    pos, neg = answer_texts(tiny, told_pairs(), n=5)
    assert tiny.tokenizer.decode(pos[0][0][pos[0][1] :]) == "I admit that I am late."


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ws:lora:tau", "whole or one of tau+, tau-, bisector"),
        ("ws:lora:tau+:x", "whole or one of"),
        ("ft:lora:x", "N-th checkpoint"),
        ("prompt:simpel", "a prompt is one of simple, engineered"),
        ("random:spektrum:0", "one of act, gauss, spectrum, gate"),
        ("random:act:x", "random:FORM:NUMBER"),
        ("random:act:0:lora:x", "random:FORM:NUMBER"),
        ("random:gauss:0:lorra", "no adapter 'lorra'"),
        ("random:gate:0", "random:gate:0:ia3"),
        ("random:gate", "random:gate:0:ia3"),
    ],
)
def test_a_name_that_no_line_can_make_is_refused_before_any_work(name, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        methods.selection([name])


def test_every_listed_name_and_its_draws_are_taken():
    assert len(methods.selection(["all"])) > 80
    assert methods.selection(["random:gauss:7:dora"]) == ["random:gauss:7:dora"]


def test_what_a_method_lacks_is_said(tiny):
    bare = Material(tiny)
    with pytest.raises(ValueError, match="`behavior`"):
        methods.make("prompt:simple", bare)
    for name in ("ws:lora", "repe", "paper:all", "paper:single"):
        with pytest.raises(Unsupported, match="`behavior`"):
            methods.make(name, replace(bare, behavior=BEHAVIOR))
