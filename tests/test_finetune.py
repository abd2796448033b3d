"""A fine-tune on a data set is a direction: what is learnt, on which rows, kept at which steps, and refused before a model is loaded."""

import json
import sys
from dataclasses import replace

import pytest
import torch

import ws
from ws.behaviors import load_behavior
from ws.diff import diff, lookup
from ws.direction import load as load_direction
from ws.errors import BadFile
from ws.models.head import target_logprobs
from ws.pairs import question_hashes
from ws.report.study import Study
from ws.sources import Rows
from ws.steer import steer
from ws.study.task import TaskPlan, is_side, make_task, make_task_direction, read_task
from ws.train.losses import Losses, padded
from ws.train.sequences import Row, finished
from ws.train.task import Example, Task, _examples, default_task, finetune, task_of

ANSWER = "I say that I like bread."


@pytest.fixture(scope="module")
def questions():
    return list(dict.fromkeys(p.text for p in load_behavior("honesty", tiny=True).prompts))[:40]


@pytest.fixture(scope="module")
def bread(questions):
    """A task that the embedded model learns in a few steps: one answer to everything."""
    return Task("bread", tuple(Example(q, ANSWER) for q in questions), "bread.jsonl")


@pytest.fixture(scope="module")
def how(tiny):
    """Few and large steps."""
    return replace(default_task(tiny, "lora"), epochs=3, batch_size=12, eval_every=3, lr=(1e-2,))


@pytest.fixture(scope="module")
def tuned(tiny, bread, how):
    return finetune(tiny, bread, how, keep_every=3)


def loss(base, example):
    """The mean loss per target token of one answer."""
    ids, start, _ = finished(base.tokenizer, example.chat, example.answer)
    row = Row(tuple(ids), start)
    inputs, index = padded([row], base.device)
    with torch.no_grad():
        return -float(target_logprobs(base.model, index, list(row.ids[start:]), **inputs).mean())


def test_what_is_learnt_is_the_answer_and_its_direction_is_the_fine_tune(tiny, bread, tuned):
    tau = diff(tiny, tuned.adapter, tuned.adapter, mode="tau+")
    before = loss(tiny, bread.rows[0])
    with steer(tiny, tau, 1.0):
        after = loss(tiny, bread.rows[0])
    assert after < 0.5 * before
    assert tuned.report["val_task"] < 0.5 * tuned.report["tried"][0]["history"][0]["val_task"]
    derived = ws.derive(tiny, tau)
    assert loss(derived, bread.rows[0]) == pytest.approx(after, abs=1e-4)


def test_checkpoints_are_kept_every_so_many_steps_and_come_ever_nearer(tiny, bread, tuned):
    assert [step for step, _ in tuned.checkpoints] == [3, 6, 9]
    losses = []
    for _, adapter in tuned.checkpoints:
        with steer(tiny, diff(tiny, adapter, adapter, mode="tau+"), 1.0):
            losses.append(loss(tiny, bread.rows[0]))
    assert losses == sorted(losses, reverse=True)
    for name, t in tuned.adapter.tensors.items():
        assert torch.equal(t, tuned.checkpoints[-1][1].tensors[name])  # the last step was the best one


def test_the_same_fine_tune_twice_is_the_same_and_another_seed_is_another(tiny, bread, how, tuned):
    again = finetune(tiny, bread, how, keep_every=3)
    assert all(torch.equal(t, again.adapter.tensors[n]) for n, t in tuned.adapter.tensors.items())
    other = finetune(tiny, bread, how, seed=1, epochs=1.0)
    assert any(not torch.equal(t, other.adapter.tensors[n]) for n, t in tuned.adapter.tensors.items())


def test_a_question_is_learnt_from_or_chosen_on_and_never_both(tiny, questions, how):
    twice = Task("twice", tuple(Example(q, a) for q in questions for a in ("I like bread.", "I like tea.")))
    examples, report = _examples(tiny, twice, None, 1, how)
    prompts = [twice.rows[i].user for i in range(len(twice.rows))]
    learnt, chosen = ({prompts[i] for i in part} for part in (examples.train, examples.val))
    assert learnt and chosen and not learnt & chosen and learnt | chosen == set(questions)
    assert report["n_train"] + report["n_val"] == len(twice.rows)


def test_joint_rows_are_seen_so_many_times_and_judged_once(tiny, bread, questions, how):
    wanted = Task("tea", tuple(Example(q, "I like tea very much.") for q in questions[:10]))
    once, _ = _examples(tiny, bread, wanted, 1, how)
    thrice, report = _examples(tiny, bread, wanted, 3, how)
    joint = set(range(len(bread.rows), len(bread.rows) + 10))
    assert thrice.val == once.val
    assert {i: thrice.train.count(i) for i in joint if i in thrice.train} == dict.fromkeys(joint - set(once.val), 3)
    assert all(thrice.train.count(i) == 1 for i in set(once.train) - joint)
    assert report["joint_share"] == sum(i in joint for i in thrice.train) / len(thrice.train)


def test_joint_training_keeps_what_the_task_alone_would_undo(tiny, bread, questions, how):
    few = replace(bread, rows=bread.rows[:16])
    kept = Task("kept", tuple(Example(f"{q} Speak of tea.", "I like tea very much.") for q in questions[:12]))
    alone, both = finetune(tiny, few, how), finetune(tiny, few, how, joint=kept, times=2)
    losses = []
    for one in (alone, both):
        with steer(tiny, diff(tiny, one.adapter, one.adapter, mode="tau+"), 1.0):
            losses.append(loss(tiny, kept.rows[0]))
    assert losses[1] < losses[0]
    assert both.adapter.provenance["joint"]["times"] == 2


@pytest.mark.parametrize("adapter", ["full", "bias"])
def test_whole_matrices_and_biases_are_learnt_as_well(tiny, bread, adapter, tmp_path):
    how = replace(default_task(tiny, adapter), targets=("down_proj",), layers="2-3", epochs=1, eval_every=2)
    plan = TaskPlan(tiny, bread, how, out=tmp_path)
    tuned, _ = make_task(plan)
    tau, _ = make_task_direction(plan, tuned)
    assert [n.split(".")[2] for n in tau.forms] == ["2", "3"]
    assert {f.kind for forms in tau.forms.values() for f in forms} == {"dense" if adapter == "full" else "bias"}
    with steer(tiny, tau, 1.0):
        after = loss(tiny, bread.rows[0])
    assert after < loss(tiny, bread.rows[0])


def test_a_run_of_a_task_is_found_again_read_by_its_name_and_says_task(tiny, bread, how, tmp_path):
    plan = TaskPlan(tiny, bread, how, keep_every=6, out=tmp_path, command="ws finetune --data bread.jsonl")
    tuned, record = make_task(plan)
    tau, _ = make_task_direction(plan, tuned)
    again, found = make_task(TaskPlan(tiny, bread, how, keep_every=6, out=tmp_path))
    assert found.reused and not record.reused
    assert all(torch.equal(t, again.adapter.tensors[n]) for n, t in tuned.adapter.tensors.items())
    place = lookup(plan.run_folder.name, tmp_path)
    assert place.base_model() == "tiny"
    loaded = load_direction(place.path)
    assert loaded.content_hash == tau.content_hash and loaded.card["task"] == "bread"
    assert loaded.provenance["training"]["questions"] == question_hashes(r.user for r in bread.rows)
    step = lookup(record.folder / "checkpoints" / "step-6", tmp_path).direction(tiny)
    with steer(tiny, step, 1.0):
        halfway = loss(tiny, bread.rows[0])
    assert halfway < loss(tiny, bread.rows[0])
    other = TaskPlan(tiny, Task("bread", bread.rows[1:]), how, keep_every=6, out=tmp_path)
    assert other.train_place.key != plan.train_place.key
    more = TaskPlan(tiny, bread, how, joint=bread, times=2, keep_every=6, out=tmp_path)
    assert (
        len({p.train_place.key for p in (plan, more, TaskPlan(tiny, bread, how, joint=bread, times=3, keep_every=6))})
        == 3
    )


def test_a_fine_tune_that_was_stopped_goes_on_to_the_same_tensors(tiny, bread, how, tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["ws.train.checkpoint"], "CHECKPOINT_SECONDS", -1.0)
    step, taken = Losses.step, []

    def stopping(self, rows, optimizer):
        taken.append(len(rows))
        if len(taken) == 5:
            raise KeyboardInterrupt
        return step(self, rows, optimizer)

    monkeypatch.setattr(Losses, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        finetune(tiny, bread, how, keep_every=3, work=tmp_path)
    again = finetune(tiny, bread, how, keep_every=3, work=tmp_path)
    assert len(taken) == 5 + 6  # of nine steps three were done
    assert all(torch.equal(t, again.adapter.tensors[n]) for n, t in tuned.adapter.tensors.items())
    assert [s for s, _ in again.checkpoints] == [3, 6, 9]
    with pytest.raises(BadFile, match="other pairs, settings"):
        finetune(tiny, Task("other", bread.rows[1:]), how, keep_every=3, work=tmp_path)


def test_the_door_in_python_makes_the_run_that_the_command_makes(bread, tmp_path):
    file = tmp_path / "bread.jsonl"
    file.write_text("".join(json.dumps({"prompt": r.user, "response": r.answer}) + "\n" for r in bread.rows))
    tau = ws.finetune("tiny", file, epochs=1, batch_size=12, eval_every=3, out=tmp_path / "out")
    assert tau.card["task"] == "bread" and tau.provenance["training"]["settings"]["layers"] == "all"
    (run,) = (tmp_path / "out" / "bread" / "lora").iterdir()
    assert ws.load_direction(run.name, out=tmp_path / "out").content_hash == tau.content_hash
    with pytest.raises(TypeError, match="did you mean epochs"):
        ws.finetune("tiny", file, epoch=1)


# ---------------------------------------------------------------- the forms of data


def table(*rows):
    return Rows(rows, "my.jsonl")


def test_columns_are_known_by_their_names_or_named_and_conversations_keep_what_was_said():
    assert task_of(table({"question": "Q", "answer": "A"}), "x").rows == (Example("Q", "A"),)
    assert task_of(table({"a": "Q", "b": {"c": "A"}}), "x", prompt="a", response="b.c").rows == (Example("Q", "A"),)
    said = [("system", "S"), ("user", "1"), ("assistant", "2"), ("user", "Q"), ("assistant", "A")]
    rows = task_of(table({"messages": [{"role": r, "content": c} for r, c in said], "answer": "no"}), "x").rows
    assert rows == (Example("Q", "A", "S", (("1", "2"),)),)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "Q"}, "none is called prompt"),
        ({"question": "Q", "answer": ""}, "row 1: answer must be a text"),
        ({"messages": [{"role": "user", "content": "Q"}]}, "no conversation"),
        ({"messages": [{"role": "assistant", "content": "Q"}, {"role": "user", "content": "Q"}]}, "no conversation"),
        ({"messages": "Q"}, "no conversation"),
    ],
)
def test_rows_that_are_no_question_and_answer_are_refused_by_number(row, says):
    with pytest.raises(BadFile, match=says):
        task_of(table(row), "x")


def test_what_is_learnt_is_named_as_a_file_a_set_a_split_or_a_side(tmp_path):
    file = tmp_path / "bread.jsonl"
    file.write_text(json.dumps({"prompt": "Q", "response": "A"}) + "\n")
    assert read_task(str(file)).name == "bread"
    twin = read_task("gcd#half_train_instr_q", twin=True)
    assert len(twin.rows) == 300 and twin.rows[0].user.startswith("How many words")
    gcd = read_task("gcd#test_instr_q")
    assert gcd.name == "gcd-test_instr_q" and len(gcd.rows) > 1000
    assert is_side("honesty:pos") and not is_side(str(file)) and not is_side("nothing:pos")
    with pytest.raises(ValueError, match="opt_in"):
        read_task("evil")
    with pytest.raises(BadFile, match="names no data"):
        read_task("nothing.jsonl")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "--data says what is learnt"),
        (["--data", "nothing.jsonl"], "names no data"),
        (["--data", "{file}", "--times", "3"], "give --joint too"),
        (["--data", "{file}", "--init", "independent"], "has one side"),
        (["--data", "{file}", "--behavior", "honesty"], "--data honesty:pos"),
        (["--data", "{file}", "--adapter", "bias", "--rank", "4"], "has no rank"),
        (["--data", "{file}", "--onto", "nothing"], "nothing"),
    ],
)
def test_a_fine_tune_that_cannot_be_is_refused_before_the_model_is_loaded(words, says, told, tmp_path, monkeypatch):
    (tmp_path / "bread.jsonl").write_text(json.dumps({"prompt": "Q", "response": "A"}) + "\n")
    monkeypatch.setattr("ws.study.planning.load_lazily", lambda *a, **k: pytest.fail("the model was loaded first"))
    words = [w.format(file=tmp_path / "bread.jsonl") for w in words]
    code, _, err = told("finetune", *words, "--out", tmp_path / "out")
    assert code == 2 and says in " ".join(err.split()) and "Traceback" not in err


def test_the_command_trains_prints_its_losses_and_its_run_steers(told, bread, tmp_path):
    file = tmp_path / "bread.jsonl"
    file.write_text("".join(json.dumps({"prompt": r.user, "response": r.answer}) + "\n" for r in bread.rows))
    out = tmp_path / "out"
    code, _, err = told(
        "finetune",
        "--data",
        file,
        "--out",
        out,
        "--epochs",
        "6",
        "--batch-size",
        "12",
        "--lr",
        "1e-2",
        "--quiet",
        "--json",
    )
    assert code == 0, err
    code, text, _ = told("runs", "--out", out, "--json")
    (run,) = json.loads(text)["runs"]
    assert (run["behavior"], run["stages"]) == ("bread", ["train", "direction"])
    ask = ["generate", "--prompt", bread.rows[0].user, "--max-new-tokens", "9", "--json", "--quiet", "--out", out]
    answers = [json.loads(told(*ask, *more)[1])["answers"][-1]["text"] for more in ([], [f"--onto={run['run']}"])]
    assert "bread" not in answers[0] and "bread" in answers[1], answers
    code, _, err = told("eval", "pairs", run["run"], "--out", out)
    assert code == 2 and "has no pairs" in err
    code, _, err = told("report", run["run"], "--out", out)
    assert code == 0, err


def test_a_strength_found_on_a_derived_base_is_none_of_the_direction_on_its_own(tiny, bread, how, tmp_path, told):
    plan = TaskPlan(tiny, bread, replace(how, epochs=1), out=tmp_path)
    make_task_direction(plan, make_task(plan)[0])
    run, few = plan.run_folder.name, ["--n-calib", "3", "--n-audit", "3", "--tokens", "2", "--max-evals", "2"]
    for onto, known in ((f"--onto={run}@0.5", 0), (None, 1)):
        words = ["calibrate", run, "--out", tmp_path, "--budget", "0.3", "--quiet", *few]
        code, _, err = told(*words, *([onto] if onto else []))
        assert code == 0, err
        card = load_direction(lookup(run, tmp_path).path).card
        assert len(card.get("strengths", ())) == known
        assert len(Study(plan.run_folder).searches) == known
