"""What is damaged is noticed and said; what is interrupted goes on; two at once do the work once."""

import errno
import json
import logging
import os
import signal
import time
from pathlib import Path

import forks
import pandas as pd
import pytest
import torch
from forks import Child
from safetensors.torch import save_file

from ws import records
from ws.errors import BadFile, DiskFull
from ws.records import is_disk_full, once, read, refuse_damaged, write_json
from ws.study.evaluations import rows_in
from ws.study.stages import strengths_in


@pytest.fixture(autouse=True)
def _as_a_new_process():
    """Files are compared once per process; each test stands for several."""
    records._checked.clear()


def table(work):
    pd.DataFrame({"y": range(1000)}).to_parquet(work / "rows.parquet")
    (work / "sub").mkdir(exist_ok=True)
    (work / "sub" / "note.txt").write_text("a note")
    return {}


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [half, one_bit, lambda p: p.unlink(), lambda p: p.write_bytes(b"")])
@pytest.mark.parametrize("name", ["rows.parquet", "sub/note.txt"])
def test_a_damaged_file_is_made_again_and_that_is_said(tmp_path, caplog, damage, name):
    whole = once(tmp_path / "a", "toy", {}, {}, table)
    before = (whole.folder / name).read_bytes()
    damage(whole.folder / name)
    caplog.set_level(logging.WARNING, logger="ws")
    again = once(tmp_path / "a", "toy", {}, {}, table)
    assert not again.reused
    assert (again.folder / name).read_bytes() == before
    (told,) = caplog.messages
    assert name in told
    assert "made again" in told
    kept = tmp_path / ".a.damaged-1"
    assert str(kept) in told
    assert kept.is_dir()
    assert read(kept) is None  # and is nobody's result
    assert once(tmp_path / "a", "toy", {}, {}, table).reused


def test_a_whole_stage_is_reused_without_a_word(tmp_path, caplog):
    once(tmp_path / "a", "toy", {}, {}, table)
    assert once(tmp_path / "a", "toy", {}, {}, table).reused
    assert caplog.messages == []


def test_a_stage_made_again_with_other_bytes_says_that_what_was_made_from_it_is_of_the_old_ones(tmp_path, caplog):
    made = once(tmp_path / "a", "toy", {}, {}, table)
    half(made.folder / "rows.parquet")
    caplog.set_level(logging.WARNING, logger="ws")

    def other(work):
        table(work)
        (work / "sub" / "note.txt").write_text("another note")
        return {}

    once(tmp_path / "a", "toy", {}, {}, other)
    assert "sub/note.txt differ" in caplog.messages[-1]
    assert "rows.parquet" not in caplog.messages[-1]


def test_where_a_stage_cannot_be_made_again_its_damage_is_an_error(tmp_path):
    made = once(tmp_path / "a", "toy", {}, {}, table)
    refuse_damaged(made.folder, made.manifest)
    records._checked.clear()
    half(made.folder / "rows.parquet")
    with pytest.raises(BadFile, match=r"rows.parquet has \d+ bytes instead of \d+"):
        refuse_damaged(made.folder, made.manifest)


def test_a_stage_without_checksums_is_refused_kindly(tmp_path):
    made = once(tmp_path / "a", "toy", {}, {}, table)
    old = {k: v for k, v in made.manifest.items() if k != "files"}
    write_json(made.folder / "manifest.json", old)
    with pytest.raises(BadFile, match="kept no checksums; move it away and run the command again"):
        once(tmp_path / "a", "toy", {}, {}, table)


def test_a_truncated_manifest_is_a_clear_stop(tmp_path):
    made = once(tmp_path / "a", "toy", {}, {}, table)
    half(made.folder / "manifest.json")
    with pytest.raises(BadFile, match="move the folder away and run the command again"):
        once(tmp_path / "a", "toy", {}, {}, table)


def test_a_clock_that_was_put_back_changes_nothing(tmp_path, monkeypatch):
    once(tmp_path / "a", "toy", {}, {}, table)
    for path in (tmp_path / "a").rglob("*"):
        os.utime(path, (4e9, 4e9))  # written in the year 2096
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert once(tmp_path / "a", "toy", {}, {}, table).reused
    again = once(tmp_path / "b", "toy", {}, {"of": "a"}, table)
    assert again.manifest["seconds"] >= 0


# ---------------------------------------------------------------- no room


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_and_the_stage_goes_on_later(tmp_path, number):
    def full(work):
        (work / "resume").mkdir()
        (work / "resume" / "half").write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(DiskFull, match="free some space and give the same command again"):
        once(tmp_path / "a", "toy", {}, {}, full)
    assert not (tmp_path / "a").exists()

    def make(work):
        assert (work / "resume" / "half").read_text() == "half"
        return table(work)

    assert not once(tmp_path / "a", "toy", {}, {}, make).reused


def test_a_disk_too_full_for_a_folder_is_not_called_unwritable(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        once(tmp_path / "new" / "a", "toy", {}, {}, table)


FULL = """
import resource, sys
from pathlib import Path
import pandas as pd, torch
from safetensors.torch import save_file
from ws.records import once
kind = sys.argv[2]

def make(work):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    if kind == "parquet":
        pd.DataFrame({"y": range(100_000)}).to_parquet(work / "x")
    elif kind == "safetensors":
        save_file({"x": torch.rand(100_000)}, work / "x")
    else:
        (work / "x").write_text("x" * 100_000)
    return {}

try:
    once(Path(sys.argv[1]) / "a", "toy", {}, {}, make)
except Exception as e:
    print(type(e).__name__, e)
"""


@pytest.mark.parametrize("kind", ["parquet", "safetensors", "text"])
def test_a_real_limit_is_met_in_the_same_way_whoever_writes(tmp_path, kind):
    with forks.script(FULL, tmp_path, kind) as child:
        out, err = child.communicate(timeout=60)
    assert out.startswith("DiskFull there is no room left"), out + err
    assert not (tmp_path / "a").exists()
    made = once(tmp_path / "a", "toy", {}, {}, lambda work: save_file({"y": torch.ones(3)}, work / "y") or {})
    assert list(made.manifest["files"]) == ["y"]  # the half of x is gone
    assert not list(tmp_path.glob(".a.*.part"))


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    assert not is_disk_full(OSError(errno.EACCES, "no"))
    assert not is_disk_full(ValueError("the file is too short"))
    with pytest.raises(PermissionError):
        once(tmp_path / "a", "toy", {}, {}, lambda work: (_ for _ in ()).throw(PermissionError("no")))
    assert not list(tmp_path.glob("*.part"))


def test_a_file_that_cannot_be_written_leaves_no_half_of_itself(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "x.json", {})
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- two at once


def stage_of(out: Path, seconds: float) -> None:
    """Make a stage that takes so long, and print whether it was there."""

    def make(work):
        with open(out / "made-by", "a") as f:
            f.write(f"{os.getpid()}\n")
        (work / "x").write_text("x")
        time.sleep(seconds)
        return {}

    print(once(out / "a", "toy", {}, {}, make).reused)


def test_processes_that_start_the_same_stage_at_once_make_it_once(tmp_path):
    both = [Child(stage_of, tmp_path, 1.0) for _ in range(3)]
    assert sorted(p.communicate(timeout=60)[0].strip() for p in both) == ["False", "True", "True"]
    assert len((tmp_path / "made-by").read_text().split()) == 1
    assert list(json.loads((tmp_path / "a" / "manifest.json").read_text())["files"]) == ["x"]


def test_a_killed_holder_leaves_no_lock_behind(tmp_path):
    holder = Child(stage_of, tmp_path, 60)
    while not (tmp_path / "made-by").exists():
        time.sleep(0.02)
    waiting = Child(stage_of, tmp_path, 0)
    time.sleep(0.5)
    holder.send_signal(signal.SIGKILL)
    assert waiting.communicate(timeout=60)[0].strip() == "False"
    holder.communicate()
    assert (tmp_path / "a" / "x").read_text() == "x"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_without_locks_is_refused_in_one_sentence(tmp_path, monkeypatch, number):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(BadFile, match=r"has no locks \(.*give another `out`"):
        once(tmp_path / "a", "toy", {}, {}, lambda work: {})
    assert not (tmp_path / "a").exists()


def test_rows_that_were_exchanged_for_other_good_ones_are_refused(tmp_path):
    record = once(tmp_path / "a", "eval", {}, {}, table)
    assert rows_in(record)["y"].sum() == 499_500
    records._checked.clear()
    pd.DataFrame({"y": range(1, 1001)}).to_parquet(record.folder / "rows.parquet")
    with pytest.raises(BadFile, match=r"rows.parquet has (other bytes than were written|\d+ bytes instead of \d+)"):
        rows_in(record)


def test_strengths_that_were_edited_by_hand_are_refused(tmp_path):
    def calibration(work):
        write_json(work / "calibration.json", {"budget": 1.0})
        return {}

    place = records.Place.below(tmp_path, "calibrate", {}, {})
    record = place.once(calibration)
    write_json(place.folder / "calibration.json", {"budget": 2.0})
    records._checked.clear()
    with pytest.raises(BadFile, match=r"calibration.json has other bytes than were written"):
        strengths_in(record)
