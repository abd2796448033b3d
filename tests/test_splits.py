"""What is learnt from is not chosen on, and what was seen at all is not reported: questions in three parts."""

import dataclasses
import json
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import behaviors

from ws import methods
from ws.behaviors import load_behavior, neutral_prompts
from ws.calibrate import CalibrateSettings, Calibration, Side, sets_of
from ws.data import DataSettings
from ws.direction import Direction
from ws.direction.algebra import project_out
from ws.errors import BadFile
from ws.eval import PROTOCOLS, Evaluation
from ws.eval.questions import RunPairs
from ws.grid import cells as grid
from ws.pairs import Pair, Pairs, mark_of, marks_in, marks_of_text, normal_form, question_hashes, save_pairs
from ws.results.measured import measured
from ws.results.published import sheets
from ws.results.sentences.comparison import _seeds
from ws.results.sentences.questions import not_held_out, pairs_left_out
from ws.results.trials import Trial, by_method
from ws.study.evaluations import Subject, make_eval, rows_in
from ws.study.options import Common
from ws.study.plan import Plan
from ws.study.stages import make_direction, make_pairs, make_sides, material
from ws.train import TrainSettings, train
from ws.train.loop import Fit
from ws.train.losses import Losses
from ws.train.sequences import split

OURS = ("sycophancy", "perplexity")  # evaluations whose real questions are shipped; others come from the hub
DATA = DataSettings(n_topics=12, n_samples=1, n_personas=1, max_len=96, temperature=1.0, top_k=0, min_distinct=0.01)
TRAIN = TrainSettings(rank=2, lr=(2e-3,), batch_size=4, epochs=1, eval_every=2, max_len=96)


def study(tiny, out, *, seed=0, behavior=None, data=DATA, **more) -> Plan:
    """A small study on the embedded model."""
    behavior = behavior or load_behavior("honesty", tiny=True)
    return Plan(
        tiny,
        behavior,
        dataclasses.replace(data, seed=seed),
        dataclasses.replace(TRAIN, seed=seed, **more),
        out=out,
    )


@pytest.fixture(scope="module")
def plan(tiny, tmp_path_factory):
    made = study(tiny, tmp_path_factory.mktemp("splits"))
    make_pairs(made)
    return made


def named(plan: Plan, part: str) -> set[str]:
    return {text for number in getattr(plan.parts, part) for text in plan.questions[number]}


def questions_in(plan: Plan, rows) -> set[str]:
    """The study's questions that stand in some token ids."""
    texts = [plan.base.tokenizer.decode(ids) for ids in rows]
    return {q for number in plan.questions for q in plan.questions[number] if any(q in t for t in texts)}


# ---------------------------------------------------------------- the three parts


@given(st.integers(3, 200), st.integers(0, 5), st.floats(0.01, 0.45), st.floats(0.01, 0.45))
def test_the_three_parts_are_disjoint_cover_all_questions_and_hold_at_least_one(n, seed, val, test):
    topics = {3 * i + 1 for i in range(n)}
    if sum(max(1, round(share * n)) for share in (val, test)) >= n:
        with pytest.raises(ValueError, match="or smaller shares"):
            split(topics, val_share=val, test_share=test, seed=seed)
        return
    parts = split(topics, val_share=val, test_share=test, seed=seed)
    each = [parts.train, parts.val, parts.test]
    assert all(each) and frozenset().union(*each) == topics and sum(map(len, each)) == n
    assert abs(len(parts.test) - test * n) <= 1 and abs(len(parts.val) - val * n) <= 1
    assert split(sorted(topics, reverse=True), val_share=val, test_share=test, seed=seed) == parts


def test_another_seed_or_share_splits_otherwise():
    parts = {split(range(40), val_share=v, test_share=t, seed=s) for v, t, s in [(0.1, 0.1, 0), (0.1, 0.1, 1), (0.2, 0.1, 0), (0.1, 0.2, 0)]}  # fmt: skip
    assert len(parts) == 4


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_questions_are_refused_in_one_sentence(tiny, n):
    rows = tuple(Pair(f"What is {i}?", "It is this one here.", "It is that one there.", topic_idx=i) for i in range(n))
    with pytest.raises(ValueError, match="at least three questions"):
        train(tiny, Pairs(rows * 9), TRAIN)


def test_a_question_without_a_useful_answer_moves_no_other_question(tiny, plan):
    pairs, _ = make_pairs(plan)
    for lost in range(12):
        fewer = pairs.of(set(range(12)) - {lost})
        assert TRAIN.parts(fewer.topics) == plan.parts


# ---------------------------------------------------------------- who reads what


def test_training_learns_from_one_part_and_chooses_on_another(tiny, plan, monkeypatch):
    learnt, judged = [], []
    step, judge = Losses.step, Fit._judge

    def stepping(self, rows, optimizer):
        learnt.extend(r.ids for r in rows)
        return step(self, rows, optimizer)

    def judging(self, side, name):
        judged.extend(self.examples.rows[name][i].ids for i in self.examples.val)
        return judge(self, side, name)

    monkeypatch.setattr(Losses, "step", stepping)
    monkeypatch.setattr(Fit, "_judge", judging)
    sides = train(tiny, make_pairs(plan)[0], plan.train)
    assert questions_in(plan, learnt) == named(plan, "train")
    assert questions_in(plan, judged) == named(plan, "val")
    assert sides.report["n_test"] == len(plan.parts.test) == 1
    used = question_hashes(named(plan, "train") | named(plan, "val"))
    assert sides.pos.provenance["questions"] == used


@pytest.mark.parametrize("name", ["repe", "sl:sspace_w", "paper:all", "paper:single", "paper:single-last"])
def test_states_are_read_of_the_training_questions_and_layers_chosen_on_validation(tiny, plan, name, monkeypatch):
    from ws.methods.activation import paper, states

    read, chosen = [], []
    whole, effect = states.states, paper.effect
    monkeypatch.setattr(states, "states", lambda b, texts, n: (read.extend(t for t, _ in texts), whole(b, texts, n))[1])
    monkeypatch.setattr(
        paper, "effect", lambda b, m, held: (chosen.extend(r.prompt for r in held), effect(b, m, held))[1]
    )
    made = methods.make(name, material(plan))
    assert questions_in(plan, read) == named(plan, "train")
    assert set(chosen) == (named(plan, "val") if "single" in name else set())
    assert made.provenance["questions"] == question_hashes(named(plan, "train") | set(chosen))


@pytest.mark.parametrize("name", ["paper:single", "paper:single-last"])
def test_a_layer_is_chosen_once_for_a_study_and_anew_where_other_questions_are_held_out(plan, name, monkeypatch):
    from ws.methods.activation import paper

    first = methods.make(name, material(plan))
    asked, effect = [], paper.effect
    monkeypatch.setattr(paper, "effect", lambda b, m, held: (asked.append(held), effect(b, m, held))[1])
    again = methods.make(name, material(plan))
    assert asked == []
    assert (again.content_hash, again.provenance) == (first.content_hash, first.provenance)
    assert again.edits.keys() == first.edits.keys()  # type: ignore[attr-defined]
    methods.make(name, material(replace(plan, train=replace(plan.train, val_share=2 * plan.train.val_share))))
    assert asked


def test_held_out_pairs_are_the_test_questions(tiny, plan):
    pairs, _ = make_pairs(plan)
    sides, _ = make_sides(plan, pairs)
    direction, _ = make_direction(plan, sides)
    subject = Subject(tiny, direction, plan.run_folder, "ws:lora", pairs=RunPairs(pairs, plan.train))
    _, record = make_eval(subject, Evaluation("pairs"), alphas=(1.0,))
    import pandas as pd

    asked = pd.read_parquet(record.folder / "items.parquet")
    assert set(asked["prompt"]) == named(plan, "test")
    assert set(rows_in(record)["row_key"]) == set(asked["row_key"])
    assert not marks_in(direction.provenance) & {question_hashes([q]) for q in asked["prompt"]}


def test_every_family_of_a_study_has_the_same_test_questions(tiny, plan):
    other = dataclasses.replace(TRAIN, adapter="ia3", rank=None, lr=(1e-1,), test_share=0.4, seed=9)
    one, two = (material(plan, {"ia3": other}).sides_of(a) for a in ("lora", "ia3"))
    assert one.pos.provenance["questions"] == two.pos.provenance["questions"]


def test_given_pairs_are_split_the_same_way_for_training_and_states(tiny, plan, tmp_path):
    pairs, _ = make_pairs(plan)
    renamed = [dataclasses.replace(r, topic_idx=7 * r.topic_idx + 2) for r in pairs.rows]
    save_pairs(Pairs(tuple(renamed)), tmp_path / "mine.jsonl")
    own = dataclasses.replace(plan, pairs_file=tmp_path / "mine.jsonl", out=tmp_path)
    assert own.parts == plan.train.parts(make_pairs(own)[0].topics)
    assert {(t - 2) // 7 for t in own.parts.train} == plan.parts.train
    sides = train(tiny, make_pairs(own)[0], own.train)
    assert sides.pos.provenance["questions"] == question_hashes(named(own, "train") | named(own, "val"))
    assert methods.make("repe", material(own)).provenance["questions"] == question_hashes(named(own, "train"))


# ---------------------------------------------------------------- seeds


def flat(method) -> torch.Tensor:
    return torch.cat([t.flatten().double() for _, t in sorted(method.packed()[1].items())])


@pytest.mark.parametrize("name", ["sl:mean_diff", "repe", "sl:linear_act"])
def test_another_seed_reads_other_questions_of_the_shipped_pool(tiny, name, tmp_path):
    made = []
    for seed in (0, 1):
        plan = study(tiny, tmp_path, seed=seed, behavior=load_behavior("honesty"), data=DataSettings(n_topics=50))
        made.append(methods.make(name, material(plan)))
    one, two = map(flat, made)
    assert (one - two).norm() > 0.02 * one.norm()  # of the same questions in another order: 2e-8
    a, b = (marks_in(m.provenance) for m in made)
    assert len(a) == len(b) == 40 and len(a & b) < 20


def test_the_questions_of_a_study_are_known_before_any_answer(tiny, tmp_path):
    asked = [p.questions for p in (study(tiny, tmp_path, seed=s) for s in (0, 0, 1))]
    assert asked[0] == asked[1] != asked[2]
    assert not list(tmp_path.iterdir())


def cell(seed: int, questions, numbers):
    own = {
        "asked": "repe",
        "kin": "repe",
        "seed": seed,
        "control": False,
        "places": "activations",
        "kind": "activation",
    }
    return Trial({**own, "questions": questions, "numbers": numbers}, {})


def test_how_many_questions_two_seeds_share_is_said():
    three = [cell(0, ["a", "b", "c", "d"], "0"), cell(1, ["c", "d", "e", "f"], "1"), cell(2, ["f", "g", "h", "i"], "2")]
    (kin,), _ = by_method(three, {})
    assert kin.overlap == 0.5
    assert any("at most 50 % are another's" in line for line in _seeds([kin]))


def test_seeds_that_share_all_their_random_choices_count_once():
    one, same, other = cell(0, ["a"], "x"), cell(1, ["a"], "x"), cell(2, ["b"], "y")
    (kin,), _ = by_method([one, same, other], {})
    assert kin.each == (one, other)
    texts = [cell(s, [], None) for s in (0, 1)]  # a prompt has no numbers
    assert len(by_method(texts, {})[0][0].each) == 2


def test_a_method_has_the_same_numbers_under_another_name_and_another_method_has_others(tiny, plan):
    made = methods.make("repe", material(plan))
    renamed = dataclasses.replace(made, name="other", provenance={"seed": 9})
    assert made.numbers_hash == renamed.numbers_hash and made.content_hash != renamed.content_hash
    assert methods.make("sl:mean_diff", material(plan)).numbers_hash != made.numbers_hash
    assert methods.make("prompt:simple", material(plan)).numbers_hash is None


# ---------------------------------------------------------------- the pairs evaluation


def test_another_split_is_another_result_of_the_pairs_evaluation(tiny, plan, tmp_path):
    pairs, _ = make_pairs(plan)

    def measured(**share):
        settings = dataclasses.replace(plan.train, **share)
        subject = Subject(tiny, None, tmp_path, pairs=RunPairs(pairs, settings))
        table, record = make_eval(subject, Evaluation("pairs"), alphas=(0.0,))
        return table[0]["n_total"], record

    first, again, more = measured(), measured(), measured(test_share=0.5)
    assert again[1].reused and not more[1].reused
    assert first[0] == len(pairs.of(plan.train.parts(pairs.topics).test).rows) < more[0]
    folders = {measured(**s)[1].folder for s in ({}, {"val_share": 0.5}, {"test_share": 0.5}, {"seed": 1})}
    assert len(folders) == 4


def test_pairs_that_are_left_out_are_named_and_counted_and_whole_answers_are_scored(tiny, tmp_path):
    long = "The capital of Kenya is Nairobi, " * 900
    rows = [Pair(f"What is the capital of {c}?", "It is Nairobi.", "It is Paris.", c, topic_idx=i) for i, c in enumerate(["Kenya", "Peru", "Cuba"])]  # fmt: skip
    cut = dataclasses.replace(rows[0], prompt_id="long", response_pos=long)
    beyond = dataclasses.replace(rows[1], prompt_id="odd", response_neg="<think>\nhm\n</think>\n\nNo.")
    from ws.eval import pairs as pairs_eval

    many = Pairs((*rows * 9, cut, beyond))
    result = pairs_eval.score_pairs(tiny, many, alphas=(0.0,), dial=None, method="base")
    note = result.note
    assert note["n_pairs"] == 29 and note["n_items"] == len(pairs_eval.asked(many, result)) == len(result.rows) == 27
    assert {w: n["rows"] for w, n in note["left_out"].items()} == {
        f"longer than {tiny.model.config.max_position_embeddings} tokens": ["long/0/0"],
        "the chat template rewrites an answer": ["odd/0/0"],
    }
    assert result.rows["row_key"].is_unique  # though a file may say the same name nine times


def test_what_was_left_out_of_the_pairs_is_read_out(tiny, tmp_path):
    rows = [Pair(f"What is the capital of {c}?", "It is Nairobi.", "It is Paris.", c, topic_idx=i, sample_idx=k) for i, c in enumerate(["Kenya", "Peru", "Cuba"]) for k in range(9)]  # fmt: skip
    odd = [dataclasses.replace(r, sample_idx=9, response_neg="<think>\nhm\n</think>\n\nNo.") for r in rows[::9]]
    settings = dataclasses.replace(TRAIN, allow_template_diff=False)

    def said(pairs):
        subject = Subject(tiny, None, tmp_path / "base" / "m", pairs=RunPairs(pairs, settings))
        _, record = make_eval(subject, Evaluation("pairs"), alphas=(0.0,))
        return pairs_left_out(measured([record.folder]))

    assert said(Pairs(tuple(rows))) == []
    (line,) = said(Pairs((*(rows * 3), *odd)))
    assert line.startswith(
        "27 of 28 pairs were scored; left out: 1 because the chat template rewrites an answer (e.g. "
    )


def test_an_answer_longer_than_training_takes_is_scored_whole(tiny, plan):
    from ws.eval import pairs as pairs_eval
    from ws.eval.scoring import sequence_logprobs
    from ws.train.sequences import finished

    pair = Pair("What is the capital of Kenya?", "It is Nairobi. " * 20, "It is Paris.", "k")
    result = pairs_eval.score_pairs(tiny, Pairs((pair,)), alphas=(0.0,), dial=None, method="base")
    both = [finished(tiny.tokenizer, pair.prompt, a)[:2] for a in (pair.response_pos, pair.response_neg)]
    assert len(both[0][0]) > 96
    pos, neg = (sequence_logprobs(tiny, [b], alphas=[0.0])[0][0] for b in both)
    assert result.rows["y"].item() == pytest.approx(pos - neg, abs=1e-5)


# ---------------------------------------------------------------- what was used is said where it is reported


@pytest.mark.parametrize("embedded", [True, False], ids=["tiny", "real"])
def test_no_shipped_evaluation_asks_what_a_behavior_learns_from_or_a_strength_is_found_on(tiny, embedded):
    base = tiny if embedded else dataclasses.replace(tiny, id="other")
    texts = {p.text for name in behaviors(embedded) for p in load_behavior(name, tiny=embedded).train}
    texts |= {p.text for p in neutral_prompts(embedded) if p.split == "calib"}
    used = {mark_of(t) for t in texts}
    asked: set[str] = set()
    for protocol in PROTOCOLS.values():
        if not (protocol.of_run or protocol.needs) and (embedded or protocol.eval in OURS):
            with suppress(BadFile):  # the tiny vignettes have no loadings
                asked |= {item.chat.user for item in protocol.items(base, None)}
    assert len(asked) > (1000 if embedded else 500)
    assert not [q for q in asked if marks_of_text(q) & used]
    long = [t for t in map(normal_form, texts) if len(t) > 20]
    assert not [q for q in map(normal_form, asked) if any(t in q for t in long)]


def measured_on(tiny, plan, method, questions, out, *, strength=None):
    """What a table says of a method that is asked some questions of one's own."""
    path = out / "mine.jsonl"
    rows = [{"prompt": q, "pos_answer": "It is Nairobi.", "neg_answer": "It is Paris."} for q in questions]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    subject = Subject(tiny, method, out / "honesty" / "m" / "run", method.name)
    _, record = make_eval(subject, Evaluation("file", data=str(path)), alphas=(-1.0, 1.0), strength=strength)
    return measured([record.folder])


NEW = ["What is the capital of Kenya?", "What is the capital of Peru?", "What is the capital of Cuba?"]


@pytest.mark.parametrize("name", ["ws:lora", "repe"])
def test_a_planted_training_question_is_marked_in_every_reading_and_a_new_one_is_not(tiny, plan, name, tmp_path):
    method = methods.make(name, material(plan))
    methods.save(method, tmp_path / "m.safetensors")
    method = methods.load(tmp_path / "m.safetensors")  # the marks travel in the file
    old = sorted(named(plan, "train"))[0]

    (fresh,) = found = measured_on(tiny, plan, method, NEW, tmp_path)
    assert fresh.held_out is True and not not_held_out(found)
    assert not any("HELD" in r for s in sheets(found)[0] for r in s.readings)

    (stale,) = found = measured_on(tiny, plan, method, [*NEW, f"Question: {old.upper()}"], tmp_path)
    line = f"NOT HELD OUT: 1 of 4 questions of file/1 were used to make {name}."
    assert stale.seen == {"to make": {"row-4"}} and stale.held_out is False and not_held_out(found) == [line]
    made, _ = sheets(found)
    assert made and all(line in s.readings and "(not held out)" in " ".join(s.lines[0]) for s in made)


def test_a_test_question_is_new_and_a_validation_question_is_not(tiny, plan, tmp_path):
    method = methods.make("ws:lora", material(plan))
    for part, new in (("test", True), ("val", False)):
        (one,) = measured_on(tiny, plan, method, [*NEW, *named(plan, part)], tmp_path)
        assert one.held_out is new


def test_a_question_that_the_strength_was_found_on_is_marked(tiny, plan, tmp_path):
    method, behavior = methods.make("random:act:0", material(plan)), plan.behavior
    cell = grid.Cell(Common(behavior="honesty", out=str(tmp_path)), "random:act:0", 0, calibrate={})
    side = Side(1.0, 1.0, "ok", *[1.0] * 7, *[1.0] * 3, True, 1, (), ())
    found = Calibration("m", side, dataclasses.replace(side, alpha=-1.0), CalibrateSettings())
    strength = grid.strengths(tiny, behavior, method, cell, found)
    asked = sets_of(tiny, CalibrateSettings(), behavior)
    (one,) = measured_on(tiny, plan, method, [*NEW, asked.calib[3], asked.audit[3]], tmp_path, strength=strength)
    assert one.seen == {"to calibrate": {"row-4"}}
    assert not_held_out([one]) == [
        "NOT HELD OUT: 1 of 5 questions of file/1 were used to find the strength of random:act:0."
    ]


def test_of_a_direction_from_outside_it_is_not_known(tiny, plan, tmp_path):
    outside = Direction(methods.make("ws:lora", material(plan)).direction.forms, {"made_by": "someone"})
    (one,) = found = measured_on(tiny, plan, methods.as_method(outside), NEW, tmp_path)
    assert one.held_out is None
    assert "not known" in not_held_out(found)[0]
    prompt = methods.make("prompt:simple", material(plan))  # made from no question, and says so
    assert measured_on(tiny, plan, prompt, NEW, tmp_path)[0].held_out is True


def test_what_is_made_from_another_direction_keeps_its_questions(tiny, plan):
    made = methods.make("ws:lora", material(plan)).direction
    known = marks_in(made.provenance)
    other = Direction({k: made.forms[k] for k in list(made.forms)[:2]}, {"base": made.provenance["base"]})
    random = methods.make("random:spectrum:0", material(plan))
    for d in (made * 2, made + made, project_out(other, made, tiny.weight), random.direction):
        assert marks_in(d.provenance) == known
    assert known and marks_in(other.provenance) is None
