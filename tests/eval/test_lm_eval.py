"""Tasks of lm-evaluation-harness: its numbers, our rows. Needs the extra `lmeval`; tasks and data are local files."""

import json
import sys

import pytest
from test_steer import lowrank

from ws.errors import Unsupported
from ws.eval import lm_eval, recorded, tables
from ws.steer import steer

CAPITALS = [
    ("Kenya", "Nairobi"),
    ("France", "Paris"),
    ("Italy", "Rome"),
    ("Norway", "Oslo"),
    ("Peru", "Lima"),
    ("Japan", "Tokyo"),
]
TASK = """task: capitals
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "<|im_start|>user\\n{{{{question}}}}<|im_end|>\\n<|im_start|>assistant\\nThe capital is"
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""


def test_a_missing_harness_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(Unsupported, match=r"pip install -e '.\[lmeval\]'"):
        lm_eval.Tasks(["arc_easy"])


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "capitals.jsonl"
    rows = []
    for i, (country, city) in enumerate(CAPITALS):
        choices = [city, CAPITALS[i - 1][1], CAPITALS[i - 2][1]]
        rows.append(
            {
                "question": f"What is the capital of {country}?",
                "choices": choices[i % 3 :] + choices[: i % 3],
                "gold": -i % 3,
            }
        )
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "capitals.yaml").write_text(TASK.format(data=data))
    return lm_eval.Tasks(["capitals"], str(tmp_path))


@pytest.mark.peers
def test_rows_average_to_what_the_harness_prints_and_steering_moves_them(tiny, tasks):
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    direction = lowrank(tiny, size=0.5)
    rows, items = lm_eval.score_tasks(
        tiny, tasks, alphas=[0.0, 2.0], dial=lambda a: steer(tiny, direction, a), method="random"
    )
    for alpha in (0.0, 2.0):
        with steer(tiny, direction, alpha):
            model = HFLM(pretrained=tiny.model, tokenizer=tiny.tokenizer, batch_size=2)
            theirs = simple_evaluate(model=model, tasks=["capitals"], task_manager=tasks.manager, bootstrap_iters=0)
        ours = rows[(rows["metric"] == "acc") & (rows["alpha"] == alpha)]["y"]
        assert ours.mean() == pytest.approx(theirs["results"]["capitals"]["acc,none"])
        assert len(ours) == len(CAPITALS)
    margin = rows[rows["metric"] == "margin"].pivot(index="row_key", columns="alpha", values="y")
    assert (margin[0.0] > 0).mean() > 0.8
    assert margin[2.0].mean() < margin[0.0].mean()
    assert set(items["row_key"]) == set(rows["row_key"])
    assert all("capital of" in p for p in items["prompt"])
    table = tables(rows)
    assert {(r["protocol"], r["metric"]) for r in table} == {
        ("lm-eval/capitals@1.0/none", m) for m in ("acc", "margin")
    }
    assert recorded("lm-eval", "lm-eval/capitals@1.0/none").eval == "lm-eval"


@pytest.mark.peers
def test_a_changed_question_is_another_key_and_an_unknown_task_names_close_ones(tasks, tmp_path):
    before = tasks.described(None)
    assert tasks.described(None) == before
    path = tmp_path / "capitals.jsonl"
    path.write_text(path.read_text().replace("Nairobi", "Mombasa"))
    assert tasks.described(None) != before
    with pytest.raises(ValueError, match=r"knows no task capitols.*`include_path=DIR`"):
        lm_eval.Tasks(["capitols"], str(tmp_path))


@pytest.mark.peers
def test_the_command_keeps_samples_as_rows_and_measures_strength_zero_once(tiny, tasks, tmp_path, capsys):
    from ws.cli import main
    from ws.direction import save
    from ws.results.items import moved
    from ws.results.measured import measured
    from ws.results.published import sheets

    out = tmp_path / "out"
    call = [
        "eval",
        "lm-eval",
        "--tasks",
        "capitals",
        "--include-path",
        tmp_path,
        "--out",
        out,
        "--alphas=-1,1",
        "--json",
    ]
    for size in (0.2, 0.3):
        file = save(lowrank(tiny, size=size), tmp_path / f"{size}.safetensors")
        assert main(list(map(str, [*call, "--direction", file, "--limit", 4]))) == 0
    assert len(list(out.rglob("scores.parquet"))) == 1
    found = measured([out])
    assert {tuple(m.alphas) for m in found} == {(-1, 0, 1)}
    assert {m.rows["unit_id"].nunique() for m in found} == {4}
    (sheet,), _ = sheets(found)
    assert len(sheet.lines) == 4  # two directions, two metrics
    assert moved(found[0], alpha=1.0, metric="margin")[0].rows[0]["wanted"] in dict(CAPITALS).values()
