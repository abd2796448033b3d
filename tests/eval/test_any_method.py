"""Any method can be measured: what it asks, where it acts, and which strengths mean something."""

from dataclasses import replace

import pytest

from ws.behaviors import load_behavior
from ws.cli import main
from ws.errors import Unsupported
from ws.eval import Evaluation, protocol
from ws.eval.questions import items_of, measure, plain_dial, score_protocol
from ws.eval.scoring import score
from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.prompts import of_behavior
from ws.study.evaluations import Subject, make_eval


@pytest.fixture(scope="module")
def asked(tiny):
    return items_of(protocol("dilemmas"), tiny, limit=6)


@pytest.fixture(scope="module")
def prompt():
    return of_behavior(load_behavior("honesty", tiny=True), "simple")


def test_a_prompt_changes_what_is_asked_and_only_away_from_zero(tiny, asked, prompt):
    found = measure(tiny, protocol("dilemmas"), asked, alphas=[-1.0, 0.0, 1.0], by=prompt)
    for at, text in ((0, prompt.neg), (2, prompt.pos)):
        told = [replace(i, chat=replace(i.chat, system=text)) for i in asked]
        wanted = [s for (s,) in score(tiny, told, alphas=[0.0])]
        assert [row[at].logratio for row in found] == pytest.approx([s.logratio for s in wanted], abs=1e-5)
    plain = [s for (s,) in score(tiny, asked, alphas=[0.0])]
    assert [row[1] for row in found] == plain
    assert [row[2].logratio for row in found] != pytest.approx([s.logratio for s in plain], abs=0.1)


def test_a_known_zero_is_reused_by_a_method_that_asks_otherwise(tiny, asked, prompt):
    plain = [s for (s,) in score(tiny, asked, alphas=[0.0])]
    marked = [replace(s, logratio=s.logratio + 100) for s in plain]
    found = measure(tiny, protocol("dilemmas"), asked, alphas=[0.0, 1.0], by=prompt, reference=marked)
    assert [row[0] for row in found] == marked
    assert all(abs(row[1].logratio) < 50 for row in found)


def test_strengths_of_a_method_that_is_there_or_not_are_three(tiny, prompt, tmp_path):
    with pytest.raises(ValueError, match="strengths are -1, 0 and 1; got 0"):
        make_eval(Subject(tiny, prompt, tmp_path), Evaluation("dilemmas", limit=2), alphas=[0.5])
    assert not any(tmp_path.iterdir())
    rows = score_protocol(tiny, protocol("dilemmas"), alphas=[-1, 1], by=prompt, limit=2).rows
    assert set(rows["method"]) == {"prompt:simple"} and set(rows["alpha"]) == {-1.0, 0.0, 1.0}


def test_an_evaluation_that_asks_in_its_own_words_refuses_a_prompt(tiny, prompt):
    with pytest.raises(Unsupported, match="changes what the model is asked"):
        plain_dial(tiny, prompt, "lm-eval")
    assert plain_dial(tiny, None, "lm-eval") is None


def test_ws_eval_measures_a_method_by_name_and_from_a_file(tiny, capsys, tmp_path):
    from ws.methods import save

    out = ["--out", str(tmp_path), "--limit", "3"]
    assert main(["eval", "dilemmas", "--method", "prompt:simple", *out]) == 0
    assert "prompt:simple on tiny" in capsys.readouterr().out
    method = Activation("mine", {block_name(tiny, 3): Add(tiny.weight(block_name(tiny, 3) + ".mlp.down_proj")[:, 0])})
    file = save(method, tmp_path / "mine.safetensors")
    assert main(["eval", "dilemmas", "--direction", str(file), "--alphas=1", *out]) == 0
    assert "mine on tiny" in capsys.readouterr().out
    assert main(["eval", "dilemmas", "--method", "repe", "--direction", str(file), *out]) == 2
    assert "or --method repe, not both" in capsys.readouterr().err
    assert main(["eval", "dilemmas", "--method", "prompt:simpel", *out]) == 2
