"""A sweep does shared work once, survives what is done to it, and says what it could not do."""

import json
import os
import shutil
import signal
import time

import pytest
import torch
from forks import command, ran
from html_page import refuse_what_a_page_may_not_have
from results import differing, results_of

from ws.cli import main
from ws.errors import BadFile
from ws.models.tiny import FOLDER
from ws.report import report_of

SMALL = [
    "--adapters", "ia3,bias", "--seeds", "0,1", "--evals", "perplexity,pairs", "--n-topics", "30", "--n-samples", "1",
    "--n-personas", "1", "--epochs", "2", "--alphas=-1,1", "--workers", "1",
]  # fmt: skip
STUDIES = 4


def start(out, *more):
    return command("sweep", *SMALL, "--out", out, *more, env={"WS_CHECKPOINT_SECONDS": "0"})


def finish(out, *more):
    """(exit code, stdout, stderr) of the command run to its end."""
    with start(out, *more) as child:
        told, logged = child.communicate(timeout=280)
        return child.returncode, told, logged


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep with a model that cannot be loaded among its models."""
    out = tmp_path_factory.mktemp("sweep")
    broken = out / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    return out, finish(out, "--models", f"tiny,{broken}")


def stages(out):
    """The manifests below an output folder, by path."""
    return {str(p.parent.relative_to(out)): p.stat().st_ino for p in out.rglob("manifest.json")}


def test_a_model_that_cannot_be_loaded_costs_its_own_cells_and_no_other(undisturbed):
    out, (code, told, logged) = undisturbed
    assert code == 1
    assert f"{2 * STUDIES} studies: {STUDIES} done, {STUDIES} not" in told
    assert "cannot be loaded" in told
    assert "4 of 8 studies are not done" in logged
    assert "Traceback" not in told + logged
    assert len(list(out.glob("honesty/*/*/replicate*.json"))) == STUDIES


def test_the_closing_table_has_an_interval_over_seeds_and_items(undisturbed):
    out, (_, told, _) = undisturbed
    assert "logratio_pairs" in told
    assert "/2 " in told
    assert "over seeds and items" in told
    (folder,) = (out / "sweep").glob("[!.]*")
    found = json.loads((folder / "results.json").read_text())
    pairs = [e for e in found["effects"] if e["metric"] == "logratio_pairs"]
    assert [e["adapter"] for e in pairs] == ["ia3", "bias"]
    for e in pairs:
        over = e["over"]["found"]
        assert over["ci_lo"] < over["mean"] < over["ci_hi"]
        assert over["mean"] == pytest.approx(sum(e["over"]["each"]) / 2)
        assert e["over"]["each"] == pytest.approx([x["mean"] for x in e["each"]])
    assert {p.name for p in folder.glob("*.csv")} == {"studies.csv", "changes.csv", "effects.csv"}


def test_the_page_of_a_sweep_shows_every_effect_over_seeds_and_what_is_not_done(undisturbed):
    out, _ = undisturbed
    (folder,) = (out / "sweep").glob("[!.]*")
    read = refuse_what_a_page_may_not_have(report_of(folder))
    effects = json.loads((folder / "results.json").read_text())["effects"]
    cells = [cell for t in read.tables for line in t for cell in line]
    for e in [e for e in effects if e["metric"] == "logratio_pairs"]:
        number = e["over"]["found"]
        assert any(
            f"{number['mean']:+.2f} [{number['ci_lo']:+.2f}, {number['ci_hi']:+.2f}]" in c for c in cells
        ) or any(f"{number['mean']:+.4f} [" in c for c in cells)
        assert all(f"s{seed}" in read.text for seed in e["seeds"])
    assert "Not done" in read.text
    assert "cannot be loaded" in read.text
    assert str(out) not in read.tables.__repr__()  # a page is shown to others, who have no use for our folders


def test_a_sweep_that_is_not_over_has_no_page_and_says_how_to_go_on(undisturbed, tmp_path):
    (folder,) = (undisturbed[0] / "sweep").glob("[!.]*")
    (tmp_path / "sweep.json").write_bytes((folder / "sweep.json").read_bytes())
    with pytest.raises(BadFile, match="is not over; go on with: ws sweep --adapters"):
        report_of(tmp_path)


def test_again_it_finds_everything_and_makes_nothing(undisturbed):
    out, _ = undisturbed
    before = stages(out)
    code, told, logged = finish(out)
    assert code == 0, logged
    assert f"{STUDIES} of them found ready" in told
    assert logged.count("reused") == STUDIES + 2 + 1
    assert stages(out) == before


def test_the_plan_says_what_is_done_and_runs_nothing(undisturbed, tmp_path):
    out, _ = undisturbed
    code, told, _ = finish(out, "--check")
    assert code == 0
    assert f"{STUDIES} studies, {STUDIES} done" in told
    assert "nothing is left to do" in told
    code, told, _ = finish(out, "--check", "--adapters", "ia3,lora", "--json")
    found = json.loads(told)
    assert found["done"] == 2
    assert found["stages"]["data"] == {"all": 2, "done": 2}
    assert found["stages"]["train"] == {"all": 4, "done": 2}
    assert found["seconds_left"] > 0
    code, told, _ = finish(tmp_path / "new", "--check")
    assert "none was made here yet" in told
    assert not (tmp_path / "new").exists()


def test_models_that_cannot_be_loaded_are_told_by_the_plan(tmp_path, capsys, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / "half")
    weights = tmp_path / "half" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    plan = ["sweep", "--models", f"tiny,{tmp_path / 'half'}", "--check", "--out", str(tmp_path / "out")]
    assert main(plan) == 1
    told = capsys.readouterr()
    assert "1 study cannot be run: the model" in told.out
    assert "1 of 2 studies cannot be run" in told.err

    def full(common):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")

    monkeypatch.setattr("ws.study.worker.load_base", full)
    assert main(plan) == 1
    assert "2 studies cannot be run: OutOfMemoryError: CUDA out of memory. Tried" in capsys.readouterr().out


def test_single_verbs_find_what_a_sweep_made(undisturbed):
    out, _ = undisturbed
    flags = [f for f in SMALL[6:] if f not in ("--workers", "1") or f == "1"][:-1]
    code, _, logged = ran("eval", "pairs", "--adapter", "ia3", "--seed", 1, "--out", out, *flags)
    assert code == 0, logged
    assert logged.count("reused") == 4


def until(condition, process, within=200):
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def working(out, kind, doing):
    for path in out.glob("sweep/*/tasks/*.json"):
        try:
            told = json.loads(path.read_text())
        except ValueError:
            continue
        if told["state"] == "running" and told["task"].startswith(kind) and doing in str(told["told"]):
            return told
    return None


def test_killed_and_interrupted_it_ends_with_the_same_files(undisturbed, tmp_path):
    whole, _ = undisturbed
    process = start(tmp_path)
    task = until(lambda: working(tmp_path, "pairs/", ""), process)
    os.kill(task["pid"], signal.SIGKILL)  # a worker, in mid-task: another one takes over
    until(lambda: list(tmp_path.glob("honesty/*/*/.train.*.part")), process)

    held = [process.pid, until(lambda: working(tmp_path, "cell/", ""), process)["pid"]]
    for pid in held:  # so that a slow machine cannot come to the end meanwhile
        os.kill(pid, signal.SIGSTOP)
    second = start(tmp_path)  # the same sweep a second time
    _, refused = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "is running already (process" in refused

    _, status, _ = ran("sweep", "--status", "--out", tmp_path)
    assert "running for" in status
    assert "1 running" in status

    for pid in held:
        os.kill(pid, signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    _, logged = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "again    pairs tiny/honesty/s0: its worker was killed" in logged
    assert f"go on with: ws sweep {' '.join(SMALL[:2])}" in logged
    assert "Traceback" not in logged

    process = start(tmp_path)
    until(lambda: list(tmp_path.glob("honesty/*/*/train/manifest.json")), process)
    process.kill()  # the command itself
    process.communicate()

    code, _, logged = finish(tmp_path)
    assert code == 0, logged
    finish(whole)  # the tables of this grid, where only those of the one with a broken model are there
    ours = {n: b for n, b in results_of(whole).items() if n.split("/")[0] not in ("broken", "sweep")}
    theirs = results_of(tmp_path)
    tables = {n for n in theirs if n.startswith("sweep/")}
    assert len(tables) == 3
    assert differing(ours | {n: results_of(whole)[n] for n in tables}, theirs) == []
    assert not list(tmp_path.rglob("*.part"))


def test_a_corrupted_file_is_made_again_and_the_closing_lines_say_so(undisturbed):
    out, _ = undisturbed
    before = results_of(out)
    (rows,) = out.glob("honesty/ia3/tiny-s0-*/eval/pairs/[!.]*/rows.parquet")
    rows.write_bytes(rows.read_bytes()[:100])
    code, told, logged = finish(out)
    assert code == 0, logged
    assert "rows.parquet has 100 bytes instead of" in told
    assert "it is made again" in told
    after = {n: b for n, b in results_of(out).items() if ".damaged-1/" not in n}
    assert differing(before, after) == []
