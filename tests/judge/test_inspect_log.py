"""A judgement as a log of inspect: a zip of JSON that its own loader reads."""

import json
import math
from dataclasses import replace
from zipfile import ZipFile

import pytest

from ws.judge import MALFORMED, Case
from ws.judge.file import Row
from ws.judge.inspect_log import write_inspect_log
from ws.judge.judgement import judged, jury


@pytest.fixture
def log(tmp_path):
    """A log of three cases: right, wrong, and one without a verdict."""
    cases = [
        Case("a/1", "What is 2 + 2?", "It is 4.", ("4",)),
        Case("b", "What is 2 + 3?", "It is 6.", ("5",)),
        Case("ü 3", "What is 1 + 1?", "Two!", ("2",)),
    ]
    judgement = judged([Row(c, f"unit {c.id}") for c in cases], jury("math_correct"))
    last = replace(judgement.verdicts[2], value=None, label=MALFORMED)
    judgement = replace(judgement, verdicts=[*judgement.verdicts[:2], last])
    return write_inspect_log(judgement, tmp_path / "sums.eval", model="tiny")


def test_a_log_is_a_zip_of_json_with_a_header_a_sample_each_and_a_summary(log):
    with ZipFile(log) as z:
        content = {name: json.loads(z.read(name)) for name in z.namelist()}
    assert content["header.json"]["results"]["total_samples"] == 3
    assert content["header.json"]["eval"]["metadata"] == {"judge": "rule:math_correct/1"}
    assert content["samples/b_epoch_1.json"]["scores"]["math_correct"]["value"] == 0
    assert math.isnan(content["samples/ü 3_epoch_1.json"]["scores"]["math_correct"]["value"])
    assert [s["id"] for s in content["summaries.json"]] == ["a/1", "b", "ü 3"]
    assert [p.name for p in log.parent.iterdir()] == ["sums.eval"]


@pytest.mark.peers
def test_inspect_reads_the_log_by_its_own_loader(log):
    inspect_log = pytest.importorskip("inspect_ai.log")
    whole = inspect_log.read_eval_log(str(log))
    assert (whole.status, whole.eval.task, whole.eval.model) == ("success", "ws/math_correct", "tiny")
    assert [s.id for s in whole.samples] == ["a/1", "b", "ü 3"]
    values = [s.scores["math_correct"].value for s in whole.samples]
    assert values[:2] == [1, 0]
    assert math.isnan(values[2])
    assert [s.scores["math_correct"].answer for s in whole.samples] == ["YES", "NO", MALFORMED]
    assert whole.samples[0].output.completion == "It is 4."
    assert whole.results.scores[0].unscored_samples == 1
    assert whole.results.scores[0].metrics["correct"].value == pytest.approx(1 / 3)
    assert inspect_log.read_eval_log(str(log), header_only=True).samples is None
    assert inspect_log.read_eval_log_sample(str(log), id="ü 3").input == "What is 1 + 1?"
    assert len(inspect_log.read_eval_log_sample_summaries(str(log))) == 3


@pytest.mark.peers
def test_inspect_writes_the_log_again_and_nothing_of_it_is_lost(log, tmp_path):
    inspect_log = pytest.importorskip("inspect_ai.log")
    whole = inspect_log.read_eval_log(str(log))
    inspect_log.write_eval_log(whole, str(tmp_path / "again.eval"))
    again = inspect_log.read_eval_log(str(tmp_path / "again.eval"))
    names = ("id", "input", "target", "metadata")
    assert [[getattr(s, n) for n in names] for s in again.samples] == [
        [getattr(s, n) for n in names] for s in whole.samples
    ]
    assert again.results.scores[0].metrics == whole.results.scores[0].metrics
