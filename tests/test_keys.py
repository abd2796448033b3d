"""A cached stage is never stale: whatever can change a number is in the key of every stage that holds the number."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import ws
from ws import records
from ws.behaviors import load_behavior
from ws.calibrate import CalibrateSettings
from ws.cli import main
from ws.compare import Asked, cells_of, place_of
from ws.data import DataSettings, default_data
from ws.direction import Direction, save
from ws.direction.forms import Dense
from ws.eval import protocol
from ws.eval.protocol import items_of
from ws.methods import as_method
from ws.models.load import load
from ws.models.tiny import FOLDER
from ws.stages import Plan, calibration_place, make_eval, make_pairs, make_reference
from ws.train import default_train

DILEMMAS = str(FOLDER.parent / "evals" / "dilemmas.jsonl")
QUICK = DataSettings(n_topics=6, n_samples=1, n_personas=1, max_new_tokens=6, min_distinct=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shutil.copytree(FOLDER, tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def honesty():
    return load_behavior("honesty", tiny=True)


def edit_row(weights: Path, row: int) -> None:
    """Draw one row of the embedding anew, where it stands in the file."""
    with open(weights, "r+b") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        told = json.loads(f.read(size))["model.embed_tokens.weight"]
        assert told["dtype"] == "F32"
        width = told["shape"][1]
        f.seek(8 + size + told["data_offsets"][0] + 4 * width * row)
        f.write(np.random.default_rng(row).normal(scale=0.3, size=width).astype("float32").tobytes())


class Asking(Exception):
    """Raised in place of making a stage."""


@pytest.fixture
def key(monkeypatch):
    """The key of the stage that a call would make; nothing is made."""

    def of(call, *args, **options):
        def instead(folder, stage, settings, inputs, make, **more):
            raise Asking(records.key_of(stage, settings, inputs))

        with monkeypatch.context() as m:
            m.setattr(records, "once", instead)
            with pytest.raises(Asking) as asked:
                call(*args, **options)
        return str(asked.value)

    return of


def change_of(base, size: float = 1.0) -> Direction:
    name = next(iter(base.linears))
    return Direction({name: (Dense(size * torch.ones_like(base.weight(name))),)}, {"base": base.described()})


def keys_of(base, behavior, direction, out, key) -> dict[str, str]:
    """The key of every kind of stage on a base."""
    plan = Plan(base, behavior, default_data(base), default_train(base, "bias"), out)
    asked, limited = (base, "dilemmas", direction, out), {"alphas": (-1, 1), "method": "ws:x", "data_file": DILEMMAS}
    items = items_of(protocol("dilemmas"), base, data=DILEMMAS, limit=2)
    evals = [Asked("dilemmas", "dd-1f/1", data=DILEMMAS)]
    (cell,) = cells_of(base, behavior, ["sl:mean_diff"], evals=evals, alphas=(-1, 1), out=out)
    return {
        "data": plan.data_place.key,
        "train": plan.train_place.key,
        "direction": plan.direction_place.key,
        "calibrate": calibration_place(base, as_method(direction), CalibrateSettings(), out, behavior=behavior).key,
        "eval": key(make_eval, *asked, **limited),
        "eval of the bare model": key(make_eval, *asked[:2], None, out, **limited),
        "reference": key(make_reference, base, protocol("dilemmas"), items, out),
        "cell": place_of(cell, base, behavior).key,
    }


# ---------------------------------------------------------------- the model


def test_one_edited_embedding_row_makes_every_stage_of_a_model_folder_again(folder, honesty, tmp_path, key):
    weights = folder / "model.safetensors"
    before = load(folder)
    chosen = protocol("dilemmas")
    items = items_of(chosen, before, data=DILEMMAS, limit=6)
    row = before.tokenizer.convert_tokens_to_ids("Ġthe")
    direction = change_of(before)

    def made(base, out):
        pairs, record = make_pairs(Plan(base, honesty, QUICK, default_train(base, "bias"), out))
        scores, reference = make_reference(base, chosen, items, out)
        return pairs.content_hash, [s.logratio for s in scores], (record.reused, reference.reused)

    old = made(before, tmp_path / "out")
    keys = keys_of(before, honesty, direction, tmp_path, key)
    edit_row(weights, row)
    after = load(folder)
    assert after.fingerprint == before.fingerprint  # a sample of 1,024 values of 364,000 does not see it
    again, fresh = made(after, tmp_path / "out"), made(after, tmp_path / "fresh")
    assert old[2] == again[2] == fresh[2] == (False, False)
    assert again[:2] == fresh[:2]
    assert max(abs(a - b) for a, b in zip(again[1], old[1])) > 0.01  # nats
    new = keys_of(after, honesty, direction, tmp_path, key)
    assert {stage for stage in keys if keys[stage] == new[stage]} == set()
    # and back again, byte for byte: everything is found
    shutil.copy(FOLDER / "model.safetensors", weights)
    assert made(load(folder), tmp_path / "out") == (*old[:2], (True, True))
    assert keys_of(load(folder), honesty, direction, tmp_path, key) == keys


def test_a_change_of_precision_keeps_a_direction_usable_and_no_stage(folder, tiny, honesty, tmp_path, key):
    direction = change_of(tiny)
    half = shutil.copytree(FOLDER, tmp_path / "half")
    load("tiny").model.to(torch.bfloat16).save_pretrained(half)
    for base in (load(folder, dtype="bfloat16"), load(half), load(half, dtype="bfloat16")):
        assert base.fingerprint == tiny.fingerprint
        with ws.steer(base, direction, 1.0):
            pass
        mine, other = (keys_of(b, honesty, direction, tmp_path, key) for b in (tiny, base))
        assert {stage for stage in mine if mine[stage] == other[stage]} == set()
    assert load(folder, dtype="bfloat16").weights_hash == tiny.weights_hash != load(half).weights_hash


def test_a_direction_made_on_other_bytes_of_its_base_steers_and_both_names_are_told(folder, tiny, tmp_path, capsys):
    weights, file = folder / "model.safetensors", tmp_path / "direction.safetensors"
    edit_row(weights, 7)
    edited = load(folder)
    direction = change_of(edited)
    shutil.copy(FOLDER / "model.safetensors", weights)
    base = direction.provenance["base"]
    assert (base["fingerprint"], base["weights_hash"]) == (tiny.fingerprint, edited.weights_hash)
    assert direction.content_hash != change_of(tiny).content_hash
    ask = {"alphas": (-1, 1), "method": "ws:x", "data_file": DILEMMAS, "limit": 1}
    _, record = make_eval(tiny, "dilemmas", direction, tmp_path, **ask)
    assert record.manifest["made_on"] == base
    assert record.manifest["inputs"]["weights"] == tiny.weights_hash != base["weights_hash"]
    save(direction, file)
    for model, other in (("tiny", tiny.weights_hash), (str(folder), tiny.weights_hash)):
        assert main(["inspect", str(file), "--model", model]) == 0
        assert f"other bytes (weights {other[:16]})" in " ".join(capsys.readouterr().out.split())
    save(change_of(tiny), file)
    assert main(["inspect", str(file), "--model", "tiny"]) == 0
    told = capsys.readouterr().out
    assert "other bytes" not in told and tiny.weights_hash[:16] in told
