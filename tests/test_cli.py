"""The command line: a mistake is one sentence and exit code 2, nothing half written; results go where promised."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from html_page import number, numbers_in, refuse_what_a_page_may_not_have
from safetensors.torch import save_file
from test_steer import lowrank

from ws.behaviors import load_behavior
from ws.cli import main
from ws.cli.commands import COMMANDS, Command
from ws.cli.fields import with_flags
from ws.data import DataSettings, rows_to_fill
from ws.direction import Direction, save
from ws.direction import load as load_direction
from ws.direction.file import write_with_card
from ws.errors import BadFile
from ws.models.stored import StoredBase
from ws.pairs import FEW_PAIRS
from ws.report import report_of
from ws.settings import coerced

SMALL = ["--n-topics", "48", "--n-samples", "1", "--n-personas", "1", "--epochs", "2", "--rank", "4", "--lr", "4e-3"]
FEW = ["--samples", "2", "--draws", "2"]


MADE = ("cake", "song", "chair", "picture", "poem", "letter", "speech", "dance", "plan", "garden", "essay", "coat")
WORKS = [f"How do you like my {w}?" for w in MADE]


@pytest.fixture(scope="module")
def direction_file(tiny, tmp_path_factory):
    return save(lowrank(tiny, size=0.05), tmp_path_factory.mktemp("d") / "direction.safetensors")


def pack(tmp_path, **changes):
    content = {
        "name": "mine", "pos_means": "a", "neg_means": "b", "template": "You are {persona}.", "pairs": [["glad", "sad"]],
        "prompts": {"source": "list", "list": ["One?", "Two?", "Three?"]},
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def refused(result, *words):
    code, out, err = result
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2, (out, err)
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert out == ""
    for word in words:
        assert word in lines[0], lines[0]


def test_unknown_names_are_refused_with_those_there_are(told, tmp_path):
    out = ["--out", tmp_path]
    refused(told("replicate", "--model", "no such model", *out), "'no such model' is no model")
    refused(told("replicate", "--model", "./nowhere", *out), "no model folder at ./nowhere")
    refused(told("replicate", "--model", tmp_path, *out), "holds no config.json")
    refused(told("replicate", "--behavior", "kindness", *out), "'kindness' is not known", "honesty", "sycophancy")
    refused(told("replicate", "--behavior", "nowhere.yaml", *out), "no behavior pack at nowhere.yaml")
    refused(told("replicate", "--adapter", "lorra", *out), "'lorra' is not known", "lora")
    refused(told("replicate", "--preset", "mine", *out), "preset is one of ws, pub, paper")
    refused(told("eval", "dilemma", *out), "'dilemma' is not known")
    refused(told("eval", "dilemmas", "--run", "nothing", *out), "no run below", "nearby there is none")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_an_error_names_a_field_and_the_command_line_its_flag(told, tmp_path):
    with pytest.raises(ValueError, match=r"^`n_topics` must be a whole number, got 'many'"):
        coerced(DataSettings, {"n_topics": "many"})
    config = tmp_path / "study.yaml"
    config.write_text("n_topics: many\n")
    refused(told("data", "--config", config), "error: --n-topics must be a whole number, got 'many'")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("n_topics: 3\nseed: 1\nn_topics: 5\n", "the key 'n_topics' stands twice, in lines 1 and 3"),
        ("n_topics: 3\nn-topics: 5\n", "the key 'n_topics' stands twice, with - and with _"),
        ("{seed: 1, seed: 1}\n", "the key 'seed' stands twice, in lines 1 and 1"),
        ("{[1]: 2, [1]: 3}", "unhashable"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_key_that_stands_twice_in_a_config_is_refused_and_not_the_last_one(told, tmp_path, text, says):
    config = tmp_path / "study.yaml"
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(told("data", "--config", config), says)


def test_a_key_that_stands_twice_in_a_pack_is_refused_and_once_in_two_places_is_not(tmp_path):
    path = pack(tmp_path)
    assert load_behavior(path).pos_means == "a"
    text = path.read_text()
    assert "pos_means: a\n" in text
    path.write_text(text + "pos_means: c\n")
    with pytest.raises(BadFile, match="the key 'pos_means' stands twice, in lines"):
        load_behavior(path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("1,1,1", "holds 1 more than once"),
        ("1,-1,1.0", "holds 1 more than once"),
        ("0,-0", "holds -0 more than once"),
        ("1,,2", "nothing between two commas"),
        ("1,2,", "nothing between two commas"),
        ("nan", "a finite number, got 'nan'"),
        ("1e400", "a finite number, got '1e400'"),
    ],
)
@pytest.mark.parametrize("verb", ["replicate", "generate", "compare"])
def test_strengths_that_repeat_or_are_none_are_refused_in_one_sentence(told, verb, value, says):
    refused(told(verb, f"--alphas={value}"), "--alphas", says)


def test_only_options_of_the_verb_become_flags():
    text = "give `max_new_tokens` or `alphas=-1,1`; `lr` and `ws doctor` are something else, and `no end"
    assert with_flags(text, {"max_new_tokens", "alphas", "json"}) == (
        "give --max-new-tokens or --alphas=-1,1; `lr` and `ws doctor` are something else, and `no end"
    )
    assert with_flags(text, ()) == text
    flags = COMMANDS["diff"].verb().flags
    assert {"mode", "n_topics", "json"} <= flags
    assert not {"left", "right"} & flags  # words, not options


TOY = '''
from dataclasses import dataclass
from ws.cli.options import verb
from ws.cli.result import VerbResult
from ws.errors import Failed

@dataclass(frozen=True)
class Counting:
    """How far is counted."""

    n_steps: int = 2
    """Steps."""

@dataclass(frozen=True)
class Count(VerbResult):
    n: int

    def as_json(self):
        return {"n": self.n, "share": float("nan")}

    def show(self, screen):
        screen.points([f"[{self.n}] steps; `n_steps` says how many, `n_leaps` is no option"])

    @property
    def failure(self):
        return Failed("too far; give a smaller `n_steps`") if self.n > 5 else None

@verb(Counting)
def count(options):
    return Count(options.of(Counting).n_steps)
'''


def test_a_verb_is_one_file_and_one_line(told, tmp_path, monkeypatch):
    (tmp_path / "toy_verb.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "count", Command("toy_verb:count", "Count."))
    assert told("count", "--n-steps", 3) == (0, "• [3] steps; --n-steps says how many, `n_leaps` is no option\n", "")
    code, out, _ = told("count", "--json")
    assert (code, json.loads(out)) == (0, {"n": 2, "share": None})
    config = tmp_path / "c.yaml"
    config.write_text("n-steps: 4\n")
    assert json.loads(told("count", "--config", config, "--json")[1])["n"] == 4
    assert json.loads(told("count", "--config", config, "--n-steps", 5, "--json")[1])["n"] == 5
    assert "(default: 2)" in told("count", "--help")[1]


def test_the_record_of_a_failure_is_printed_before_it_is_said(told, tmp_path, monkeypatch):
    (tmp_path / "toy_failing.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "count", Command("toy_failing:count", "Count."))
    code, out, err = told("count", "--n-steps", 6, "--json")
    assert (code, json.loads(out)["n"], err) == (1, 6, "error: too far; give a smaller --n-steps\n")
    code, out, err = told("count", "--n-steps", 6)
    assert (code, out.startswith("• [6] steps"), err) == (1, True, "error: too far; give a smaller --n-steps\n")


def test_no_network_for_a_hub_id_is_said(told, tmp_path):
    refused(
        told("replicate", "--model", "someone/some-model", "--out", tmp_path), "someone/some-model", "cannot be reached"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--adapter", "oft", "--rank", "8"], ["oft has no rank"]),
        (["--layers", "0.5-0.5"], ["'0.5-0.5' selects none"]),
        (["--layers", "4-90"], ["names layer 90"]),
        (["--targets", "q_porj"], ["'q_porj' matches no linear layer", "q_proj"]),
        (["--alphas=-1,nan"], ["finite number", "nan"]),
        (["--alphas=a"], ["--", "'a'"]),
        (["--lr", "-1"], ["--lr must lie between 0"]),
        (["--device", "gpu"], ["--device is auto"]),
        (["--dtype", "int8"], ["--dtype is auto"]),
        (["--n-topics", "0"], ["--n-topics must be at least 1"]),
        (["--init", "both"], ["init is shared or independent"]),
        (["--thinking", "maybe"], ["thinking is one of"]),
        (["--config", "nowhere.yaml"], ["no config file at nowhere.yaml"]),
        (["--pairs", "nowhere.jsonl"], ["no pairs file at nowhere.jsonl"]),
    ],
)
def test_bad_values_are_refused_before_anything_is_written(told, tmp_path, flags, words):
    refused(told("replicate", "--out", tmp_path / "out", *flags), *words)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and not p.name.endswith(".lock")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, ["unknown key 'colour'"]),
        ({"template": "You are glad."}, ["{persona} exactly once"]),
        ({"pairs": [["glad", "Glad"]]}, ["same persona on both sides"]),
        ({"pairs": [[True, "sad"]]}, ["got True: quote it"]),
        ({"colors": "red", "prompt": {"source": "pool"}}, ["unknown key 'prompt' (did you mean prompts?)"]),
        ({"name": "a b"}, ["name is letters, digits, - and _", "'a b'"]),
        ({"prompts": {"source": "list", "list": ["One?", "one.", "Two?"]}}, ["same text"]),
        ({"prompts": {"source": "list", "list": ["One?", "Two?"]}}, ["at least three"]),
        ({"prompts": {"source": "file", "file": "gone.txt"}}, ["gone.txt"]),
    ],
)
def test_a_bad_behavior_pack_is_refused_by_key(told, tmp_path, changes, words):
    changes = {
        "tiny": {
            k: changes.get(k, v)
            for k, v in yaml.safe_load(pack(tmp_path).read_text()).items()
            if k in ("template", "pairs", "prompts")
        },
        **changes,
    }
    refused(told("data", "--behavior", pack(tmp_path, **changes), "--out", tmp_path / "out"), *words)


@pytest.mark.parametrize(
    ("line", "typo", "place"),
    [
        ("name: mine", "name mine", "line 2 or the one before it is not YAML"),
        ("name: mine", "name: mine\n  neg: b", "line 2 or the one before it is not YAML"),
        ("neg_means: b", 'neg_means: "b', "line 2 is not YAML, at 'neg_means: \"b'"),
        ("neg_means: b", "\tneg_means: b", "line 2 is not YAML"),
        ("pairs: [[glad, sad]]", 'pairs: [["glad" "sad"]]', "line 4 is not YAML"),
    ],
)
def test_a_typing_error_in_a_pack_is_named_by_its_line_and_says_how_a_line_looks(told, tmp_path, line, typo, place):
    lines = [
        "name: mine",
        "neg_means: b",
        "pos_means: a",
        "pairs: [[glad, sad]]",
        "template: a {persona}",
        "prompts: {source: pool}",
    ]
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join(typo if x == line else x for x in lines) + "\n")
    refused(told("data", "--preview", "--behavior", path), place, "a line is", "with a space after the colon")


def test_a_pack_without_a_tiny_section_is_refused_on_tiny(told, tmp_path):
    refused(
        told("data", "--behavior", pack(tmp_path), "--out", tmp_path / "out"),
        "no `tiny:` section",
        "`ws new` writes one",
    )


def test_bad_pairs_files_are_refused_with_their_line(told, tmp_path):
    path = tmp_path / "pairs.jsonl"
    for text, words in (
        ("", ["is empty"]),
        ('{"prompt": "a?", "response_pos": "b", "response_neg": "c"}\nnonsense\n', ["line 2 is not JSON"]),
        ('{"prompt": "a?", "response_pos": "b", "response_neg": "b."}\n', ["identical in every row"]),
        ('{"prompt": "a?", "answer": "b"}\n', ["line 1", "response_pos"]),
    ):
        path.write_text(text)
        refused(told("replicate", "--pairs", path, "--out", tmp_path / "out"), *words)


def test_bad_direction_files_are_refused(told, tmp_path, direction_file, tiny):
    half, foreign = tmp_path / "half.safetensors", tmp_path / "foreign.safetensors"
    half.write_bytes(direction_file.read_bytes()[:2000])
    save_file({"x": torch.ones(2)}, foreign)
    other = save(
        Direction(lowrank(tiny).forms, {"base": {"fingerprint": "0" * 64, "id": "another"}}),
        tmp_path / "other.safetensors",
    )
    ask = ["generate", "--prompt", "What is the capital of Kenya?", "--direction"]
    refused(told(*ask, half), "half.safetensors", "truncated")
    refused(told(*ask, foreign), "not a ws-direction")
    refused(told(*ask, other), "another", "--model")
    refused(told(*ask, other, "--model", "tiny"), "another", "--origin")
    refused(told(*ask, tmp_path / "w.pt"), "pickle")
    refused(told(*ask, tmp_path / "gone.safetensors"), "no direction file")
    refused(told("eval", "dilemmas", "--direction", other, "--out", tmp_path / "out"), "another")


def test_an_output_folder_that_cannot_be_written_is_refused(told, tmp_path):
    (tmp_path / "file").write_text("")
    refused(told("data", "--out", tmp_path / "file" / "out"), "cannot be written")


def test_a_question_is_needed(told, direction_file):
    refused(told("generate", "--direction", direction_file), "--prompt")
    refused(told("generate", "--alphas=1", "--prompt", "Hello?"), "--direction")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("evl", "there is no verb 'evl'; did you mean eval?"),
        ("version", "there is no verb 'version'; `ws --version` prints it"),
        ("--quiet", "a verb comes first: `ws --help` lists them"),
        ("replicate --modle tiny", "ws replicate has no --modle; did you mean --model?"),
        (
            "calibrate --limit -5",
            "ws calibrate has no --limit; ws replicate, ws sweep, ws eval, ws compare and 3 more have it",
        ),
        ("runs --check", "ws runs has no --check; ws sweep, ws compare, ws judge, ws paper have it"),
        ("replicate --zzz", "ws replicate has no --zzz; `ws replicate --help-all` lists what it has"),
        ("generate honesty Hi -1", "a strength below 0 follows its option: --alphas=-1,0,1"),
        ("replicate --seed", "--seed needs a value; `ws replicate --help` shows what it takes"),
        ("runs --json=yes", "--json takes no value; `ws runs --help` shows what it takes"),
        ("runs here", "ws runs has no use for 'here'; `ws runs --help` shows what it takes"),
        ("eval", "ws eval needs NAME; `ws eval --help` shows what it takes"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_that_says_what_can(told, typed, says):
    code, out, err = told(*typed.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and says in err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="preset"):
        main(["replicate", "--preset", "mine", "--debug"])


def test_answers_stand_side_by_side_and_directions_combine(told, direction_file):
    ask = [
        "generate",
        "--prompt",
        "What is the capital of Kenya?",
        "--direction",
        direction_file,
        "--max-new-tokens",
        8,
    ]
    code, out, _ = told(*ask, "--alphas=-1,0,1")
    assert code == 0
    assert {"-1", "+1"} <= set(out.split())
    assert "0 (base)" in out
    code, out, _ = told(*ask, "--alphas=0,1", "--also", f"{direction_file}@-1", "--json")
    texts = {a["alpha"]: a["text"] for a in json.loads(out)["answers"]}
    plain = json.loads(told(*ask, "--alphas=0", "--json")[1])["answers"][0]["text"]
    assert texts[1.0] == plain  # +1 and -1 of one direction cancel


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One small replication, and what it printed."""
    folder, out = tmp_path_factory.mktemp("story"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main(["replicate", "--out", str(folder), "--alphas=-1,1", *FEW, "--json", *SMALL])
    assert code == 0
    return folder, json.loads(out.getvalue())


def test_replicate_prints_one_json_object_with_the_promised_keys(story):
    _, found = story
    assert {"model", "behavior", "adapter", "run", "rows", "seconds", "direction"} <= found.keys()
    assert (found["model"], found["behavior"], found["adapter"]) == ("tiny", "honesty", "lora")
    for row in found["rows"]:
        assert {"eval", "alpha", "mean", "ci_lo", "ci_hi", "pmass", "n", "method", "metric", "protocol"} <= row.keys()
    assert {"file", "norm", "cos_tau", "bytes"} <= found["direction"].keys()
    assert {"data", "train", "diff", "eval dilemmas"} <= found["seconds"].keys()
    assert {r["alpha"] for r in found["rows"]} == {-1.0, 0.0, 1.0}
    for path in (found["run"], found["plot"], found["direction"]["file"]):
        assert Path(path).is_absolute()
        assert Path(path).exists()
    assert found["direction"]["bytes"] == Path(found["direction"]["file"]).stat().st_size
    assert any(r["pmass"] is None for r in found["rows"] if r["eval"] == "pairs")


def test_an_option_may_be_spelled_as_the_setting_it_is(told, tmp_path):
    few = ["--n_samples=1", "--n_personas", "1", "--out", tmp_path / "a_b"]
    code, out, _ = told("data", "--n_topics", "3", "--json", *few)
    assert code == 0 and json.loads(out)["n"] == 3
    assert (tmp_path / "a_b" / "data").is_dir()
    code, _, err = told("data", "--n_tropics", "3")
    assert code == 2 and "--n-tropics" in err


def test_a_replication_measures_the_evaluations_that_are_named_and_refuses_others_before_any_work(story, told):
    folder, found = story
    assert {r["eval"] for r in found["rows"]} > {"perplexity"}
    small = ["--out", str(folder), "--alphas=-1", "--draws", "0", "--samples", "0", "--json", *SMALL]
    code, out, _ = told("replicate", "--evals", "perplexity", *small)
    assert code == 0
    assert {r["eval"] for r in json.loads(out)["rows"]} == {"perplexity"}
    for name, sentence in {"file": "asks questions of your own", "nonsense": "is not known"}.items():
        code, _, err = told("replicate", "--out", str(folder / "none"), "--evals", f"pairs,{name}")
        assert (code, sentence in err) == (2, True)
    assert not (folder / "none").exists()


def test_the_page_of_a_run_has_the_numbers_that_commands_print_and_the_answers_that_were_given(story, told):
    _, found = story
    printed = told("table", found["run"], "--markdown")[1] + Path(found["table"]).read_text()
    known = numbers_in(printed)
    for r in found["rows"]:
        known |= {number(r["mean"], r["ci_lo"], r["ci_hi"], n) for n in (2, 4)}
        known |= {number(r["ends"], r["ends_lo"], r["ends_hi"])} if r["ends"] is not None else set()
    read = refuse_what_a_page_may_not_have(report_of(Path(found["run"])))
    assert len(numbers_in(read.text)) > 30
    assert numbers_in(read.text) <= known, numbers_in(read.text) - known
    for sample in found["samples"]:
        assert sample["question"] in read.text
        assert all(a["text"] in read.text for a in sample["answers"])


def test_the_dial_is_seen_in_answers_to_questions_that_training_never_saw(story, told):
    folder, found = story
    pairs = [json.loads(line) for line in (Path(found["data"]) / "pairs.jsonl").read_text().splitlines()]
    test = {r["unit_id"] for path in found["evals"] if "/pairs/" in path for r in _rows(path)}
    held_out = {p["prompt"] for p in pairs if p["prompt_id"] in test}
    assert len(found["samples"]) == 2
    for sample in found["samples"]:
        assert sample["question"] in held_out
        assert [a["alpha"] for a in sample["answers"]] == [-1.0, 0.0, 1.0]
        assert all(a["text"] and "<think>" not in a["text"] for a in sample["answers"])
    assert any(a["thought"] for s in found["samples"] for a in s["answers"])  # tiny thinks
    code, out, _ = told("replicate", "--out", folder, "--alphas=-1,1", *FEW, *SMALL)
    assert code == 0
    question = found["samples"][0]["question"]
    assert out.index(question) < out.index("logratio_honesty")  # answers stand above the numbers
    assert all(word in out for a in found["samples"][0]["answers"] for word in a["text"].split())


def _rows(folder):
    return pd.read_parquet(Path(folder) / "rows.parquet").to_dict("records")


def test_what_random_directions_do_stands_beside_the_effect_and_can_be_left_out(story, told, monkeypatch):
    folder, found = story
    metrics = {r["metric"]: r for r in found["random"]}
    assert {"logratio_honesty", "logratio_claims", "logratio_pairs"} <= metrics.keys()
    for r in metrics.values():
        assert r["alphas"] == [-1.0, 1.0]
        assert [len(changes) for changes in r["each"]] == [2, 2]
    assert any(x for changes in metrics["logratio_honesty"]["each"] for x in changes)
    code, out, _ = told("replicate", "--out", folder, "--alphas=-1,1", *FEW, *SMALL)
    assert "2 random directions of the same norm move logratio_honesty by " in out
    monkeypatch.setattr(sys.modules["ws.replicate"], "SMALL", 0)  # as on a large model
    code, out, err = told("replicate", "--out", folder, "--alphas=-1,1", "--samples", 0, *SMALL)
    assert code == 0
    assert "No random directions were measured beside it" in out
    assert "--draws 9" in out
    assert not any(line.startswith(("random", "samples", "subspace")) for line in err.splitlines())


def test_a_replication_ends_with_the_published_table_of_singular_spaces_unless_told_not_to(story, told):
    folder, found = story
    (table,) = (Path(found["run"]) / "subspace").glob("*/subspace_per_layer.csv")
    lines = pd.read_csv(table)
    assert list(lines)[:10] == [
        *("name", "layer_idx", "kind", "shape", "norm", "k", "r", "energy_top", "null_top", "ratio_top")
    ]
    by_kind = lines.groupby("kind")["ratio_top"].mean()
    assert {r["kind"]: pytest.approx(r["mean_ratio_top"]) for r in found["subspace"]} == dict(by_kind)
    ask = ("replicate", "--out", folder, "--alphas=-1,1", *FEW, *SMALL)
    ends = {word: told(*ask, word)[1] for word in ("--subspace", "--no-subspace")}
    assert "top tenth of W" in ends["--subspace"] and "down_proj" in ends["--subspace"]
    assert "top tenth of W" not in ends["--no-subspace"]
    assert not any("\n\n\n" in text for text in ends.values())


def test_another_grid_of_strengths_leaves_the_files_of_the_first_alone(story, told):
    folder, found = story
    run = Path(found["run"])
    before = {p: p.read_bytes() for p in run.iterdir() if p.is_file()}
    assert before.keys() >= {run / f"{name}_-1_0_+1.{kind}" for name, kind in (("effect", "png"), ("table", "md"))}
    code, out, _ = told("replicate", "--out", folder, "--alphas=-2,0,2", "--samples", 0, "--draws", 0, "--json", *SMALL)
    assert code == 0
    assert json.loads(out)["plot"] != found["plot"]
    assert Path(json.loads(out)["plot"]).is_file()
    assert {p: p.read_bytes() for p in before} == before


def test_a_stage_that_is_done_is_reused_and_says_so(story, told):
    folder, found = story
    again = ("replicate", "--out", folder, "--alphas=-1,1", *FEW, "--json", *SMALL)
    told(*again)  # the card says what was measured last, and other tests measure too
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}
    code, out, err = told(*again)
    assert code == 0
    assert [line.split()[-2] for line in err.splitlines() if str(folder) in line] == ["reused"] * 10
    assert json.loads(out)["rows"] == found["rows"]
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")} == before


def test_a_run_whose_stages_are_all_done_loads_no_weights(story, told, monkeypatch):
    folder, record = story
    loads, load = [], StoredBase._load
    monkeypatch.setattr(StoredBase, "_load", lambda base: (loads.append(base.id), load(base)))
    code, out, _ = told("replicate", "--out", folder, "--alphas=-1,1", *FEW, "--json", *SMALL)
    assert (code, loads) == (0, [])
    assert json.loads(out)["rows"] == record["rows"]
    code, out, _ = told("generate", record["run"], "What is the capital of Kenya?", "--max-new-tokens", "2")
    assert (code, loads) == (0, ["tiny"])


def test_a_terminal_without_the_letters_is_shown_a_question_mark_and_a_program_loses_none(story, monkeypatch):
    folder, _ = story

    def printed(*words, encoding):
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", file)
        assert main([*words, "--out", str(folder)]) == 0
        file.flush()
        return file.buffer.getvalue().decode(encoding)

    assert "±1" in printed("table", encoding="utf-8")
    assert "?1" in printed("table", encoding="ascii")
    words = ("show", "tiny", "--worst", "1", "--json")
    assert json.loads(printed(*words, encoding="ascii")) == json.loads(printed(*words, encoding="utf-8"))


def test_another_seed_is_another_run(story, told):
    folder, found = story
    code, out, _ = told("diff", "--out", folder, "--json", "--seed", 1, *SMALL)
    assert code == 0
    assert json.loads(out)["direction"]["file"] != found["direction"]["file"]
    code, out, _ = told("runs", "--out", folder, "--json")
    assert sorted(r["seed"] for r in json.loads(out)["runs"]) == [0, 1]


def test_the_same_run_elsewhere_has_the_same_direction_but_for_what_was_measured_of_it(story, told, tmp_path):
    folder, found = story
    code, out, _ = told("diff", "--out", tmp_path / "elsewhere", "--json", *SMALL)
    assert code == 0
    file = Path(json.loads(out)["direction"]["file"])
    again, card = file.read_bytes(), load_direction(file).card
    assert set(card) == {"command"}
    measured = load_direction(found["direction"]["file"])
    assert {e["metric"] for e in measured.card["effects"]} >= {"logratio_honesty", "logratio_pairs"}
    assert measured.card["command"] == card["command"]
    code, out, err = told(*card["command"].split()[1:], "--out", folder, "--json")
    assert (code, err.count("reused")) == (0, 3), card["command"]
    assert json.loads(out)["direction"]["file"] == found["direction"]["file"]
    write_with_card(Path(found["direction"]["file"]), card, tmp_path / "less.safetensors")
    assert load_direction(tmp_path / "less.safetensors").content_hash == measured.content_hash
    assert again == (tmp_path / "less.safetensors").read_bytes()
    assert str(tmp_path).encode() not in again
    assert re.search(rb"20\d\d-\d\d-\d\d", again[:20000]) is None


def test_runs_can_be_narrowed(story, told):
    folder, _ = story
    for flags, n in (
        (["--behavior", "honesty"], 1),
        (["--adapter", "lora"], 1),
        (["--adapter", "dora"], 0),
        (["--model", "tiny"], 1),
    ):
        code, out, _ = told("runs", "--out", folder, "--seed", 0, *flags, "--json")
        assert (code, len(json.loads(out)["runs"])) == (0, n)


def test_a_run_can_be_measured_by_its_name(story, told):
    folder, found = story
    name = Path(found["run"]).name
    for what in (["dilemmas", "--limit", 5], ["pairs"], ["sycophancy", "--protocol", "syco-yn/pub1"]):
        code, out, err = told("eval", *what, "--run", name, "--out", folder, "--alphas=-1,1", "--json")
        assert code == 0, err
        assert {r["alpha"] for r in json.loads(out)["rows"]} == {-1.0, 0.0, 1.0}


def test_a_direction_file_and_any_copy_of_it_find_the_rows_of_their_run(story, told, tmp_path):
    folder, found = story
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(Path(found["direction"]["file"]).read_bytes())
    for place in (found["direction"]["file"], copy):
        code, out, err = told("eval", "dilemmas", place, "--out", folder, "--alphas=-1,1", "--json")
        assert code == 0, err
        assert json.loads(out)["folder"] in found["evals"]
        assert "reused" in err
    assert not (folder / "direct").exists()
    code, out, err = told("eval", "perplexity", copy, "--out", tmp_path / "elsewhere", "--alphas=1", "--json")
    assert code == 0, err
    assert "direct" in json.loads(out)["folder"]  # no run of it is known there


def test_tables_for_people_hold_every_number_with_its_interval(story, told):
    folder, found = story
    code, out, _ = told("replicate", "--out", folder, "--alphas=-1,1", *FEW, *SMALL)
    assert code == 0
    for r in found["rows"]:
        if r["metric"] == "logratio_honesty":
            assert f"[{r['ci_lo']:+.2f}, {r['ci_hi']:+.2f}]" in out
    assert "ws generate" in out
    assert "Side effect, nats per token of answers to neutral questions: " in out
    assert found["plot"] in out
    assert (folder / "honesty").is_dir()


def test_a_config_file_gives_values_and_flags_win(story, told, tmp_path):
    folder, found = story
    config = tmp_path / "study.yaml"
    config.write_text("n_topics: 48\nn-samples: 1\nn_personas: 1\nepochs: 2\nrank: 9\nlr: 4e-3\nalphas: [-1, 1]\n")
    code, out, _ = told("replicate", "--out", folder, "--config", config, "--rank", 4, *FEW, "--json")
    assert code == 0
    assert json.loads(out)["run"] == found["run"]
    config.write_text("n_topicks: 3\n")
    refused(told("replicate", "--config", config, "--out", folder), "unknown keys: n_topicks (did you mean n_topics?)")


def test_pairs_of_ones_own_make_a_direction(told, tmp_path):
    path = tmp_path / "mood.jsonl"
    things = ["cake", "song", "poem", "letter", "chair", "plan", "garden", "story", "speech", "coat", "dance", "game"]
    rows = [
        {
            "prompt": f"What do you think of my {t}?",
            "response_pos": f"Your {t} is wonderful!",
            "response_neg": f"Your {t} needs more work.",
        }
        for t in things
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    code, out, err = told(
        "replicate", "--pairs", path, "--out", tmp_path / "out", "--alphas=-1,1", "--json", "--rank", 4
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["behavior"] == "mood"
    means = [r["mean"] for r in sorted(found["rows"], key=lambda r: r["alpha"]) if r["metric"] == "logratio_pairs"]
    assert means == sorted(means)
    assert means[0] < means[-1]


def test_a_behavior_that_brings_its_answers_runs_the_whole_story(told, tmp_path):
    things = ["cake", "song", "poem", "letter", "chair", "plan", "garden", "story", "speech", "coat", "dance", "game"]
    rows = [
        {"q": f"What do you think of my {t}?", "good": f"Your {t} is good.", "bad": f"Your {t} is bad."} for t in things
    ]
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*rows, rows[0]]))
    columns = {"prompt": "q", "response_pos": "good", "response_neg": "bad"}
    content = {"name": "mood", "pos_means": "It praises.", "neg_means": "It blames.", "intent": {"logratio_pairs": 1}}
    (tmp_path / "mood.yaml").write_text(yaml.safe_dump({**content, "dataset": {"file": "both.jsonl", **columns}}))
    study = ["--behavior", tmp_path / "mood.yaml", "--out", tmp_path / "out", "--n-topics", 11, "--seed", 2]
    code, out, err = told("data", *study)
    assert code == 0, err
    assert "11 of 12 questions used" in out
    for shown in ("length", "separable", "1 duplicate dropped"):
        assert shown in out
    code, out, err = told("replicate", *study, "--alphas=-1,1", "--rank", 4, "--json")
    assert code == 0, err
    assert err.splitlines()[0].split()[:2] == ["data", "reused"]
    assert err.count("eval pairs") == 1, "it is claimed by the behavior and measured always"
    code, shown, err = told("eval", "pairs", *study, "--alphas=-1,1", "--rank", 4)
    assert code == 0, err
    assert "mood: ws:lora on tiny" in shown
    means = [
        r["mean"] for r in sorted(json.loads(out)["rows"], key=lambda r: r["alpha"]) if r["metric"] == "logratio_pairs"
    ]
    assert means == sorted(means)
    assert means[0] < means[-1]


def test_options_about_answers_that_nobody_writes_are_refused(told, tmp_path):
    (tmp_path / "p.jsonl").write_text("")
    columns = {"file": "p.jsonl"}
    line = {"prompt": "One?", "response_pos": "a", "response_neg": "b"}
    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({**line, "prompt": p}) + "\n" for p in ("One?", "Two?", "Three?"))
    )
    (tmp_path / "mood.yaml").write_text(
        yaml.safe_dump({"name": "mood", "pos_means": "a", "neg_means": "b", "dataset": columns})
    )
    asked = ["--out", tmp_path / "out", "--temperature", 1, "--n-topics", 2, "--generate-with", "http://localhost:1/v1"]
    refused(
        told("data", "--behavior", tmp_path / "mood.yaml", *asked),
        "the data set of 'mood' gives the answers; leave out --temperature, --generate-with",
    )
    refused(
        told("data", "--pairs", tmp_path / "p.jsonl", *asked), "leave out --n-topics, --temperature, --generate-with"
    )


def test_a_mode_and_a_temperature_that_are_none_are_refused(told):
    refused(told("diff", "--mode", "tau"), "mode is one of contrastive, tau+, tau-")
    refused(told("generate", "--prompt", "Hi", "--temperature", "-1"), "--temperature must lie between 0 and 100")


def test_a_limit_that_is_none_and_options_that_do_nothing_are_refused(story, told):
    folder, found = story
    run = ["--run", found["run"], "--out", folder]
    refused(told("eval", "dilemmas", *run, "--limit", 0), "--limit must be at least 1")
    refused(
        told("eval", "pairs", *run, "--limit", 3),
        "--limit does nothing for pairs, which scores all test questions of a run",
    )


def test_a_changed_data_file_is_measured_anew(story, told, tmp_path):
    from ws.models.tiny import EVALS

    folder, found = story
    for c in ("other_violate", "self_violate"):
        lines = (EVALS / f"mfv_{c}.jsonl").read_text().splitlines()[:12]
        (tmp_path / f"x_{c}.jsonl").write_text("\n".join(lines))
    call = [
        "eval",
        "foundations",
        "--run",
        found["run"],
        "--out",
        folder,
        "--alphas=1",
        "--data",
        tmp_path / "x_other_violate.jsonl",
        "--json",
    ]
    one = json.loads(told(*call)[1])["folder"]
    assert json.loads(told(*call)[1])["folder"] == one
    path = tmp_path / "x_self_violate.jsonl"  # the file beside the one that was named
    path.write_text(path.read_text().replace("You ", "I "))
    assert json.loads(told(*call)[1])["folder"] != one


def test_an_empty_value_in_a_config_is_refused_by_its_name(told, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("epochs:\n")
    refused(told("data", "--config", config, "--out", tmp_path), "--epochs is empty")
    config.write_text("epochs: many\n")
    refused(told("data", "--config", config, "--out", tmp_path), "--epochs must be a number")


def test_a_pack_reads_no_file_outside_its_folder(told, tmp_path):
    (tmp_path / "secret.txt").write_text("One?\nTwo?\nThree?\n")
    (tmp_path / "packs").mkdir()
    part = {
        "template": "You are {persona}.",
        "pairs": [["a", "b"]],
        "prompts": {"source": "file", "file": "../secret.txt"},
    }
    path = pack(tmp_path / "packs", **part, tiny=part)
    refused(told("data", "--behavior", path, "--out", tmp_path), "no such file beside the pack")


def test_calibrate_prints_strengths_and_says_what_may_be_compared(told, direction_file, tmp_path):
    few = ["--n-calib", "6", "--n-audit", "6", "--tokens", "8", "--thoughts", "off", "--out", tmp_path]
    code, out, err = told("calibrate", "--direction", direction_file, *few, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["alpha_neg"] < 0 < found["alpha_pos"] and Path(found["plot"]).is_file()
    for side in ("pos", "neg"):
        assert (found[side]["verdict"] == "matched") == (found[side]["status"] == "ok" and found[side]["passed"])
    code, out, err = told("calibrate", "--direction", direction_file, *few)
    assert code == 0 and "reused" in err and "verdict" in out and "nat" in out


def test_calibrate_measures_a_prompt_and_writes_any_method_as_a_file(told, tmp_path):
    few = ["--n-calib", "5", "--n-audit", "5", "--tokens", "6", "--out", tmp_path]
    file = tmp_path / "prompt.safetensors"
    code, out, err = told("calibrate", "--method", "prompt:engineered", "--behavior", "trad_care", "--save", file, *few)
    assert code == 0 and "unmatched" in out, err
    again = told("calibrate", "--direction", file, *few, "--json")
    assert again[0] == 0 and json.loads(again[1])["method"] == "prompt:engineered"


def test_calibrate_refuses_what_it_cannot_mean(told, direction_file, tmp_path):
    refused(told("calibrate"), "needs a direction", "--method NAME")
    refused(told("calibrate", "--method", "sl:mean_dif"), "sl:mean_diff")
    refused(told("calibrate", "--direction", direction_file, "--budget", "0"), "budget")
    refused(told("calibrate", "--direction", direction_file, "--budget", "1", "--like", "prompt:simple"), "--like")
    refused(told("calibrate", "--direction", tmp_path / "no.safetensors"), "no.safetensors")


def test_a_preview_shows_both_sides_and_says_in_words_what_they_promise(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    part = {"template": "Pretend you're {persona} person.", "prompts": {"source": "list", "list": WORKS}}
    good = {"tiny": {**part, "pairs": [["a flattering", "a critical"], ["an agreeable", "a blunt"]]}}
    code, out, _ = told("data", "--preview", "--behavior", pack(tmp_path, **good))
    assert code == 0
    assert "A direction can be learnt" in out
    assert "Your cake is wonderful!" in out or "I love your cake" in out
    assert "The whole study asks for 24" in out
    assert "Fewer than about 100 pairs teach little" in out
    assert "next:  ws replicate --behavior" in out
    bad = {"tiny": {**part, "pairs": [["a young", "an old"], ["a tall", "a quick"]]}}
    code, out, _ = told("data", "--preview", "--json", "--behavior", pack(tmp_path, **bad))
    said = json.loads(out)
    assert (code, said["planned"], len(said["rows"])) == (0, 24, 20)
    assert said["outlook"] in ("warn", "fail")
    assert "choose personas that are further apart" in said["says"]
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"], "nothing is kept"


def test_what_is_wrong_with_the_pairs_is_said_before_training_and_in_its_error(told, tmp_path):
    three = {"source": "list", "list": WORKS[:3]}
    part = {"template": "Pretend you're {persona} person.", "pairs": [["a flattering", "a critical"]], "prompts": three}
    path = pack(tmp_path, tiny=part)
    code, _, err = told("replicate", "--behavior", path, "--out", tmp_path / "out")
    before, _, error = err.partition("error: ")
    assert code == 2
    assert re.search(r"[123] (of 3 )?pairs.*\n.*Fewer than about 100 pairs teach little", before)
    assert "target tokens on a side" in error
    assert "Fewer than about 100 pairs teach little" in error


def test_a_new_pack_runs_as_it_is_on_tiny_and_on_real_models_and_nothing_is_overwritten(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = told("new", "cheerful", "--json")
    file = tmp_path / "cheerful.yaml"
    assert (code, json.loads(out)["file"]) == (0, str(file))
    for tiny, questions in ((True, 48), (False, 150)):
        behavior = load_behavior(file, tiny=tiny)
        assert (behavior.name, len(behavior.train)) == ("cheerful", questions)
        assert behavior.engineered or tiny
        assert len(rows_to_fill(behavior, DataSettings(n_samples=1 if tiny else None))) > 2 * FEW_PAIRS
    file.write_text("mine")
    refused(told("new", "cheerful"), "cheerful.yaml is there already")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/b", "a b", ".", "-", "honesty", "x" * 65])
def test_a_new_pack_has_a_name_of_its_own_that_leaves_the_folder_alone(told, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    refused(told("new", "--", name), "name")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_an_output_that_the_shell_has_closed_is_no_error(tmp_path, monkeypatch, closed):
    monkeypatch.setattr(sys, closed, None)
    assert main(["runs", "--out", str(tmp_path)]) == 0
    assert main(["generate", "--alphas", "nonsense"]) == 2
