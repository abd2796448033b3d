"""Where a state is read and where a vector is put: planted directions are found at their block, and at their token."""

import pytest
import torch

from ws.behaviors import load_behavior
from ws.methods import Material
from ws.methods.activation import paper
from ws.methods.activation.method import block_name
from ws.methods.activation.states import EMBEDDED, OPENING, Contrast, answer_texts, states
from ws.models.chat import Chat, encode, render
from ws.pairs import Pair, Pairs

BEHAVIOR = load_behavior("honesty", tiny=True)
HELD = [Pair("Who broke the cup?", "I broke the cup.", "The bus broke the cup.", "p0", "", "", 0)]
PLANTED = 2


@pytest.fixture(scope="module")
def planted(tiny):
    """(p, a^0 .. a^L): the same texts on both sides, and a direction p that block 2 puts out on one of them."""
    p = torch.randn(128, generator=torch.Generator().manual_seed(0))
    texts = [(tuple(encode(tiny.tokenizer, f"{w} is late today.")), 1) for w in ("Ann", "The bus", "My dog")]
    names = paper.hidden_names(tiny)
    block = tiny.model.get_submodule(block_name(tiny, PLANTED))
    handle = block.register_forward_hook(
        lambda m, a, out: (out[0] + p, *out[1:]) if isinstance(out, tuple) else out + p
    )
    try:
        pos = states(tiny, texts, names)
    finally:
        handle.remove()
    return p, paper.mean_differences(Contrast(pos, states(tiny, texts, names)), names)


def test_a_direction_that_one_block_puts_out_is_added_to_the_output_of_that_block(tiny, planted):
    p, a = planted
    made = paper.single_layer(tiny, a, "paper:single", HELD, [PLANTED])
    assert list(made.edits) == [block_name(tiny, PLANTED)]
    torch.testing.assert_close(made.edits[block_name(tiny, PLANTED)].v, p, atol=1e-4, rtol=1e-4)  # type: ignore
    before = paper.single_layer(tiny, a, "paper:single", HELD, [PLANTED - 1])
    assert float(before.edits[block_name(tiny, PLANTED - 1)].v.norm()) == 0  # type: ignore[attr-defined]


def test_the_steps_from_block_to_block_are_nothing_before_it_and_all_of_it_there(tiny, planted):
    p, a = planted
    steps = {name: edit.v for name, edit in paper.all_layers(tiny, a, "paper:all").edits.items()}  # type: ignore
    torch.testing.assert_close(steps[block_name(tiny, PLANTED)], p, atol=1e-4, rtol=1e-4)
    assert all(float(steps[block_name(tiny, at)].norm()) == 0 for at in range(PLANTED))


@torch.inference_mode()
def hidden(base, text: str):
    """Hidden 0 .. L - 1 of a text, by transformers' own account; it keeps the last only after the final norm."""
    out = base.model(input_ids=torch.tensor([encode(base.tokenizer, text)]), output_hidden_states=True)
    return [h[0] for h in out.hidden_states[:-1]]


def test_a_personas_state_is_that_of_the_last_token_of_question_and_opening(tiny):
    material = Material(tiny, BEHAVIOR, questions=lambda: [p.text for p in BEHAVIOR.train[:4]], items=4)
    names = [EMBEDDED, *(block_name(tiny, at) for at in range(tiny.depth - 1))]
    found = material.states(names)
    for side, (texts, read) in enumerate(zip(material.personas, (found.pos, found.neg))):
        asked = {
            render(tiny.tokenizer, Chat(q.text, BEHAVIOR.systems(i)[side])) + OPENING
            for q in BEHAVIOR.train for i in range(len(BEHAVIOR.pairs))
        }  # fmt: skip
        for row, (ids, _) in enumerate(texts):
            text = next(t for t in asked if encode(tiny.tokenizer, t) == list(ids))  # whole: no token is cut
            for name, h in zip(names, hidden(tiny, text)):
                torch.testing.assert_close(read[name][row], h[-1], atol=1e-4, rtol=1e-4)
            apart = (hidden(tiny, text)[2][-2] - read[names[2]][row]).norm()
            assert float(apart) > 0.1, "the token before would not be told apart"


def test_an_answers_state_is_the_mean_over_its_own_tokens_under_its_persona(tiny):
    pos, neg = BEHAVIOR.systems(1)
    rows = (Pair("Who broke the cup?", " I broke the cup.", " The bus did.", "p0", pos, neg, 0),)
    names = [EMBEDDED, *(block_name(tiny, at) for at in range(tiny.depth - 1))]
    for texts, system, answer in zip(
        answer_texts(tiny, Pairs(rows)), (pos, neg), (" I broke the cup.", " The bus did.")
    ):
        head = render(tiny.tokenizer, Chat("Who broke the cup?", system))
        found, wanted = states(tiny, texts, names), hidden(tiny, head + answer)
        start = len(encode(tiny.tokenizer, head))
        for name, h in zip(names, wanted):
            torch.testing.assert_close(found[name][0], h[start:].mean(0), atol=1e-4, rtol=1e-4)
