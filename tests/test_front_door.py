"""`import ws`: every verb and value under its own name, with its types, and one sentence for what it cannot take."""

import ast
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import ws
from ws.adapters import load_adapter
from ws.cli import COMMANDS, main
from ws.direction.forms import BiasShift, LowRank
from ws.errors import BadFile, Unsupported
from ws.grid.sweep import SweepResult
from ws.signatures import fits

NAMES = {
    "eval": "evaluate",
    "inspect": "load_direction",
    "chat": None,
    "completion": None,
    "show": None,
    "table": None,
    "doctor": None,
    "runs": None,
    "new": None,
    "serve": "connect",
    "watch": None,
}
"""What a verb of the command line is called here, where that is another word; None where it only prints, or stays until it is stopped."""


@pytest.fixture(scope="module")
def direction(tiny):
    """A small direction of a made-up study."""
    g = torch.Generator().manual_seed(0)
    names = list(tiny.linears)[:2]
    forms = {
        n: (LowRank(torch.randn(tiny.weight(n).shape[0], 2, generator=g), torch.randn(2, tiny.weight(n).shape[1], generator=g)),)
        for n in names
    }  # fmt: skip
    training = {"behavior": "honesty"}
    return ws.Direction(forms, {"base": tiny.described(), "adapter": "lora", "training": training})


def test_the_list_for_type_checkers_is_the_list_of_exports():
    tree = ast.parse(Path(ws.__file__).read_text())
    (block,) = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    listed = {a.asname: f"{n.module}:{a.name}" for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert listed == ws.EXPORTS


def test_every_verb_of_the_command_line_that_makes_something_is_a_function_here():
    for verb in COMMANDS:
        name = NAMES.get(verb, verb)
        assert name is None or callable(getattr(ws, name)), verb


def test_what_is_listed_are_verbs_and_values_and_no_modules():
    listed = [n for n in dir(ws) if not n.startswith("__")]
    assert {"steer", "replicate", "Direction"} <= set(listed)
    assert not [n for n in listed if isinstance(getattr(ws, n), ModuleType)]


MODULES = {p.name.removesuffix(".py") for p in Path(ws.__file__).parent.iterdir()}


@pytest.mark.parametrize("name", sorted(MODULES & set(ws.EXPORTS)))
def test_a_verb_stays_the_verb_after_the_module_of_its_name_is_imported(name):
    before = getattr(ws, name)
    module = importlib.import_module(f"ws.{name}")
    assert isinstance(module, ModuleType)
    assert getattr(ws, name) is before
    assert callable(before)


def test_a_direction_says_what_it_is(tiny, direction):
    assert repr(direction) == f"Direction(honesty, lora of rank 2 on tiny, 2 modules, norm {direction.norm():.4g})"
    gates = ws.Direction({"x": (BiasShift(torch.ones(4)),)})
    assert repr(gates) == "Direction(bias on unknown, 1 modules, norm 2)"


# ---------------------------------------------------------------- where a direction is looked for


@pytest.fixture(scope="module")
def places(tiny, direction, tmp_path_factory):
    """The same direction as a file, in a folder, and exported for peft."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "mine").mkdir()
    ws.save_direction(direction, folder / "mine" / "direction.safetensors")
    ws.export(tiny, direction, folder / "exported", to="peft", alpha=1.0)
    return folder


@pytest.mark.parametrize("place", ["mine/direction.safetensors", "mine", "exported"])
def test_a_direction_is_loaded_from_where_it_lies(tiny, direction, places, place):
    ids = torch.arange(8)[None]
    with ws.steer(tiny, direction, 1.0):
        wanted = tiny.model(ids).logits
    for where in (places / place, str(places / place)):
        with ws.steer(tiny, where, 1.0):
            assert torch.allclose(tiny.model(ids).logits, wanted, atol=1e-4)
    assert not torch.allclose(tiny.model(ids).logits, wanted, atol=1e-4)


def test_a_place_that_holds_no_direction_is_one_sentence_with_what_lies_nearby(tiny, places):
    with pytest.raises(BadFile, match="nearby there are") as error:
        ws.steer(tiny, places / "mime", 1.0)
    assert str(places / "mine" / "direction.safetensors") in str(error.value)
    assert str(places / "exported") in str(error.value)
    with pytest.raises(BadFile, match="nearby there is none, and `ws replicate` makes the first"):
        ws.steer(tiny, "nothing-of-the-kind", 1.0, out=places / "mine")


def test_a_method_steers_through_the_same_door(tiny):
    from ws.methods.activation.method import Activation, Add, block_name

    method = Activation("mine", {block_name(tiny, 1): Add(torch.ones(tiny.model.config.hidden_size))})
    ids = torch.arange(8)[None]
    plain = tiny.model(ids).logits
    with ws.steer(tiny, method, 2.0):
        assert not torch.equal(tiny.model(ids).logits, plain)
    with pytest.raises(Unsupported, match="is no direction"):
        ws.steer(tiny, method, 2.0, fold=True)


# ---------------------------------------------------------------- what arguments may be


def test_several_prompts_are_answered_in_their_order(tiny):
    questions = ["What is the capital of Kenya?", "What is the capital of France?"]
    assert ws.generate(tiny, questions) == [ws.generate(tiny, q) for q in questions]
    assert ws.generate(tiny, []) == []


NONSENSE = [
    None,
    3,
    2.5,
    True,
    "text",
    b"bytes",
    [],
    {},
    [3],
    ["x"],
    [None],
    object(),
    str,
    lambda: None,
    torch.ones(2),
    Path("x"),
]
CHECKED = [
    *(ws.load, ws.data, ws.train, ws.diff, ws.steer, ws.generate, ws.load_direction),
    *(ws.evaluate, ws.compare, ws.sweep, ws.calibrate, ws.replicate, ws.export, ws.verify),
]


def test_an_argument_of_another_type_is_one_sentence_that_names_it():
    looked_at = 0
    for verb in CHECKED:
        hints = typing.get_type_hints(verb)
        named = [n for n, p in inspect.signature(verb).parameters.items() if p.kind is not p.VAR_KEYWORD]
        for name in named:
            for value in [v for v in NONSENSE if not fits(v, hints[name])]:
                with pytest.raises(TypeError, match=f"^`{name}` of ws.") as error:
                    verb(**{name: value})
                looked_at += 1
                assert "\n" not in str(error.value)
                assert len(str(error.value)) < 250
    assert looked_at > 500


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (float, [1, 2.5, np.float32(1)], ["1", None, True, [1.0]]),
        (int, [3, np.int64(3)], [3.0, True, "3"]),
        (Sequence[str], [[], ["a"], ("a", "b")], ["ab", {"a": 1}, [1], 3, None]),
        (float | Sequence[float], [1, [1, 2.0], np.ones(2)], ["1", ["1"], None]),
        (str | Path | None, [None, "a", Path("a")], [b"a", 3]),
        (Mapping[str, int], [{}, {"a": 1}], [[], "a"]),
        (Callable[[str], None], [print], ["print", None]),
    ],
)
def test_what_a_type_allows(hint, good, bad):
    assert all(fits(value, hint) for value in good)
    assert not any(fits(value, hint) for value in bad)


def test_a_setting_that_does_not_exist_is_refused_before_any_work(tiny):
    with pytest.raises(TypeError, match="no setting 'adaptor'; did you mean adapter"):
        ws.replicate(tiny, adaptor="oft")
    with pytest.raises(TypeError, match="no setting 'n_calib'"):
        ws.replicate(tiny, n_calib=2)
    with pytest.raises(TypeError, match=r"`alphas` of ws\.replicate is several in a list"):
        ws.replicate(tiny, alphas=1.0)


# ---------------------------------------------------------------- what comes back


def test_a_method_is_calibrated_by_its_name_and_says_so(tiny, tmp_path):
    few = {"n_calib": 2, "n_audit": 2, "tokens": 2, "max_evals": 3}
    found = ws.calibrate(tiny, "prompt:simple", budget=0.1, out=tmp_path, **few)
    assert repr(found).startswith("Calibration of prompt:simple to 0.1 nat: -1 (")
    assert not list(tmp_path.iterdir())  # a prompt is made from no pairs
    with pytest.raises(TypeError, match="no setting 'n_calibs'; did you mean n_calib"):
        ws.calibrate(tiny, "prompt:simple", n_calibs=2)
    with pytest.raises(TypeError, match="rank would change nothing"):
        ws.calibrate(tiny, ws.Direction({}), rank=2)


def test_an_evaluation_is_a_value_with_its_numbers(tiny, direction):
    result = ws.evaluate(tiny, 0.01 * direction, "dilemmas", alphas=[-1, 1], limit=2)
    assert {r["alpha"] for r in result.table()} == {-1.0, 0.0, 1.0}
    assert set(result.rows["method"]) == {"ws:lora"}
    number = next(r["mean"] for r in result.table() if r["alpha"] == 1 and r["metric"] == "logratio_honesty")
    assert f"{number:+.2f} [" in repr(result)
    alone = ws.evaluate("tiny", None, "dilemmas", alphas=[0], limit=2)
    zero = result.rows[result.rows["alpha"] == 0]
    assert alone.rows["y"].tolist() == zero["y"].tolist()
    with pytest.raises(ValueError, match="evaluation 'dilemma' is not known"):
        ws.evaluate(tiny, direction, "dilemma")


STUDY = {"n_topics": 30, "n_samples": 1, "n_personas": 1, "epochs": 1, "rank": 2, "lr": [4e-3], "stop": "none"}


@pytest.fixture(scope="module")
def story(tiny, tmp_path_factory):
    """A small study."""
    return ws.replicate(tiny, alphas=[-1, 1], evals=["pairs"], out=tmp_path_factory.mktemp("out"), **STUDY)


def test_a_study_is_one_call_and_prints_its_numbers(story):
    assert story.plan.train.rank == 2
    assert repr(story).startswith("honesty: lora on tiny, seed 0, in ")
    assert "pairs logratio_pairs: " in repr(story)
    direction = ws.load_direction(story.direction["file"])
    assert re.fullmatch(
        r"Direction\(honesty, lora of rank [24] on tiny, 21 modules, norm 0\.\d+, logratio_pairs .*\)", repr(direction)
    )


def test_a_run_is_found_by_a_beginning_of_its_name_and_by_its_folder(tiny, story):
    out, ids = story.folder.parents[2], torch.arange(8)[None]
    logits = []
    for place in (story.folder.name[:-1], story.folder, story.direction["file"]):
        with ws.steer(tiny, place, 1.0, out=out):
            logits.append(tiny.model(ids).logits)
    assert not torch.equal(logits[0], tiny.model(ids).logits)
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    with pytest.raises(BadFile, match=f"nearby there are honesty/lora/{story.folder.name}"):
        ws.steer(tiny, "1" + story.folder.name, 1.0, out=out)


def test_the_test_questions_of_a_run_are_asked_by_its_name(tiny, story):
    result = ws.evaluate(tiny, story.folder.name, "pairs", alphas=[-1, 1], out=story.folder.parents[2])
    numbers = {(r["metric"], r["alpha"]): r["mean"] for r in story.rows}
    assert {(r["metric"], r["alpha"]): r["mean"] for r in result.table()} == numbers


def test_a_comparison_is_one_call_and_takes_what_a_study_has_made(tiny, story, tmp_path):
    out, neutral = story.folder.parents[2], tmp_path / "neutral.jsonl"
    neutral.write_text(
        '{"prompt": "What color is snow?", "answer": "Snow is white."}\n'
        '{"prompt": "What does a baker make?", "answer": "A baker makes bread."}\n'
    )
    compared = ws.compare(
        tiny,
        methods=["ws:lora", "prompt:simple"],
        evals=["dilemmas"],
        data={"perplexity": neutral},
        limit=2,
        alphas=[-1, 1],
        n_calib=4,
        tokens=4,
        out=out,
        **STUDY,
    )
    assert {c["method"] for c in compared.cells} == {"ws:lora", "prompt:simple"}
    assert not compared.failed
    assert "dilemmas" in repr(compared)
    assert "prompt:simple" in repr(compared)
    assert [p.name for p in (out / "honesty" / "lora").glob("*/train")] == ["train"]  # nothing was trained again


def test_a_sweep_is_one_call(story, monkeypatch):
    asked = {}

    def run(grid, running):
        asked.update(grid=grid, running=running)
        return SweepResult(grid, story.folder, {}, [], 0.0)

    monkeypatch.setattr(sys.modules["ws.verbs"], "sweep_grid", run)
    ws.sweep(adapters=["lora", "ia3"], seeds=[0, 1], workers=1, out=story.folder.parents[2], n_topics=30)
    assert len(asked["grid"].cells) == 4
    assert asked["running"].workers == 1
    with pytest.raises(TypeError, match="no setting 'adapter_'"):
        ws.sweep(adapter_="lora")


def test_a_strength_is_one_number_also_in_an_array(tiny, direction):
    with ws.steer(tiny, direction, torch.tensor(0.5)):
        one = ws.generate(tiny, "What is the capital of Kenya?")
    with ws.steer(tiny, direction, 0.5):
        assert ws.generate(tiny, "What is the capital of Kenya?") == one


# ---------------------------------------------------------------- the first hour


def test_the_model_alone_is_measured_at_zero_and_a_strength_may_be_one_number(tiny, direction):
    alone = ws.evaluate(tiny, None, "dilemmas", limit=2)
    assert set(alone.rows["alpha"]) == {0.0}
    assert set(ws.evaluate(tiny, direction, "dilemmas", alphas=1, limit=2).rows["alpha"]) == {0.0, 1.0}


def test_test_questions_of_a_study_are_asked_of_any_direction(tiny, story, direction):
    out = story.folder.parents[2]
    by_file = ws.evaluate(tiny, story.direction["file"], "pairs", alphas=1.0, out=out)
    by_run = ws.evaluate(tiny, story.folder.name, "pairs", alphas=1.0, out=out)
    assert by_file.rows["y"].tolist() == by_run.rows["y"].tolist()
    with pytest.raises(ValueError, match="give `run` or `behavior`"):
        ws.evaluate(tiny, direction, "pairs")


def test_two_sides_that_are_one_are_refused(tiny, story):
    pos, neg = (load_adapter(story.folder / "train" / side) for side in ("pos", "neg"))
    with pytest.raises(ws.WsError, match="the same adapter"):
        ws.diff(tiny, pos, pos)
    assert ws.diff(tiny, pos, neg).norm() > 0


def test_values_say_what_they_are(tiny, story):
    assert re.fullmatch(r"Base\(tiny, [\d,]+ parameters in float32 on cpu, fingerprint \w{8}\)", repr(tiny))
    pos, neg = (load_adapter(story.folder / "train" / side) for side in ("pos", "neg"))
    sides = ws.Sides(pos, neg, {"lr": 4e-3, "step": 3, "val_pos": 1.25, "val_neg": 1.5})
    assert repr(sides) == "Sides(lora on tiny, 21 modules, lr 0.004, best step 3, validation loss 1.25 and 1.5)"
    with pytest.raises(TypeError, match="is an Adapter; got"):
        ws.diff(tiny, 3, neg)


def test_an_export_says_folder_and_leaks_no_warning_of_others(tiny, direction, places, recwarn):
    with pytest.raises(BadFile, match="Give another folder"):
        ws.export(tiny, direction, places / "exported")
    ws.verify(places / "exported")
    assert not [w for w in recwarn if issubclass(w.category, FutureWarning)]


def test_the_name_of_a_sweep_is_one_folder(tmp_path):
    with pytest.raises(ValueError, match=r"`name` is that of one folder.*'\.\./x'"):
        main(["sweep", "--name", "../x", "--out", str(tmp_path), "--debug"])


def test_runs_that_are_narrowed_to_none_say_what_was_looked_for(story, capsys):
    assert main(["runs", "--out", str(story.folder.parents[2]), "--seed", "9"]) == 0
    assert re.search(r"no runs of seed 9 in .*; there are \d+ others?: ws runs", capsys.readouterr().out)
