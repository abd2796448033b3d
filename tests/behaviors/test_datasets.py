"""Behaviors that bring their answers: what is read is aligned, whole, and part of the key."""

import hashlib
import json
from dataclasses import replace

import pytest
import yaml

from ws.behaviors import load_behavior
from ws.calibrate.prompts import training_prompts
from ws.data import DataSettings, data, default_data, topics_of
from ws.errors import BadFile, Unsupported
from ws.methods import make, without_texts
from ws.pairs import auc, normal_form
from ws.study.plan import Plan
from ws.study.stages import make_pairs, material
from ws.train import default_train

THINGS = ["cake", "song", "poem", "letter", "chair", "plan", "garden", "story", "coat", "dance", "game", "house"]
POS = [{"id": i, "question": f"How is my {t}?", "answer": f"Your {t} is good."} for i, t in enumerate(THINGS)]
NEG = [{**r, "answer": r["answer"].replace("good", "bad")} for r in POS]
BOTH = [{"question": p["question"], "good": p["answer"], "bad": n["answer"]} for p, n in zip(POS, NEG)]
COLUMNS = {"prompt": "question", "response": "answer"}
TWO = {"pos": "pos.jsonl", "neg": "neg.jsonl", **COLUMNS}
ONE = {"file": "both.json", "prompt": "question", "response_pos": "good", "response_neg": "bad"}


def write(path, rows):
    """A table in the format of its name."""
    import pandas as pd

    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        case ".json":
            path.write_text(json.dumps(rows))
        case ".parquet":
            pd.DataFrame(rows).to_parquet(path)


def pack(folder, dataset=TWO, *, pos=POS, neg=NEG, both=BOTH, **changes):
    """A pack with a data set beside it; its path."""
    for name, rows in (("pos.jsonl", pos), ("neg.jsonl", neg), ("both.json", both)):
        write(folder / name, rows)
    content = {"name": "mood", "pos_means": "It praises.", "neg_means": "It blames.", "dataset": dataset, **changes}
    path = folder / "mood.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def texts(behavior):
    return [(r.prompt, r.response_pos, r.response_neg) for r in behavior.answers.rows]


WANTED = [(r["question"], r["good"], r["bad"]) for r in BOTH]


def test_two_files_one_file_and_every_format_give_the_same_pairs(tmp_path):
    for suffix in ("jsonl", "json", "parquet"):
        write(tmp_path / f"sides/p.{suffix}", POS)
        write(tmp_path / f"sides/n.{suffix}", NEG)
        write(tmp_path / f"sides/b.{suffix}", BOTH)
        two = {"pos": f"sides/p.{suffix}", "neg": f"sides/n.{suffix}", **COLUMNS}
        for dataset in (two, {**ONE, "file": f"sides/b.{suffix}"}):
            assert texts(load_behavior(pack(tmp_path, dataset))) == WANTED


def test_rows_are_matched_by_their_key_where_the_pack_names_one(tmp_path):
    behavior = load_behavior(pack(tmp_path, {**TWO, "key": "id"}, neg=NEG[::-1]))
    assert texts(behavior) == WANTED
    with pytest.raises(BadFile, match=r"12 of 12 rows ask one question .* and another .*`key`"):
        load_behavior(pack(tmp_path, TWO, neg=NEG[::-1]))
    with pytest.raises(BadFile, match="rows 1 and 2 have the same id"):
        load_behavior(pack(tmp_path, {**TWO, "key": "id"}, neg=[{**r, "id": 0} for r in NEG]))
    with pytest.raises(BadFile, match=r"2 values of id stand on one side only, e\.g\. 0, 99"):
        load_behavior(pack(tmp_path, {**TWO, "key": "id"}, neg=[{**NEG[0], "id": 99}, *NEG[1:]]))


def test_a_column_inside_a_column_is_named_with_dots(tmp_path):
    def chats(rows):
        return [
            {"messages": [{"role": "user", "content": r["question"]}, {"role": "assistant", "content": r["answer"]}]}
            for r in rows
        ]

    inside = {"prompt": "messages.0.content", "response": "messages.1.content"}
    for suffix in ("jsonl", "parquet"):
        write(tmp_path / f"p.{suffix}", chats(POS))
        write(tmp_path / f"n.{suffix}", chats(NEG))
        dataset = {"pos": f"p.{suffix}", "neg": f"n.{suffix}", **inside}
        assert texts(load_behavior(pack(tmp_path, dataset))) == WANTED
    with pytest.raises(BadFile, match=r"row 1 has no 'messages\.2\.content'; it has the columns messages"):
        load_behavior(pack(tmp_path, {**dataset, "response": "messages.2.content"}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"neg": NEG[:-1]}, r"pos\.jsonl has 12 rows and neg\.jsonl has 11"),
        ({"neg": [*NEG[:-1], {**NEG[-1], "answer": " "}]}, r"neg\.jsonl, row 12: answer must be a text"),
        ({"neg": [*NEG[:-1], {**NEG[-1], "answer": None}]}, r"neg\.jsonl, row 12: answer must be a text"),
        ({"neg": [*NEG[:-1], {**NEG[-1], "question": "Else?"}]}, r"1 of 12 rows ask .* \(rows 12\)"),
        ({"neg": []}, r"neg\.jsonl has no rows"),
        ({"dataset": {**TWO, "response": "reply"}}, "row 1 has no 'reply'; it has the columns answer, id, question"),
        ({"dataset": {**TWO, "neg": "gone.jsonl"}}, r"dataset names 'gone\.jsonl', and there is no such file"),
        ({"dataset": {**TWO, "neg": "../neg.jsonl"}}, "no such file beside the pack"),
        ({"dataset": {**TWO, "neg": "org/name"}}, "org/name#config/split"),
        ({"dataset": {"pos": "pos.jsonl"}}, "`pos` and `neg`, or one `file` with both"),
        ({"dataset": {**ONE, "pos": "pos.jsonl"}}, "`file` holds both sides, so leave out pos"),
        ({"dataset": {**TWO, "response_pos": "a"}}, "so leave out response_pos"),
        ({"pairs": [["glad", "sad"]], "template": "{persona}"}, "leave out `template` and `pairs`, or `dataset`"),
        ({"dataset": None}, "template, pairs, prompts missing; a behavior has template, pairs and prompts, or a dataset"),
        ({"prompts": {"source": "list", "list": ["How is my cake?", "Who?"]}}, "1 of the prompts have no answer"),
        ({"pos": POS[:1], "neg": NEG[:1]}, "at least three training prompts"),
    ],
)  # fmt: skip
def test_a_data_set_that_is_not_whole_is_refused_with_its_place(tmp_path, changes, told):
    (tmp_path / "neg.jsonl").write_text("outside")
    (tmp_path / "in").mkdir()
    with pytest.raises(BadFile, match=told):
        load_behavior(pack(tmp_path / "in", **changes))


def study(tiny, path, out, **changes):
    settings = replace(default_data(tiny), **changes)
    return Plan(tiny, load_behavior(path, tiny=True), settings, default_train(tiny, "lora"), out=out)


def test_the_stage_checks_a_data_set_and_says_where_it_comes_from(tiny, tmp_path):
    again = {**POS[0], "id": 12, "answer": "Your cake is fine."}
    path = pack(tmp_path, pos=[*POS, again], neg=[*NEG, {**NEG[0], "id": 12}])
    pairs, record = make_pairs(study(tiny, path, tmp_path / "out"))
    assert [r.behavior for r in pairs.rows] == ["mood"] * 12
    assert {"length", "separable", "duplicate"} <= {c["name"] for c in record.manifest["checks"]}
    said = record.manifest["provenance"]
    digests = [hashlib.sha256((tmp_path / f"{side}.jsonl").read_bytes()).hexdigest() for side in ("pos", "neg")]
    assert [(f["file"], f["sha256"]) for f in said["files"]] == [("pos.jsonl", digests[0]), ("neg.jsonl", digests[1])]
    assert (said["n_rows"], said["n_questions"], said["dropped_rows"]) == (13, 12, {"duplicate": [13]})
    again, reused = make_pairs(study(tiny, path, tmp_path / "out"))
    assert reused.reused
    assert again.rows == pairs.rows


def test_n_topics_takes_some_questions_by_seed_and_none_takes_all(tiny, tmp_path):
    def questions(**changes):
        return {r.prompt for r in data(tiny, load_behavior(path), DataSettings(min_distinct=0.02, **changes)).rows}

    path = pack(tmp_path)
    assert len(questions()) == 12
    assert len(questions(n_topics=5)) == 5
    assert questions(n_topics=5) == questions(n_topics=5, temperature=1.0) != questions(n_topics=5, seed=1)
    assert questions(n_topics=2, shuffle_topics=False) == {"How is my cake?", "How is my song?"}
    three = ["How is my cake?", "How is my plan?", "How is my song?"]
    chosen = pack(tmp_path, prompts={"source": "list", "list": three})
    assert {r.prompt for r in data(tiny, load_behavior(chosen)).rows} == {*three}


def test_the_bytes_of_the_data_are_part_of_the_key_and_sampling_is_not(tiny, tmp_path):
    path, out = pack(tmp_path), tmp_path / "out"
    before = study(tiny, path, out).data_place.key
    assert study(tiny, path, out, temperature=0.3, n_samples=4).data_place.key == before
    assert study(tiny, path, out, n_topics=5).data_place.key != before
    assert (
        study(tiny, pack(tmp_path, neg=[*NEG[:-1], {**NEG[-1], "answer": "It is bad."}]), out).data_place.key != before
    )
    pack(tmp_path)
    (tmp_path / "pos.jsonl").write_text((tmp_path / "pos.jsonl").read_text() + "\n")
    assert study(tiny, path, out).data_place.key != before, "the same rows in other bytes"


def test_methods_that_need_personas_say_that_there_are_none_and_the_others_work(tiny, tmp_path):
    plan = study(tiny, pack(tmp_path, engineered={"pos": "Praise.", "neg": "Blame."}), tmp_path / "out")
    made = material(plan)
    for name in ("repe", "sl:mean_diff", "prompt:simple", "paper:single-last"):
        with pytest.raises(Unsupported, match="'mood' has no personas, its answers come from a data set"):
            make(name, made)
    assert make("prompt:engineered", made).pos == "Praise."
    other = replace(made, pairs=lambda: swapped(plan))
    a, b = (make("paper:all", m) for m in (made, other))
    assert a.content_hash != b.content_hash, "it is made from the answers"
    left = ["prompt:simple", "repe", "sl:pca", "paper:single-last"]
    keep = ["ws:lora", "prompt:engineered", "paper:all", "random:act:0"]
    assert without_texts([*left, *keep], plan.behavior) == left
    assert without_texts([*left, *keep], load_behavior("honesty")) == []


def swapped(plan):
    return make_pairs(plan)[0].swapped()


def test_the_questions_of_a_data_set_are_kept_apart_from_those_of_a_calibration(tmp_path):
    behavior = load_behavior(pack(tmp_path))
    assert training_prompts(behavior) == [r["question"] for r in BOTH]


COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub: call it to put a split there, in so many parts."""
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))

    def put(split, rows, *, parts=1, commit=COMMIT, complete=True, name="org/mood"):
        root = cache / f"datasets--{name.replace('/', '--')}"
        if commit == COMMIT:
            (root / "refs/refs/convert").mkdir(parents=True, exist_ok=True)
            (root / "refs/refs/convert/parquet").write_text(commit)
        size = -(-len(rows) // parts)
        for n in range(parts):
            write(root / f"snapshots/{commit}/default/{split}/{n:04d}.parquet", rows[n * size : (n + 1) * size])
        if complete:  # what the hub's client keeps of a file that is not there
            mark = root / f".no_exist/{commit}/default/{split}/{parts:04d}.parquet"
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()

    return put


ON_HUB = {"pos": "org/mood#default/praise", "neg": "org/mood#default/blame", **COLUMNS}


def test_a_data_set_of_the_hub_is_read_whole_and_named_with_its_revision(hub, tmp_path):
    hub("praise", POS, parts=3)
    hub("blame", NEG)
    behavior = load_behavior(pack(tmp_path, ON_HUB))
    assert texts(behavior) == WANTED
    files = behavior.answers.provenance["files"]
    assert [(f["dataset"], f["split"], f["file"], f["revision"]) for f in files] == [
        *[("org/mood", "praise", f"000{n}.parquet", COMMIT) for n in range(3)],
        ("org/mood", "blame", "0000.parquet", COMMIT),
    ]


def test_a_revision_of_the_hub_is_another_behavior(hub, tmp_path):
    shifted = [{**r, "answer": f"Oh. {r['answer']}"} for r in POS]
    for commit, rows in ((COMMIT, POS), (OTHER, shifted)):
        hub("praise", rows, commit=commit)
        hub("blame", NEG, commit=commit)
    newest = load_behavior(pack(tmp_path, ON_HUB))
    pinned = {k: v.replace("mood#", f"mood@{OTHER}#") for k, v in ON_HUB.items()}
    older = load_behavior(pack(tmp_path, pinned))
    assert [t[1] for t in texts(older)] == [r["answer"] for r in shifted]
    assert older.content_hash != newest.content_hash


def test_a_part_that_may_be_missing_and_a_data_set_that_is_nowhere_are_refused(hub, tmp_path):
    hub("praise", POS, complete=False)
    with pytest.raises(BadFile, match="not known whether org/mood has more than 1 parts of default/praise"):
        load_behavior(pack(tmp_path, ON_HUB))
    gone = {k: v.replace("org/mood", "org/gone") for k, v in ON_HUB.items()}
    with pytest.raises(BadFile, match="the dataset 'org/gone' is not in the local cache"):
        load_behavior(pack(tmp_path, gone))


PERSONAS = {"template": "You are {persona}.", "pairs": [["glad", "sad"]], "dataset": None}


def test_every_source_of_questions_gives_them_in_order(hub, tmp_path):
    hub("train", [{"q": {"text": t}} for t in ("One?", "Two?", "one", "Three?")])
    (tmp_path / "lines.txt").write_text("One?\nTwo?\n\nThree?\n")
    write(
        tmp_path / "rows.jsonl",
        [{"text": t, "split": s} for t, s in (("One?", "train"), ("Two?", "train"), ("Six?", "train"))],
    )
    at = {"source": "hub", "id": "org/mood", "split": "train", "column": "q.text"}
    for source, wanted in (
        ({"source": "list", "list": ["One?", "Two?", "Three?"]}, ["One?", "Two?", "Three?"]),
        ({"source": "file", "file": "lines.txt"}, ["One?", "Two?", "Three?"]),
        ({"source": "file", "file": "rows.jsonl"}, ["One?", "Two?", "Six?"]),
        (at, ["One?", "Two?", "Three?"]),
        ({**at, "id": f"org/mood@{COMMIT}", "config": "default"}, ["One?", "Two?", "Three?"]),
    ):
        assert [p.text for p in load_behavior(pack(tmp_path, **PERSONAS, prompts=source)).train] == wanted
    pool = load_behavior(pack(tmp_path, **PERSONAS, prompts={"source": "pool"}))
    assert pool.train == load_behavior("honesty").train


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": "mood"}, "org/name or org/name@revision"),
        ({"column": None}, "`id`, `split` and `column` must say"),
        ({"split": "test"}, r"org/mood \(default, test\) is not in the local cache"),
        ({"column": "question"}, "row 1 has no 'question'; it has the columns q"),
    ],
)
def test_questions_that_the_hub_cannot_give_are_refused(hub, tmp_path, changes, told):
    hub("train", [{"q": "One?"}, {"q": "Two?"}])
    prompts = {"source": "hub", "id": "org/mood", "split": "train", "column": "q", **changes}
    with pytest.raises(BadFile, match=told):
        load_behavior(pack(tmp_path, **PERSONAS, prompts=prompts))


def test_a_question_is_not_held_out_and_trained_on(tmp_path):
    asked = {"source": "list", "list": ["One?", "Two?", "Six?"]}
    with pytest.raises(BadFile, match=r"1 of the held-out prompts are training prompts too, e\.g\. 'two'"):
        load_behavior(pack(tmp_path, **PERSONAS, prompts=asked, heldout={"source": "list", "list": ["two", "Three?"]}))
    heldout = {"source": "list", "list": ["How is my cake?"]}
    with pytest.raises(BadFile, match="1 of the held-out prompts"):
        load_behavior(pack(tmp_path, heldout=heldout))
    rest = {"source": "list", "list": [r["question"] for r in BOTH[1:]]}
    assert len(load_behavior(pack(tmp_path, heldout=heldout, prompts=rest)).train) == 11


def test_given_pairs_of_a_real_data_set_are_checked_and_split_by_question(real_data, tiny, tmp_path):
    """Contrastive answers to misattributed quotes: pos goes along, neg says whose words they are."""
    quotes = json.loads((real_data / "sycophancy/sycophancy_mimicry.train.json").read_text())
    rows = []
    for q in quotes:
        candid, along = sorted(q["responses"], key=q["responses"].get, reverse=True)
        rows.append({"question": q["instruction"], "good": along, "bad": candid})
    plan = study(tiny, pack(tmp_path, ONE, both=rows), tmp_path / "out", n_topics=None)
    pairs, record = make_pairs(plan)
    checks, said = {c.name: c for c in pairs.checks}, record.manifest["provenance"]
    assert said["n_rows"] == len(quotes) == len(pairs.rows) + sum(said["dropped"].values())
    assert checks["separable"].value > 0.8
    assert checks["length"].value == pytest.approx(
        auc([r.n_tok_pos for r in pairs.rows], [r.n_tok_neg for r in pairs.rows]), abs=0.02
    )
    assert plan.parts == plan.train.parts(pairs.topics)
    apart = [
        {normal_form(r.prompt) for r in pairs.of(p).rows} for p in (plan.parts.train, plan.parts.val, plan.parts.test)
    ]
    assert len(set().union(*apart)) == sum(map(len, apart))
    assert all(apart)


def test_a_pack_says_how_many_questions_a_study_uses_and_a_setting_says_otherwise(tmp_path):
    def behavior(**more):
        record = {
            "name": "mood",
            "pos_means": "a",
            "neg_means": "b",
            "template": "{persona}",
            "pairs": [["Be glad.", "Be sad."]],
        }
        record |= {"prompts": {"source": "list", "list": [f"What is {i}?" for i in range(60)]}, **more}
        (tmp_path / "mood.yaml").write_text(yaml.safe_dump(record))
        return load_behavior(tmp_path / "mood.yaml")

    own, usual = behavior(n_topics=7), behavior()
    assert [len(topics_of(b, DataSettings())) for b in (own, usual)] == [7, 50]
    assert len(topics_of(own, DataSettings(n_topics=9))) == 9
    assert own.content_hash != usual.content_hash  # or pairs of one would be taken for those of the other
    with pytest.raises(BadFile, match="n_topics"):
        behavior(n_topics=2)
