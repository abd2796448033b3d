"""Pairs of one study: the same grid on both sides, no personas in the training text, and packs that mean what they say."""

import dataclasses
import hashlib
import json

import pytest
import yaml

from ws.behaviors import SHIPPED, load_behavior
from ws.data import DataSettings, data, default_data, rows_to_fill
from ws.errors import BadFile, PairsUnfit
from ws.eval.sycophancy import held_out_claims as claim_rows
from ws.eval.tinymfv import vignettes
from ws.pairs import kept, normal_form, outlook
from ws.study.plan import Plan
from ws.study.stages import make_pairs, preview_pairs
from ws.train import default_train

FEW = dict(n_topics=12, n_personas=2, n_samples=1)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("tiny", [False, True])
def test_every_shipped_behavior_has_personas_or_answers_and_enough_distinct_questions(name, tiny):
    b = load_behavior(name, tiny=tiny)
    assert b.name == name
    assert len({normal_form(p.text) for p in b.prompts}) == len(b.prompts) >= (60 if name == "sycophancy" else 150)
    assert b.answers is not None or all(b.systems(i)[0] != b.systems(i)[1] for i in range(len(b.pairs)))
    assert any(b.intent.values())


def test_row_i_of_both_sides_shares_prompt_persona_and_sample(tiny):
    pairs = data(tiny, "honesty", **FEW)
    for r in pairs.rows:
        assert r.sys_prompt_pos != r.sys_prompt_neg
        pos, neg = load_behavior("honesty", tiny=True).systems(r.persona_idx)
        assert (r.sys_prompt_pos, r.sys_prompt_neg) == (pos, neg)
    assert len({(r.prompt_id, r.persona_idx, r.sample_idx) for r in pairs.rows}) == len(pairs.rows)
    assert pairs.provenance["n_generated"] == 24


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others(tiny):
    one, two, other = (
        data(tiny, "honesty", **FEW),
        data(tiny, "honesty", batch_size=5, **FEW),
        data(tiny, "honesty", seed=1, **FEW),
    )
    assert one.content_hash == two.content_hash != other.content_hash


def test_the_grid_is_the_same_set_whatever_its_order():
    b = load_behavior("honesty", tiny=True)
    cells = lambda s: {(r.prompt_id, r.persona_idx, r.sample_idx) for r in rows_to_fill(b, s)}  # noqa: E731
    every = DataSettings(n_topics=len(b.train), n_samples=2)
    assert (
        cells(every)
        == cells(dataclasses.replace(every, shuffle_topics=False))
        == cells(dataclasses.replace(every, seed=5))
    )
    some = DataSettings(n_topics=20, n_samples=1)
    assert cells(some) != cells(dataclasses.replace(some, seed=5))


def test_samples_fill_up_to_about_a_thousand_rows():
    b = load_behavior("honesty")
    assert len(rows_to_fill(b, DataSettings())) == 1000
    assert len(rows_to_fill(load_behavior("honesty5"), DataSettings())) == 1000
    assert len(rows_to_fill(b, DataSettings(n_samples=3))) == 150


def test_default_pairs_of_every_behavior_pass_their_checks_on_tiny(tiny):
    for name in ("sycophancy", "trad_care", "authority"):
        pairs = data(tiny, name, dataclasses.replace(default_data(tiny), n_topics=60, n_samples=1))
        verdict = {c.name: c.verdict for c in pairs.checks}
        assert "fail" not in verdict.values()
        assert len(pairs.rows) > 60


def test_evaluation_topics_are_not_training_questions(tiny):
    texts = " ".join(normal_form(p.text) for name in SHIPPED for p in load_behavior(name, tiny=True).train)
    for r in claim_rows(tiny, None):
        assert normal_form(r["claim"]) not in texts
        assert normal_form(r["true_variant"]) not in texts
    for rows in vignettes(tiny, None).values():
        assert all(normal_form(r["text"]) not in texts for r in rows)


def test_a_users_pack_with_a_tiny_section_works(tiny, tmp_path):
    part = {
        "template": "Pretend you're {persona} person.",
        "pairs": [["an honest", "a dishonest"]],
        "prompts": {"source": "file", "file": "questions.txt"},
    }
    pack = {"name": "mine", "pos_means": "a", "neg_means": "b", **part, "tiny": part}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(pack))
    (tmp_path / "questions.txt").write_text("\n".join(p.text for p in load_behavior("honesty", tiny=True).train[:12]))
    pairs = data(tiny, load_behavior(tmp_path / "mine.yaml", tiny=True), n_topics=12, n_samples=1)
    assert {r.behavior for r in pairs.rows} == {"mine"}


def test_a_preview_holds_word_for_word_what_the_study_would_and_keeps_nothing(tiny, tmp_path):
    settings = dataclasses.replace(default_data(tiny), n_topics=12)
    plan = Plan(tiny, load_behavior("honesty", tiny=True), settings, default_train(tiny, "lora"), out=tmp_path)
    some = preview_pairs(plan)
    assert (len(some.rows), some.planned) == (50, 60)
    assert not list(tmp_path.iterdir())
    assert {c.name for c in some.checks} >= {"identical", "separable", "consistent"}
    pairs, _ = make_pairs(plan)
    assert kept(some.rows)[0] == tuple(r for r in pairs.rows if r.topic_idx < 10)


def test_a_preview_of_answers_that_are_there_looks_at_all_of_them_and_refuses_none(tiny, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({**r, "ended_neg": False}) + "\n" for r in LINES))
    plan = Plan(tiny, None, default_data(tiny), default_train(tiny, "lora"), out=tmp_path / "out", pairs_file=path)
    some = preview_pairs(plan)
    assert len(some.rows) == some.planned == len(LINES)
    assert next(c.verdict for c in some.checks if c.name == "ended") == "fail"
    assert outlook(some.checks, some.rows)[0] == "fail"


def test_an_answer_longer_than_training_takes_is_never_generated(tiny):
    with pytest.raises(ValueError, match="no room for an answer"):
        data(tiny, "honesty", max_len=16, **FEW)


@pytest.mark.parametrize("name", ["sycophancy", "trad_care", "authority"])
def test_a_stage_reads_back_the_pairs_it_wrote(tiny, tmp_path, name):
    settings = dataclasses.replace(default_data(tiny), n_topics=40, n_personas=2)
    plan = Plan(tiny, load_behavior(name, tiny=True), settings, default_train(tiny, "lora"), out=tmp_path)
    made, record = make_pairs(plan)
    again, reused = make_pairs(plan)
    assert (record.reused, reused.reused) == (False, True)
    assert made.rows == again.rows
    assert made.content_hash == record.manifest["content"]
    lines = (record.folder / "pairs.jsonl").read_text().replace("a", "o", 1)
    (record.folder / "pairs.jsonl").write_text(lines)
    with pytest.raises(BadFile, match="not what was written"):
        make_pairs(plan)


# ---- pairs that somebody else wrote ----

THINGS = ["cake", "song", "poem", "letter", "chair", "plan", "garden", "story", "coat", "dance", "game", "house"]
LINES = [
    {"prompt": f"How is my {t}?", "response_pos": f"Your {t} is good.", "response_neg": f"Your {t} is bad."}
    for t in THINGS
]


def own_pairs(tiny, folder, lines):
    """The pairs stage of a file with these lines."""
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in lines))
    plan = Plan(tiny, None, default_data(tiny), default_train(tiny, "lora"), out=folder / "out", pairs_file=path)
    return make_pairs(plan)


def test_own_pairs_are_checked_like_generated_ones(tiny, tmp_path):
    long = [{**r, "response_pos": r["response_pos"] + " It is good, and it is good." * 3} for r in LINES]
    for lines, value, verdict in ((LINES, 0.5, "ok"), (long, 1.0, "warn")):
        pairs, record = own_pairs(tiny, tmp_path, lines)
        length = next(c for c in pairs.checks if c.name == "length")
        assert (length.value, length.verdict) == (value, verdict)
        assert {c["name"] for c in record.manifest["checks"]} >= {"duplicate", "distinct", "ended", "separable"}
        assert "leaks" not in {c.name for c in pairs.checks}, "nobody said what the personas were"


def test_own_pairs_that_carry_no_direction_are_refused_as_generated_ones_are(tiny, tmp_path):
    with pytest.raises(PairsUnfit, match=r"distinct = 0\.08"):
        own_pairs(tiny, tmp_path, [{**r, "response_pos": "Good."} for r in LINES])
    with pytest.raises(PairsUnfit, match=r"ended = 0\.00"):
        own_pairs(tiny, tmp_path, [{**r, "ended_neg": False} for r in LINES])


def test_tokens_are_counted_by_the_base_unless_every_row_of_the_file_says(tiny, tmp_path):
    counted = [{**r, "n_tok_pos": 9, "n_tok_neg": 9} for r in LINES]
    assert {r.n_tok_pos for r in own_pairs(tiny, tmp_path, counted)[0].rows} == {9}
    for lines in (LINES, [*counted[:-1], LINES[-1]]):
        for r in own_pairs(tiny, tmp_path, lines)[0].rows:
            assert r.n_tok_pos == len(tiny.tokenizer(r.response_pos, add_special_tokens=False)["input_ids"]) + 1


def test_own_pairs_say_where_they_come_from_and_what_was_dropped(tiny, tmp_path):
    again = {**LINES[0], "response_neg": "It is a bad cake."}
    equal = {**LINES[1], "response_neg": LINES[1]["response_pos"]}
    pairs, record = own_pairs(tiny, tmp_path, [*LINES, again, equal])
    said = record.manifest["provenance"]
    digest = hashlib.sha256((tmp_path / "mine.jsonl").read_bytes()).hexdigest()
    assert said["files"] == [{"file": "mine.jsonl", "sha256": digest}]
    assert (said["n_rows"], said["n_questions"], len(pairs.rows)) == (14, 12, 12)
    assert said["dropped"] == {"duplicate": 1, "identical": 1}
    assert said["dropped_rows"] == {"duplicate": [13], "identical": [14]}


def test_a_changed_pairs_file_is_another_study_and_the_same_one_is_reused(tiny, tmp_path):
    first, again = (own_pairs(tiny, tmp_path, LINES)[1] for _ in range(2))
    other = own_pairs(tiny, tmp_path, LINES[:-1])[1]
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert first.key == again.key != other.key
