"""Long work says how far it is: a line now and then in a file, never a bar, and nothing where silence was asked for."""

import os
import subprocess
import sys

import pytest

from ws import progress as module
from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings
from ws.cli import main
from ws.cli.live import Watch
from ws.cli.words import time_left
from ws.engine import Event, Task
from ws.engine.graph import Outcome
from ws.grid.compare import cells_of, evals_of
from ws.grid.look import Look, Stage, _left
from ws.progress import Lines, duration, progress, silence, watchers
from ws.records import write_json


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def worked(total: int, seconds: float, *, each: float) -> list[tuple[float, str]]:
    """The lines of work on `total` rows, one in every `each` seconds, looked at once a second: (second, line)."""
    clock, written = Clock(), []
    lines = Lines(total, "scoring", clock=clock, write=lambda line: written.append((clock.now - 1000, line)))
    done = 0
    for second in range(1, round(seconds) + 1):
        clock.now = 1000.0 + second
        lines.look()
        while done < total and (done + 1) * each <= second:
            done += 1
            lines.step(1)
    if done == total:
        lines.end()
    return written


def test_work_that_is_over_at_once_is_worth_no_line():
    assert worked(100, 4, each=0.04) == []


def test_each_tenth_is_a_line_with_rate_and_time_left_and_the_end_is_one():
    written = worked(100, 300, each=3.0)
    assert written[0] == (5.0, "scoring: 1 of 100 (1 %) after 5 s, 0.2/s, about 8 min left")
    tenths = [line for _, line in written[1:-1]]
    assert [line.split(" of ")[0] for line in tenths] == [f"scoring: {n}" for n in range(10, 100, 10)]
    assert tenths[4] == "scoring: 50 of 100 (50 %) after 2 min, 0.33/s, about 2 min left"
    assert written[-1] == (300.0, "scoring: 100 done in 5 min, 0.33/s")


def test_slow_work_says_once_a_minute_that_it_lives_also_within_one_step():
    written = worked(2, 400, each=1000.0)
    assert [second for second, _ in written] == [5, 65, 125, 185, 245, 305, 365]
    assert written[-1][1] == "scoring: 0 of 2 (0 %) after 6 min"  # no rate, and so no time left


def test_fast_tenths_are_some_seconds_apart():
    *between, end = [second for second, _ in worked(1000, 20, each=0.02)]
    assert between == [5, 10, 15, 20] and end == 20


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")])
def test_a_time_is_said_as_people_say_it(seconds, words):
    assert duration(seconds) == words


@pytest.fixture
def impatient(monkeypatch):
    """No time to wait for."""
    monkeypatch.setattr(module, "PATIENCE", 0.0)


def test_a_file_gets_lines_and_no_bar(impatient, capfd):
    with progress(4, "reading") as step:
        for _ in range(4):
            step(1)
    text = capfd.readouterr().err
    assert "reading: 1 of 4 (25 %)" in text and "reading: 4 done in" in text
    assert "\r" not in text and "|" not in text


def test_an_error_is_no_end(impatient, capfd):
    work = progress(4, "reading")
    work.__enter__()(1)
    assert not work.__exit__(RuntimeError, RuntimeError(), None)
    assert "done" not in capfd.readouterr().err


def test_silence_shows_nothing_and_watchers_hear_of_every_step(impatient, capfd):
    heard = []
    watchers.append(lambda *news: heard.append(news))
    try:
        with silence(), progress(2, "reading") as step:
            step(2)
        with progress(2, "aside", shown=False) as step:
            step(2)
    finally:
        watchers.pop()
    assert capfd.readouterr().err == ""
    assert heard == [("reading", 2, 2), ("aside", 2, 2)]
    with silence(False), progress(2, "reading") as step:
        step(2)
    assert "reading: 2 done" in capfd.readouterr().err


def test_quiet_says_nothing_but_results_and_errors(impatient, capfd):
    words = ["generate", "--prompt", "What is the capital of Kenya?", "--max-new-tokens", "3"]
    assert main(words) == 0
    loud = capfd.readouterr()
    assert "no direction given" in loud.err
    assert main([*words, "--quiet"]) == 0
    quiet = capfd.readouterr()
    assert quiet.err == "" and quiet.out == loud.out
    assert main([*words, "--quiet", "--alphas=1"]) == 2
    assert capfd.readouterr().err.startswith("error: ")


def test_other_libraries_show_no_bar_in_a_file(tmp_path):
    """A model of many tensors is loaded and written in a process of its own, whose stderr is no terminal."""
    code = (
        "import sys, transformers as t; from ws.cli import main; from ws.models.tiny import FOLDER;"
        "main(['--version']); main(['runs', '--out', sys.argv[1]]);"
        "t.AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(sys.argv[1])"
    )
    env = {k: v for k, v in os.environ.items() if k not in module.NO_BARS}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and (tmp_path / "config.json").is_file(), done.stderr
    assert "%|" not in done.stderr, done.stderr


def test_a_comparison_that_says_nothing_for_long_counts_its_cells(tiny, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("ws.progress.PATIENCE", 0.0)
    behavior = load_behavior("honesty", tiny=True)
    asked = {"evals": evals_of(behavior, ["dilemmas"]), "seeds": (0, 1, 2, 3), "settings": CalibrateSettings()}
    cells = cells_of(tiny, behavior, ["sl:mean_diff"], out=tmp_path, **asked)
    with Watch(cells, str) as watch:
        task = Task(cells[0].name, "")
        watch.tell(Event("started", task))
        watch.tell(Event("done", task, outcome=Outcome(task, "done", {"made": True}, seconds=2.0)))
    assert "cells: 1 of 4 (25 %) after " in capsys.readouterr().err


def test_what_nobody_has_made_yet_is_named_beside_the_time_that_is_known(tmp_path):
    for k, seconds in enumerate((4.0, 8.0)):
        folder = tmp_path / "x" / f"eval{k}"
        folder.mkdir(parents=True)
        manifest = {
            "stage": "eval",
            "model": {"id": "tiny"},
            "settings": {},
            "seconds": seconds,
            "files": {},
            "key": "k",
        }
        write_json(folder / "manifest.json", manifest)
    stages = [
        Stage("eval dilemmas", "a", False, "tiny"),
        Stage("cell", "b", False, "tiny"),
        Stage("cell", "c", False, "tiny"),
    ]
    known, unknown = _left(tmp_path, stages)
    assert (known, unknown) == (6.0, {"cell": 2})
    assert time_left(Look([], {}, {}, None, known, unknown)) == (
        "left: at least 6 s, and besides 2 cells, of which none was made here yet to tell how long one takes"
    )
    known, unknown = _left(tmp_path, stages[:1])
    assert time_left(Look([], {}, {}, known, known, unknown)) == "left: about 6 s, by the times of stages like these"
