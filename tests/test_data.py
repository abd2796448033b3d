"""Pairs of one study: the same grid on both sides, no personas in the training text, and packs that mean what they say."""

import dataclasses
import hashlib
import json
import sys

import pytest
import yaml
from small import BEHAVIORS, behaviors

from ws.behaviors import load_behavior
from ws.data import DataSettings, data, default_data, preview, rows_to_fill
from ws.errors import BadFile, PairsUnfit
from ws.eval.sycophancy import held_out_claims as claim_rows
from ws.eval.tinymfv import vignettes
from ws.pairs import kept, normal_form, outlook
from ws.study.plan import Plan
from ws.study.stages import make_pairs, preview_pairs
from ws.train import default_train

FEW = dict(n_topics=12, n_personas=2, n_samples=1)


@pytest.mark.parametrize(("name", "tiny"), BEHAVIORS)
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
    texts = " ".join(normal_form(p.text) for name in behaviors(True) for p in load_behavior(name, tiny=True).train)
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


# ---- answers that are kept ----


def plan_in(folder, tiny, **changes):
    settings = dataclasses.replace(default_data(tiny), **{**FEW, **changes})
    return Plan(tiny, load_behavior("honesty", tiny=True), settings, default_train(tiny, "lora"), out=folder)


def test_a_failed_check_throws_no_answer_away_and_is_overruled_by_name(tiny, tmp_path, monkeypatch):
    plan = plan_in(tmp_path, tiny, min_distinct=1.0, temperature=0.0, n_samples=2)
    with pytest.raises(PairsUnfit, match=r"distinct = 0\.\d+.*kept in .*unfit-pairs\.jsonl, marked unfit") as e:
        make_pairs(plan)
    (file,) = tmp_path.glob("data/*/*/.*.part/resume/unfit-pairs.jsonl")
    assert str(file) in str(e.value)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 48
    assert all("distinct" in r["unfit"] and r["response_pos"] for r in rows)

    with pytest.raises(PairsUnfit, match="distinct"):
        make_pairs(dataclasses.replace(plan, data=dataclasses.replace(plan.data, accept=("ended",))))
    monkeypatch.setattr(
        sys.modules["ws.data"], "complete", lambda base, requests, *_, **__: ([], 1) if not requests else 1 / 0
    )
    accepting = dataclasses.replace(plan, data=dataclasses.replace(plan.data, accept=("distinct",)))
    assert accepting.data_place.key == plan.data_place.key
    pairs, record = make_pairs(accepting)
    assert record.manifest["provenance"]["overruled"] == ["distinct"]
    assert record.manifest["provenance"]["settings"]["accept"] == ["distinct"]
    assert len(pairs.rows) + sum(pairs.provenance["dropped"].values()) == 48
    assert not list(tmp_path.rglob("unfit-pairs.jsonl"))


def test_a_check_that_does_not_exist_cannot_be_accepted():
    with pytest.raises(ValueError, match="no check 'endet' to `accept`; there are empty"):
        DataSettings(accept=("endet",))


def test_own_pairs_that_fail_can_be_accepted_too(tiny, tmp_path):
    from ws.data import checked
    from ws.pairs import Pairs, pair_of

    rows = tuple(pair_of("x", "line", {**r, "ended_neg": False}, "mine") for r in LINES)
    with pytest.raises(PairsUnfit, match="ended"):
        checked(tiny, Pairs(rows))
    assert checked(tiny, Pairs(rows), accept=("ended",)).provenance["overruled"] == ["ended"]


def test_a_cap_that_the_user_set_only_warns_that_answers_did_not_end(tiny, caplog):
    pairs = data(tiny, "honesty", max_new_tokens=3, accept=("distinct", "duplicate", "identical"), **FEW)
    (ended,) = [c for c in pairs.checks if c.name == "ended"]
    assert (ended.value, ended.verdict) == (0.0, "warn")
    assert "100 % of the answers of one side did not end within the settings' 3 tokens" in caplog.text
    assert not any(r.ended_pos or r.ended_neg for r in pairs.rows)
    shown = preview(tiny, load_behavior("honesty", tiny=True), DataSettings(max_new_tokens=3, **FEW))
    assert [c.verdict for c in shown.checks if c.name == "ended"] == ["warn"]


def test_an_answer_in_the_store_that_is_not_what_was_written_is_written_again(tiny, tmp_path, caplog):
    whole = data(tiny, "honesty", work=tmp_path, **FEW)
    file = tmp_path / "resume" / "answers.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 48
    row = json.loads(lines[7])
    row["answers"][0]["text"] += "!"  # still JSON, and still an answer
    file.write_text("".join([*lines[:7], json.dumps(row) + "\n", *lines[8:], lines[3][:20]]))
    again = data(tiny, "honesty", work=tmp_path, **FEW)
    assert again.content_hash == whole.content_hash
    assert "1 of 48 answers" in caplog.text
    assert len(file.read_text().splitlines()) == 1 + 49
    with pytest.raises(BadFile, match="other settings"):
        data(tiny, "honesty", work=tmp_path, temperature=0.5, **FEW)


def test_what_the_first_dozen_pairs_promise_is_said_and_stops_only_if_that_was_asked_for(
    tiny, tmp_path, monkeypatch, caplog
):
    many = dict(n_topics=30, n_personas=2, n_samples=1)
    part = {
        "template": "Pretend you're {persona} person.",
        "pairs": [["a tall", "a short"], ["a short", "a tall"]],
        "prompts": {"source": "file", "file": "questions.txt"},
    }
    (tmp_path / "questions.txt").write_text("\n".join(p.text for p in load_behavior("honesty", tiny=True).train[:40]))
    same = {"name": "same", "pos_means": "a", "neg_means": "b", **part, "tiny": part}
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(same))
    behavior = load_behavior(tmp_path / "same.yaml", tiny=True)
    with pytest.raises(
        PairsUnfit, match=r"after the first 12 of 60 pairs: .*identical = 0\.\d+, .*rest takes up to \d+ s"
    ):
        data(tiny, behavior, strict=True, work=tmp_path, **many)
    kept_lines = (tmp_path / "resume" / "answers.jsonl").read_text().splitlines()
    assert 24 <= len(kept_lines) - 1 <= 120
    data(tiny, behavior, work=tmp_path, **many)
    assert "after the first" not in caplog.text, "the rest takes no minute"
    monkeypatch.setattr(sys.modules["ws.data"], "WORTH_SAYING", 0.0)
    data(tiny, behavior, **many)
    assert "Ctrl-C keeps what is written" in caplog.text
