"""Metrics on planted scores: each measures what its name says, and nothing else."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from planted import means, planted

from ws.errors import BadFile, ScoringImpossible
from ws.eval import EVALS, NAMES, PROTOCOLS, Evaluation, evaluation, protocol, recorded, shown, summarize
from ws.eval.questions import Result
from ws.eval.scoring import proven
from ws.models.chat import Chat, render
from ws.models.tiny import TWINS
from ws.presets import PRESETS, preset


@pytest.fixture(scope="module")
def syco(tiny):
    return EVALS["sycophancy"], EVALS["sycophancy"].items(tiny, None)


def test_one_who_always_says_yes_is_not_called_sycophantic(syco):
    found = means(syco[0], planted(*syco, lambda item, a: 3.0))
    assert found["yes_bias"] == pytest.approx(3)
    for metric in ("logratio", "syco", "belief", "agree_true", "logratio_claims"):
        assert found[metric] == pytest.approx(0)


def test_one_who_prefers_the_option_named_first_is_not_called_sycophantic(syco):
    found = means(syco[0], planted(*syco, lambda item, a: 2.0 if item.row_key.endswith("/0") else -2.0))
    assert all(abs(v) < 1e-9 for v in found.values())


def test_deference_is_told_from_belief(syco):
    flatterer = means(syco[0], planted(*syco, lambda item, a: item.label * (2.0 if item.kind in "FT" else 0.0)))
    believer = means(syco[0], planted(*syco, lambda item, a: item.label * 2.0))
    knower = means(syco[0], planted(*syco, lambda item, a: item.label * (2.0 if item.kind in "TR" else -2.0)))
    assert (flatterer["syco"], flatterer["belief"], flatterer["agree_true"]) == (2, 0, 2)
    assert (believer["syco"], believer["belief"], believer["logratio_claims"]) == (0, 2, 0)
    assert (knower["logratio"], knower["logratio_claims"]) == (-2, 2)


def test_the_honest_side_of_a_dilemma_is_the_same_whichever_action_is_asked(tiny):
    chosen = EVALS["dilemmas"]
    items = chosen.items(tiny, None)
    assert means(chosen, planted(chosen, items, lambda item, a: item.label))["logratio_honesty"] == pytest.approx(1)
    assert means(chosen, planted(chosen, items, lambda item, a: 1.0))["logratio_honesty"] == pytest.approx(0)
    assert {i.label for i in items} == {1, -1}
    assert len(items) == 4 * len({i.unit_id for i in items})


def test_foundation_axes_move_with_their_foundation_only(tiny):
    chosen = EVALS["foundations"]
    items = chosen.items(tiny, None)

    def shift(**by):
        return means(
            chosen, planted(chosen, items, lambda item, a: item.label * (0.2 + a * by.get(item.kind.split()[0], 0.0)))
        )

    assert shift(Sanctity=1.0)["axis_trad_care"] == pytest.approx(1, abs=0.01)
    assert shift(Care=1.0)["axis_trad_care"] == pytest.approx(-1, abs=0.01)
    assert shift(Authority=-1.0)["axis_authority"] == pytest.approx(1, abs=0.01)
    every = shift(**dict.fromkeys(("Care", "Sanctity", "Authority", "Loyalty", "Fairness", "Liberty", "Social"), -1.0))
    assert every["axis_trad_care"] == pytest.approx(0, abs=0.01)
    assert every["axis_authority_rel"] == pytest.approx(0, abs=0.01)
    assert every["axis_authority"] == pytest.approx(1, abs=0.01)
    assert every["common"] == pytest.approx(-1, abs=0.01)


def test_a_model_that_always_says_true_has_no_moral_view(tiny):
    chosen = EVALS["foundations"]
    found = means(chosen, planted(chosen, chosen.items(tiny, None), lambda item, a: 4.0 * a))
    assert np.isnan(found["axis_authority_b"])  # no two cells differ, so nothing says what is stretched
    assert all(abs(v) < 1e-6 for v in found.values() if np.isfinite(v))


def test_cells_below_the_gate_are_nan_counted_and_move_no_mean(tiny):
    chosen = EVALS["foundations"]
    items = chosen.items(tiny, None)
    bad = items[0].unit_id

    def score(item, a):
        return 1e6 if item.unit_id == bad else item.label * a

    rows = planted(chosen, items, score, pmass=lambda item, a: 0.5 if item.unit_id == bad else 1.0)
    clean = planted(chosen, [i for i in items if i.unit_id != bad], score)
    assert means(chosen, rows) == pytest.approx(means(chosen, clean), nan_ok=True)
    record = next(r for r in summarize(chosen, rows) if r["metric"] == "common" and r["alpha"] == 1.0)
    assert record["n_valid"] == record["n_total"] - 2


def test_shuffled_rows_give_the_same_table(tiny):
    rng = np.random.default_rng(0)
    for name in ("sycophancy", "dilemmas", "foundations"):
        chosen = EVALS[name]
        rows = planted(chosen, chosen.items(tiny, None), lambda item, a: rng.normal() + a * item.label)
        mixed = rows.sample(frac=1, random_state=1)
        for a, b in zip(summarize(chosen, rows), summarize(chosen, mixed)):
            assert a["mean"] == pytest.approx(b["mean"], abs=1e-9)
            assert (a["metric"], a["n"]) == (b["metric"], b["n"])


def test_rows_of_two_protocols_are_not_averaged(tiny):
    chosen = EVALS["dilemmas"]
    rows = planted(chosen, chosen.items(tiny, None), lambda item, a: 1.0)
    rows.loc[0, "protocol"] = "dd-1f/0"
    with pytest.raises(ValueError, match="different protocols"):
        Result(chosen, rows, {}).table()


def test_row_keys_are_unique_within_every_protocol(tiny):
    for chosen in PROTOCOLS.values():
        # the first have no questions of their own, the embedded world no ratings
        if not (chosen.of_run or chosen.needs) and not chosen.id.endswith("-loading"):
            keys = [i.row_key for i in chosen.items(tiny, None)]
            assert len(keys) == len(set(keys))


def test_unknown_names_say_what_there_is():
    with pytest.raises(ValueError, match="did you mean 'dilemmas'"):
        protocol("dilemma")
    with pytest.raises(ValueError, match=r"there are .*dilemmas, .*sycophancy"):
        protocol("weather")
    with pytest.raises(ValueError, match=r"there are syco-yn/1, syco-yn/pub1"):
        protocol("sycophancy", "syco-yn/2")


READS = {
    "lm-eval": "here",
    "gcd": str(TWINS / "gcd"),
    "tone": str(TWINS / "traits" / "dishonest.eval.json"),
    "mcqa": str(TWINS / "world_affecting" / "reward.jsonl"),
    **{name: str(TWINS / name.replace("-", "_") / "test.jsonl") for name in ("gsm8k", "tiny-mmlu")},
    "syc-qa": str(TWINS / "qa" / "test.jsonl"),
    "safety": str(TWINS / "direct_harm" / "test.jsonl"),
    "em": str(TWINS / "em_questions" / "test.jsonl"),
}
"""Evaluations whose data is looked at before a model is loaded, and data that is of use."""
OPTIONS = {"n_think": 4, "data": "mine.jsonl", "limit": 2, "tasks": ("a", "b"), "include_path": "here"}


@pytest.mark.parametrize("name", NAMES)
def test_an_option_is_taken_or_refused_by_its_name_before_any_work(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    Path("mine.jsonl").write_text('{"prompt": "Why?", "pos_answer": "So.", "neg_answer": "No."}')
    Path("other.jsonl").write_bytes(Path("mine.jsonl").read_bytes())
    judged = {"judge": "tiny"}
    needs = {"file": {"data": "other.jsonl"}, "lm-eval": {"tasks": ("c",)}, "tone": judged, "em": judged}
    needed = needs.get(name, {})
    for option, value in {**OPTIONS, "data": READS.get(name, OPTIONS["data"])}.items():
        if option in EVALS[name].takes:
            asked = evaluation(name, **{**needed, option: value})
            assert asked != evaluation(name, **needed) and asked.chosen.eval == name
        else:
            with pytest.raises(ValueError, match=f"`{option}` does nothing for {name}, wh.*; leave it out"):
                evaluation(name, **{option: value})


@pytest.mark.parametrize(
    ("name", "option"), [("pairs", {"limit": 3}), ("pairs", {"data": "a"}), ("file", {"n_think": 1})]
)
def test_what_the_command_line_refuses_is_refused_in_python_too(tiny, name, option):
    with pytest.raises(ValueError, match=f"does nothing for {name}"):
        Evaluation(name, **option).questions(tiny)


def test_tasks_are_named_by_the_id_of_their_protocol(tmp_path):
    here = str(tmp_path)
    asked = evaluation("lm-eval", tasks=("arc_easy", "piqa"), include_path=here, limit=5)
    assert asked == Evaluation("lm-eval", "lm-eval/arc_easy,piqa", data=here, limit=5)
    assert asked.chosen.metrics is recorded("lm-eval", "lm-eval/piqa@1.0/none").metrics
    with pytest.raises(ValueError, match="give `tasks` or `protocol`, not both"):
        evaluation("lm-eval", "lm-eval/piqa", tasks=("arc_easy",))


def test_a_data_file_needs_its_columns(tiny, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("idx,action\n1,Run\n")
    with pytest.raises(BadFile, match="lacks the columns"):
        EVALS["dilemmas"].items(tiny, str(path))
    with pytest.raises(BadFile, match="no data file"):
        EVALS["dilemmas"].items(tiny, str(tmp_path / "none.csv"))


def test_a_prompt_longer_than_the_context_is_refused_not_cut(tiny):
    from ws.eval.scoring import prompts_of

    item = EVALS["dilemmas"].items(tiny, None)[0]
    long = dataclasses.replace(item, chat=Chat("word " * 2000))
    with pytest.raises(ScoringImpossible, match="context holds"):
        prompts_of(tiny, [long])


def test_the_embedded_world_was_trained_on_the_wording_of_the_evaluations(tiny):
    known = set(tiny.tokenizer.get_vocab())
    assert known
    for name in ("sycophancy", "dilemmas", "foundations"):
        item = EVALS[name].items(tiny, None)[0]
        answers = proven(tiny, item)
        assert answers.yes
        assert (
            tiny.tokenizer.unk_token_id is None
            or tiny.tokenizer.unk_token_id not in tiny.tokenizer(render(tiny.tokenizer, item.chat)).input_ids
        )


def test_a_change_against_alpha_0_is_paired_and_the_spread_of_rows_is_told(tiny):
    chosen, rng = EVALS["dilemmas"], np.random.default_rng(0)
    items = chosen.items(tiny, None)
    noise = {i.row_key: rng.normal(0, 5) for i in items}
    rows = summarize(chosen, planted(chosen, items, lambda i, a: i.label * (noise[i.row_key] + 0.5 * a)))
    at = next(r for r in rows if r["alpha"] == 1.0)
    assert (at["delta"], at["delta_lo"], at["delta_hi"]) == pytest.approx((0.5, 0.5, 0.5))
    assert 4.5 < at["sd"] < 5.5
    assert next(r for r in rows if r["alpha"] == 0)["delta"] is None


def test_a_metric_that_is_another_one_on_this_data_is_shown_once(tiny):
    chosen = EVALS["dilemmas"]  # in the embedded world every action has honesty of its own
    rows = summarize(chosen, planted(chosen, chosen.items(tiny, None), lambda i, a: i.label * a))
    assert {r["metric"] for r in rows} == {"logratio_honesty", "logratio_honesty_own"}
    assert {r["metric"] for r in shown(rows, {})} == {"logratio_honesty"}


def test_presets_name_protocols_that_exist():
    for name in PRESETS:
        for of, protocol_id in preset(name, "protocol").items():
            assert protocol(of, protocol_id).id == protocol_id
