"""lm-evaluation-harness against `ws serve`, by both of its models of the OpenAI API; tasks and data are local files."""

import json

import pytest
from serve.test_server import listening
from test_steer import lowrank

TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
CHOICES = """output_type: multiple_choice
doc_to_text: "{{stem}}"
doc_to_target: 0
doc_to_choice: "{{choices}}"
target_delimiter: ""
metric_list: [{metric: acc}]
"""
WRITTEN = """output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 16, temperature: 0}
filter_list: [{name: take, filter: [{function: regex, regex_pattern: "(Nairobi|white)"}, {function: take_first}]}]
metric_list: [{metric: exact_match}]
"""
ROWS = [
    ("What is the capital of Kenya?", "Nairobi", [" Nairobi", " zebra"], "The capital of Kenya is"),
    ("What color is snow?", "white", [" white", " river"], "Snow is"),
]


@pytest.mark.peers
def test_the_harness_scores_and_generates_over_both_of_its_models(tiny, tmp_path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval")
    tasks = pytest.importorskip("lm_eval.tasks")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "rows.jsonl"
    rows = [dict(zip(("question", "answer", "choices", "stem"), row)) for row in ROWS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    continued = WRITTEN.replace("question", "stem")
    for name, kind in (("choices", CHOICES), ("continued", continued), ("answered", WRITTEN)):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, data=data) + kind)
    tiny.tokenizer.save_pretrained(tmp_path / "tokenizer")
    manager = tasks.TaskManager(include_path=str(tmp_path), include_defaults=False)

    def scores(kind, path, task, model, **more):
        options = {"model": model, "base_url": f"http://127.0.0.1:{port}/v1/{path}", "max_retries": 1}
        arguments = options | {"tokenizer": str(tmp_path / "tokenizer"), "tokenizer_backend": "huggingface"}
        found = lm_eval.simple_evaluate(kind, model_args=arguments, tasks=[task], task_manager=manager, **more)
        return {k.partition(",")[0]: v for k, v in found["results"][task].items()}

    with listening(tiny, [("honesty", lowrank(tiny, seed=0, size=1.0))]) as (port, server):
        assert scores("local-completions", "completions", "choices", "base")["acc"] == 1
        assert scores("local-completions", "completions", "continued", "base")["exact_match"] >= 0.5
        chat = ("local-chat-completions", "chat/completions", "answered")
        assert scores(*chat, "honesty@0.01", apply_chat_template=True)["exact_match"] == 1
        assert scores(*chat, "honesty@-2", apply_chat_template=True)["exact_match"] < 1
        assert set(server.gate.requests) == {"200"}
