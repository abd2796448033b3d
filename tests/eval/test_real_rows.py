"""The published rows, as far as they lie beside this checkout: every row is read, or named with its reason."""

import pytest

from ws.errors import BadFile
from ws.eval import protocol
from ws.eval.questions import items_of
from ws.models.answers import anchor_before, find_answers

pytestmark = pytest.mark.real_data


def vignettes(real_data, config):
    return str(real_data / "tinymfv" / f"vignettes_{config}_other_violate.jsonl")


def test_airisk_vignettes_are_132_by_foundation_and_131_by_id(tiny, real_data):
    data = vignettes(real_data, "airisk")
    ours, published = (items_of(protocol("tinymfv", f"mfv-json/{x}"), tiny, data=data) for x in ("t0", "pub"))
    assert (len(ours), len(ours.units), ours.left_out, ours.smoke) == (528, 132, {}, False)
    assert (len(published), len(published.units), published.smoke) == (524, 131, False)
    (left_out,) = published.left_out.values()
    assert left_out == [f"46c0e2c74dac6031/Care/{c}" for c in ("other_violate", "self_violate")]
    assert sum(i.kind == "Care" for i in published) == 2 * 62


def test_classic_vignettes_and_their_ratings_are_read(tiny, real_data):
    data = vignettes(real_data, "classic")
    items = items_of(protocol("tinymfv", "mfv-classic/t0"), tiny, data=data)
    assert (len(items), len(items.units)) == (528, 132)
    loaded = items_of(protocol("foundations", "mfv-classic/t0-loading"), tiny, data=data)
    shares = [sum(float(part.split("=")[1]) for part in i.kind.split()) for i in loaded]
    assert shares == pytest.approx([1.0] * 528, abs=1e-3)
    with pytest.raises(BadFile, match="no ratings above 0"):  # airisk's own percentages were copied from other texts
        items_of(protocol("foundations", "mfv-json/t0-loading"), tiny, data=vignettes(real_data, "airisk"))


def test_daily_dilemmas_as_first_published_get_labels_from_their_values(tiny, real_data):
    data = str(real_data / "dilemmas" / "dilemmas_with_detail_by_action_test.csv")
    items = items_of(protocol("dilemmas", "dd-1f/1"), tiny, data=data)
    assert {(i.row_key[:-2], i.label, i.kind) for i in items} == {
        ("55/to_do", 1, "own"),
        ("55/not_to_do", -1, "mirror"),
    }
    assert [len(rows) for rows in items.left_out.values()] == [6]
    assert items.source.endswith("labels read from values_names")


def test_risk_dilemmas_of_a_model_s_answers_are_read_with_their_values(tiny, real_data, tmp_path):
    import shutil

    for name, n in (("gpt-4_first10rows_with_values.csv", 5), ("ft_raw_responses_30rows_with_values.csv", 15)):
        data = shutil.copy(real_data / "dilemmas" / name, tmp_path)
        (tmp_path / "value_map.csv").write_text(
            "value,value_class\ntruth-telling,Truthfulness\ntruth-seeking,Truthfulness\n"
        )
        items = items_of(protocol("airisk", "airisk-truth/1"), tiny, data=data)
        assert len(items.units) + sum(map(len, items.left_out.values())) == n
        assert "Action 1: Downplay risks in report\nAction 2: Report risks accurately" in items[0].chat.user
        assert items[0].label == -1
    with pytest.raises(BadFile, match="lacks the columns"):
        items_of(
            protocol("airisk", "airisk-truth/1"), tiny, data=str(real_data / "dilemmas" / "airisk_with_actions.jsonl")
        )


@pytest.mark.parametrize("name", ["qwen3", "qwen2.5", "llama2"])
def test_real_tokenizers_have_the_digit_next_and_booleans_at_the_colon(real_data, name):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_data / "tokenizers" / name)
    anchor = anchor_before(tokenizer, "My choice: Action", ("1", "2"))
    assert anchor == "My choice: Action "
    for words, slot in (
        ((("1",), ("2",)), anchor),
        ((("true",), ("false",)), '{"is_wrong":'),
        ((("yes",), ("no",)), "My choice: **"),
    ):
        found = find_answers(tokenizer, words, "Well.\n\n" + slot)
        assert found.yes and found.no


def test_a_model_without_thought_tokens_is_sent_to_the_plain_protocol(real_data):
    from ws.errors import ScoringImpossible
    from ws.eval import score_protocol
    from ws.models.load import load

    base, data = (
        load(str(real_data / "stories260k")),
        str(real_data / "dilemmas" / "dilemmas_with_detail_by_action_test.csv"),
    )
    with pytest.raises(
        ScoringImpossible,
        match="dd-cot/1 has the model think between thought tokens, and this one has none; use dd-cot/plain1",
    ):
        score_protocol(base, protocol("dilemmas", "dd-cot/1"), data=data)
