"""A direction knows itself: its card lies in its file, goes where the file goes, and is no part of its identity."""

import json

import pytest
import torch

from ws.direction import Direction, load, save, save_pretrained
from ws.direction.card import facts, merged, samples
from ws.direction.file import write_with_card
from ws.direction.forms import LowRank
from ws.errors import BadFile
from ws.records import Place, amend, damage_of

EFFECT = {"eval": "dilemmas", "protocol": "dd-1f/1", "metric": "logratio_honesty", "from": -1.0, "to": 1.0}
EFFECT |= {"change": 2.86, "lo": 2.7, "hi": 3.0, "units": 96}
CARD = {
    "command": "ws diff --behavior honesty",
    "effects": [EFFECT],
    "strengths": [{"budget": 1.0, "neg": -0.8, "pos": 0.9, "matched": True}],
    "answers": [
        {"question": "Who?", "answers": [{"alpha": -1.0, "text": "Nobody."}, {"alpha": 1.0, "text": "I | we."}]}
    ],
}
MADE = {"behavior": "honesty", "poles": {"pos": "It tells the truth.", "neg": "It says false things."}}


def a_direction(card=CARD):
    g = torch.Generator().manual_seed(0)
    forms = {"a.b": (LowRank(torch.randn(4, 2, generator=g), torch.randn(2, 5, generator=g)),)}
    return Direction(forms, {"base": {"id": "tiny"}, "adapter": "lora", "training": MADE}, card)


def test_a_card_survives_a_copy_of_the_single_file(tmp_path):
    file = save(a_direction(), tmp_path / "direction.safetensors")
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    assert dict(load(copy).card) == CARD
    assert "card" not in json.loads(_head(save(a_direction({}), tmp_path / "plain.safetensors")))


def _head(file):
    data = file.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["ws"]


def test_the_content_hash_covers_the_tensors_and_no_card():
    bare, known = a_direction({}), a_direction()
    assert bare.content_hash == known.content_hash
    assert (2 * known).content_hash != known.content_hash
    other = Direction(known.forms, {**known.provenance, "training": {}}, {})
    assert other.content_hash == known.content_hash
    assert other.content_hashes[1] != known.content_hashes[1]  # what earlier versions took


def test_what_is_computed_from_a_direction_begins_without_its_card():
    d = a_direction()
    assert not [x.card for x in (-d, 2 * d, d + d, d - d) if x.card]
    assert d.to(dtype=torch.float64).card == d.card


def test_a_card_grows_and_the_tensors_stay_byte_for_byte(tmp_path):
    file = save(a_direction({}), tmp_path / "a.safetensors")
    write_with_card(file, CARD, tmp_path / "b.safetensors")
    old, new = load(file), load(tmp_path / "b.safetensors")
    assert dict(new.card) == CARD
    assert new.content_hash == old.content_hash
    body = [
        p.read_bytes()[8 + int.from_bytes(p.read_bytes()[:8], "little") :] for p in (file, tmp_path / "b.safetensors")
    ]
    assert body[0] == body[1]
    (tmp_path / "text").write_text("nothing of the kind")
    with pytest.raises(BadFile, match="no direction file"):
        write_with_card(tmp_path / "text", CARD, tmp_path / "c")


def test_a_measurement_takes_the_place_of_an_older_one_of_the_same_thing():
    again = {"effects": [{**EFFECT, "change": 1.0}, {**EFFECT, "metric": "logratio_claims"}]}
    card = merged(CARD, again)
    assert [(e["metric"], e["change"]) for e in card["effects"]] == [
        ("logratio_honesty", 1.0),
        ("logratio_claims", 2.86),
    ]
    assert (card["command"], card["strengths"]) == (CARD["command"], CARD["strengths"])
    assert merged(card, {"effects": again["effects"]}) == card
    long = merged({}, {"answers": [{"question": "Q?", "answers": [{"alpha": 1, "text": "x" * 9999}]}] * 9})
    assert len(long["answers"]) == 3
    assert len(long["answers"][0]["answers"][0]["text"]) == 300


def test_a_direction_says_in_words_what_it_is():
    d = a_direction()
    assert dict(facts(d)) == {
        "behavior": "honesty",
        "alpha > 0": "It tells the truth.",
        "alpha < 0": "It says false things.",
        "effect": "logratio_honesty +2.86 [+2.70, +3.00] from alpha -1 to +1 (dd-1f/1, 96 units)",
        "strengths": "-0.8 and +0.9 move the model by 1 nat",
        "again by": "ws diff --behavior honesty",
    }
    assert samples(d) == [("Who?", [(-1.0, "Nobody."), (1.0, "I | we.")])]
    assert repr(d).startswith("Direction(honesty, lora of rank 2 on tiny, 1 modules, norm ")
    assert repr(d).endswith("logratio_honesty +2.86 [+2.70, +3.00] from alpha -1 to +1)")
    assert facts(Direction(d.forms)) == []


def test_the_page_of_a_folder_for_the_hub_holds_the_card(tmp_path):
    folder = save_pretrained(a_direction(), tmp_path / "d")
    page = (folder / "README.md").read_text()
    for part in (
        "- behavior: honesty",
        "- alpha < 0: It says false things.",
        "+2.86 [+2.70, +3.00]",
        "> Who?",
        "| -1 | Nobody. |",
    ):
        assert part in page
    assert "| +1 | I \\| we. |" in page


@pytest.mark.parametrize(
    "card",
    [
        [],
        {"command": 3},
        {"effects": {}},
        {"effects": [{**EFFECT, "change": "much"}]},
        {"effects": [{**EFFECT, "metric": None}]},
        {"strengths": [{"budget": 1.0}]},
        {"answers": [{"question": "Who?", "answers": ["Nobody"]}]},
        {"answers": [{"question": "Who?", "answers": [{"alpha": 0, "text": 1}]}]},
    ],
)
def test_a_card_that_ws_does_not_write_is_refused(tmp_path, card):
    from ws.direction.file import flattened, write_headed

    flat, layout = flattened(a_direction())
    file = write_headed(
        tmp_path / "x.safetensors", flat, {"format": "ws-direction/1", "forms": layout, "provenance": {}, "card": card}
    )
    with pytest.raises(BadFile, match="its header is not one that ws writes"):
        load(file)


# ---------------------------------------------------------------- the card of a finished stage


@pytest.fixture
def stage(tmp_path):
    place = Place("direction", tmp_path / "direction", {"mode": "contrastive"}, {})

    def make(work):
        save(a_direction({}), work / "direction.safetensors")
        return {"content": a_direction().content_hash}

    place.once(make)
    return place, make


def grow(place, card=CARD):
    file = place.folder / "direction.safetensors"
    amend(place.folder, file.name, lambda new: write_with_card(file, card, new))


def test_a_stage_whose_card_grew_is_whole_and_found_again(stage):
    place, make = stage
    before = (place.folder / "direction.safetensors").read_bytes()
    grow(place)
    assert (place.folder / "direction.safetensors").read_bytes() != before
    assert damage_of(place.folder, place.manifest) is None
    assert place.once(make).reused
    assert sorted(p.name for p in place.folder.iterdir()) == ["direction.safetensors", "manifest.json"]


def test_a_stage_that_is_stopped_between_manifest_and_file_is_whole(stage, monkeypatch):
    place, make = stage
    import os

    replaced = os.replace

    def stopped(source, target):
        if str(target).endswith("direction.safetensors") and ".new" in str(source):
            raise KeyboardInterrupt
        return replaced(source, target)

    monkeypatch.setattr("ws.records.os.replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        grow(place)
    monkeypatch.undo()
    assert damage_of(place.folder, place.manifest) is None
    assert place.once(make).reused
    grow(place)
    assert dict(load(place.folder / "direction.safetensors").card) == CARD


def test_damage_is_still_noticed_and_mended_without_a_word_about_other_results(stage, caplog):
    place, make = stage
    grow(place)
    file = place.folder / "direction.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert not place.once(make).reused
    assert "has other bytes" in caplog.text
    assert "should be made again" not in caplog.text
