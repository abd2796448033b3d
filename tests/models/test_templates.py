"""Chats are rendered the same way everywhere; answer tokens are proven at their slot, on real tokenizers too."""

import copy

import pytest

from ws.errors import ScoringImpossible, Unsupported
from ws.models.answers import find_answers
from ws.models.chat import Chat, close_of_thought, encode, end_of_turn, render, render_whole, thinks, thinks_when_asked
from ws.train.sequences import finished

YES_NO = (("yes",), ("no",))
REAL = ["qwen3", "qwen2.5", "llama2"]


@pytest.fixture(scope="session")
def tokenizers(real_data):
    from transformers import AutoTokenizer

    return {name: AutoTokenizer.from_pretrained(real_data / "tokenizers" / name) for name in REAL}


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("answer", ["Yes, it is.", "No.\n\nIt is not.", "42", "Ja — äußerst 🙂", "- one\n- two"])
def test_prompt_ids_are_a_prefix_of_the_training_ids_and_those_of_the_templates_own(tokenizers, name, answer):
    tok = tokenizers[name]
    prompt = encode(tok, render(tok, Chat("Is it so?")))
    ids, start, difference = finished(tok, "Is it so?", answer)
    assert ids[:start] == prompt
    assert ids[-1] == end_of_turn(tok)
    assert difference is None
    assert tok.decode(ids[start:-1]).strip() == answer
    whole = encode(tok, render_whole(tok, Chat("Is it so?"), answer))
    assert whole[: len(ids) - 1] == ids[:-1]


@pytest.mark.real_data
def test_an_answer_the_template_rewrites_is_noticed(tokenizers):
    _, start, difference = finished(tokenizers["qwen3"], "Is it so?", "<think>\nhm\n</think>\n\nYes.")
    assert difference is not None
    assert difference >= start - 4


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_there_is_exactly_one_start_token_where_a_model_uses_one(tokenizers, name):
    tok = tokenizers[name]
    ids = encode(tok, render(tok, Chat("Hello?", "Be kind.")))
    assert isinstance(ids, list)
    assert ids.count(tok.bos_token_id) == (1 if name == "llama2" else 0)


@pytest.mark.real_data
def test_no_system_message_is_not_an_empty_one(tokenizers):
    for name in ("qwen3", "qwen2.5"):
        assert render(tokenizers[name], Chat("Hi")) != render(tokenizers[name], Chat("Hi", ""))
    assert "system" not in render(tokenizers["qwen3"], Chat("Hi"))


@pytest.mark.real_data
def test_thinking_off_closes_the_thought_and_forced_opens_one(tokenizers):
    tok = tokenizers["qwen3"]
    assert render(tok, Chat("Hi"), thinking="off").endswith("<think>\n\n</think>\n\n")
    assert render(tok, Chat("Hi"), thinking="forced").endswith("<think>\n")
    assert "<think>" not in render(tok, Chat("Hi"), thinking="on")
    with pytest.raises(Unsupported, match="no single </think>"):
        render(tokenizers["qwen2.5"], Chat("Hi"), thinking="forced")


@pytest.mark.real_data
def test_a_model_thinks_if_its_template_knows_of_thoughts_and_not_by_its_vocabulary(tokenizers):
    tok = copy.copy(tokenizers["qwen3"])
    assert thinks_when_asked(tok)
    tok.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>assistant\n"
    )
    assert thinks(tok) and not thinks_when_asked(tok)  # as instruct models without thoughts are
    tok.chat_template += "<think>\n"  # as models that always think are
    assert thinks_when_asked(tok)
    assert not thinks_when_asked(tokenizers["qwen2.5"]) and not thinks_when_asked(tokenizers["llama2"])


@pytest.mark.real_data
def test_the_close_of_thought_is_the_real_token_or_none(tokenizers):
    assert tokenizers["qwen3"].convert_ids_to_tokens(close_of_thought(tokenizers["qwen3"])) == "</think>"
    for name in ("qwen2.5", "llama2"):
        with pytest.raises(Unsupported):
            close_of_thought(tokenizers[name])


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    ("words", "anchor"),
    [(YES_NO, "My choice:"), ((("true",), ("false",)), '{"is_wrong":'), ((("A",), ("B",)), "Answer:")],
)
def test_answer_tokens_are_found_and_proven_on_real_tokenizers(tokenizers, name, words, anchor):
    tok = tokenizers[name]
    slot = render(tok, Chat("Well?")) + anchor
    found = find_answers(tok, words, slot)
    assert not set(found.yes) & set(found.no)
    after = (
        encode(tok, slot + found.join + words[0][0].capitalize())
        if words is YES_NO
        else encode(tok, slot + found.join + words[0][0])
    )
    assert after[len(encode(tok, slot))] in found.yes


@pytest.mark.real_data
def test_pieces_with_punctuation_are_no_answers_and_a_leading_space_is(tokenizers):
    tok = tokenizers["qwen3"]
    found = find_answers(tok, YES_NO, render(tok, Chat("Well?")) + "My choice:")
    pieces = {tok.convert_ids_to_tokens(i) for i in found.yes}
    assert {"ĠYes", "Yes", "yes"} <= pieces
    assert not any(p.startswith((".", '"')) for p in pieces)


def test_an_answer_that_is_no_single_token_is_refused(tiny):
    slot = render(tiny.tokenizer, Chat("Well?")) + "My choice:"
    with pytest.raises(ScoringImpossible, match="whole word 'perhapsly'"):
        find_answers(tiny.tokenizer, (("perhapsly",), ("no",)), slot)


def test_classes_that_share_a_token_are_refused(tiny):
    slot = render(tiny.tokenizer, Chat("Well?")) + "My choice:"
    with pytest.raises(ScoringImpossible, match="share the tokens"):
        find_answers(tiny.tokenizer, (("yes",), ("yes", "no")), slot)


def test_without_a_template_text_stays_plain(tiny):
    import copy

    plain = copy.deepcopy(tiny.tokenizer)
    plain.chat_template = None
    assert render(plain, Chat("Once upon a time")) == "Once upon a time"
    assert render(plain, Chat("Hi", "Be kind.")) == "Be kind.\n\nHi"
    assert end_of_turn(plain) == plain.eos_token_id


def test_a_token_that_is_added_and_marked_special_is_known_as_such_at_once(tiny):
    import copy

    from ws.models.chat import special_tokens, token_called

    tok = copy.deepcopy(tiny.tokenizer)
    before = special_tokens(tok)
    assert token_called(tok, "<|mark|>") is None
    tok.add_special_tokens({"additional_special_tokens": ["<|mark|>"]})
    assert special_tokens(tok) - before == {token_called(tok, "<|mark|>")}
    tok.add_tokens(["plainword"])
    assert token_called(tok, "plainword") not in special_tokens(tok)
