"""Detectors: planted drift is found and told which way, benign change is not; the page says so in words."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from test_angles import change, folder_of, low

import ws
from ws.behaviors import load_behavior
from ws.direction import Direction
from ws.direction.forms import LowRank
from ws.methods.activation.states import INTO, states
from ws.watch import Watched
from ws.watch.alarm import Against
from ws.watch.detectors import DETECTORS, Case, Moved, Probe, Reading
from ws.watch.detectors.detector import most_moved
from ws.watch.detectors.trait_drift import _vectors
from ws.watch.page import Verdict, html, markdown, multiple
from ws.watch.page import verdict as read_by_all


@pytest.fixture(scope="module")
def probe(tiny):
    return Probe(tiny, load_behavior("honesty", tiny=True), load_behavior("trad_care", tiny=True), n=8)


def writing(probe, v, *, size):
    """A change that makes every block write `v` at whatever it reads."""
    forms = {}
    for block in probe.blocks:
        name = f"{block}.mlp.down_proj"
        read = states(probe.base, probe.texts, [INTO + name])[INTO + name].mean(0)
        forms[name] = (LowRank((size * v[block])[:, None].float(), (read / read.square().sum())[None]),)
    return change("planted", forms)


def persona(probe):
    return {b: probe.personas.difference(b).mean(0) for b in probe.blocks}


def random_like(vectors, seed):
    g = torch.Generator().manual_seed(seed)
    return {
        b: torch.nn.functional.normalize(torch.randn(v.shape, generator=g), dim=0) * v.norm()
        for b, v in vectors.items()
    }


def read(detector, probe, change):
    return DETECTORS[detector](Case(probe, change))


def test_drift_along_the_persona_vector_is_found_with_its_sign_and_a_random_one_is_not(probe):
    v = persona(probe)
    for size, toward in ((0.3, 1), (-0.3, -1)):
        reading = read("trait_drift", probe, writing(probe, v, size=size))
        assert reading.toward == toward
        assert 0.3 * abs(size) < abs(reading.score) < 5 * abs(size)
    benign = [read("trait_drift", probe, writing(probe, random_like(v, seed), size=0.3)) for seed in range(3)]
    assert [r.toward for r in benign] == [0] * 3


def test_a_mixed_drift_fires_by_its_dose_beside_trained_nulls_and_never_beside_differences_of_personas(probe):
    v = persona(probe)

    def mixed(share, draw):
        """Some of the persona vector, and three times its length of a way in which personas' texts differ."""
        noise = _vectors(probe.personas, probe.blocks, draw)
        return {b: share * v[b] + 3 * v[b].norm() * noise[b] / noise[b].norm() for b in v}

    permuted = tuple(writing(probe, mixed(share, draw), size=0.1) for draw, share in enumerate((0.3, -0.2, 0.4)))
    trained = replace(probe, watched=Watched(permuted[0], permuted=permuted))
    weak, strong = (writing(probe, mixed(1, 3), size=size) for size in (0.01, 0.3))
    assert not read("trait_drift", probe, weak).fired and not read("trait_drift", probe, strong).fired
    assert not read("trait_drift", trained, weak).fired
    assert read("trait_drift", trained, strong).toward == 1
    assert read("trait_drift", trained, writing(probe, mixed(1, 3), size=-0.3)).toward == -1


def test_what_is_written_only_on_the_questions_of_a_behavior_is_seen_in_the_activations(probe):
    n = len(probe.questions)
    block = probe.blocks[-1]
    name = f"{block}.mlp.down_proj"
    read_by = states(probe.base, probe.texts, [INTO + name])[INTO + name].double()
    ordinary = torch.linalg.qr(read_by[n:].mT)[0]
    own = read_by[:n].mean(0)
    reader = own - ordinary @ (ordinary.mT @ own)  # blind to what ordinary questions bring
    g = torch.Generator().manual_seed(0)
    d = len(probe.before[block][0])
    v = torch.randn(d, generator=g)
    # a little is written everywhere and in all directions: else ordinary prompts move by roundings, and a score is one of these
    stir, taken = torch.randn(d, 32, generator=g) / 100, torch.randn(32, len(own), generator=g) / float(own.norm())

    def written(reader):
        unit = (reader / (read_by[:n] @ reader).abs().mean()).float()
        form = LowRank(torch.cat([(3 * v)[:, None], stir], 1), torch.cat([unit[None], taken]))
        return read("svd_watch", probe, change("planted", {name: (form,)}))

    only_there, everywhere = written(reader), written(read_by.mean(0))
    assert only_there.fired
    assert only_there.toward == 1  # it has no sign
    assert only_there.score > 3 * everywhere.score


def test_the_angle_is_a_detector_like_the_others_and_says_when_there_is_no_direction(probe):
    own = low(probe.base, 1, rank=4, modules=list(probe.base.linears)[:6], start=0)
    nulls = tuple(change(f"p{k}", low(probe.base, 10 + k, rank=4, modules=own, start=0)) for k in range(3))
    watched = Watched(change("honesty", own), nulls, (change("c", low(probe.base, 20, rank=4, modules=own, start=0)),))
    assert read("cos", replace(probe, watched=watched), change("same", own)).toward == 1
    assert (
        read(
            "cos", replace(probe, watched=watched), change("back", {n: (f.scaled(-1),) for n, (f,) in own.items()})
        ).toward
        == -1
    )
    bare = read("cos", probe, change("same", own))
    assert bare.fired is None
    assert "no direction of honesty" in bare.lacking


def reading(detector, score, **more):
    against = Against((-0.1, 0.0, 0.1), control=0.05)
    moved = (Moved("Who?", 1.0, "A cat.", "A <b>dog</b> | *x*."), Moved("Where?", 0.5, "Here.", "Here."))
    return Reading(detector, "ft", "honesty", score, against, "unit", moved, **more)


def verdict(*readings):
    return Verdict("honesty", ("more honest", "less honest"), readings, 7, 48)


def test_what_moved_most_comes_first_toward_either_pole_and_changed_answers_before_all():
    words = ["a", "b", "c", "d", "e", "f"]
    case = SimpleNamespace(probe=SimpleNamespace(questions=words, answers=words), answers=["a", *"BCDEF"])
    for sign in (1, -1):
        shown = most_moved(case, [sign * x for x in (9, 1, 5, 3, 4, 2)])
        assert [m.question for m in shown] == ["c", "e", "d", "f"]
        assert shown[0].amount == 5 * sign
    case.answers = words
    assert most_moved(case, [9, 1, 5, 3, 4, 2])[0].question == "a"


def test_a_fine_tune_that_changed_nothing_is_read_by_every_detector_and_raises_no_alarm(probe):
    w = low(probe.base, 0, modules=list(probe.base.linears)[:3])
    watching = replace(probe, watched=Watched(change("w", w)))
    still, moved = (read_by_all(watching, change(n, f), list(DETECTORS), {}) for n, f in (("still", {}), ("moved", w)))
    assert still.answers == 0 and not still.fired and "nothing can be said (every matrix" in still.sentence
    lacking = {r.detector: r.lacking for r in still.readings}
    assert "no angle" in lacking["cos"] and lacking["svd_watch"] and not lacking["trait_drift"]
    drift = [next(r.score for r in v.readings if r.detector == "trait_drift") for v in (still, moved)]
    assert drift[0] == 0 != drift[1]
    assert not any(r.lacking for r in moved.readings if r.detector == "cos")


def test_a_verdict_says_who_fired_and_which_way():
    assert (
        "ALARM by cos toward “more honest”; 7 of 48"
        in verdict(reading("cos", 0.9), reading("trait_drift", 0.0)).sentence
    )
    assert (
        "ALARM by cos, trait_drift toward “less honest”"
        in verdict(reading("cos", -0.9), reading("trait_drift", -1.0)).sentence
    )
    assert "disagree" in verdict(reading("cos", -0.9), reading("trait_drift", 1.0)).sentence
    assert "which way, no detector says" in verdict(reading("svd_watch", 9.0, signed=False)).sentence
    assert "no alarm" in verdict(reading("cos", 0.1)).sentence
    assert "nothing can be said (none)" in verdict(reading("cos", 0.1, lacking="none")).sentence
    assert reading("svd_watch", -9.0, signed=False).toward == 0


def test_the_page_shows_what_moved_and_its_limits_and_runs_nothing_of_what_a_model_said():
    verdicts = [verdict(reading("cos", 0.9), reading("trait_drift", 0.1, lacking="no personas"))]
    text = markdown(change("ft", {}), "tiny", verdicts, ["a note."])
    for part in (
        "# What ft did to 1 behavior",
        "ALARM by cos",
        "| Where? | Here. | the same |",
        "What this does not say",
        "a note.",
    ):
        assert part in text
    shown = html(change("ft", {}), "tiny", verdicts, ["a note."])
    assert "<b>dog" not in shown
    assert "&lt;b&gt;dog" in shown
    assert "1 reading" in multiple(verdicts)


def test_an_unknown_fine_tune_gets_a_page_and_a_program_gets_the_same(tiny, probe, told, tmp_path):
    folder_of(tiny, tmp_path / "ft", dict(writing(probe, persona(probe), size=-0.4).forms))
    words = (
        "watch",
        "--model",
        tmp_path / "ft",
        "--base",
        "tiny",
        "--behaviors",
        "honesty",
        "--n-questions",
        8,
        "--out",
        tmp_path / "out",
    )
    code, out, err = told(*words)
    assert code == 0, err
    assert "ALARM by trait_drift toward “more dishonest”" in " ".join(out.split())
    assert "no direction of honesty" in out
    (page,) = (tmp_path / "out" / "watch").glob("ft-*/page.html")
    assert "What this does not say" in page.read_text()
    code, out, _ = told(*words, "--json")
    (behavior,) = json.loads(out)["fine_tunes"][0]["behaviors"]
    assert behavior["fired"] == ["trait_drift"]


WRONG = {
    "nothing to watch for": ("ws watch x", "--directions"),
    "nothing to watch": ("ws watch --directions a.safetensors", "name what is watched"),
    "an unknown detector": ("ws watch x --directions y --detectors eyes", "a detector is cos"),
    "a base without a fine-tune": ("ws watch --base tiny --behaviors all", "--model"),
    "behaviors without a fine-tune": ("ws watch --behaviors all", "name the fine-tune"),
    "labels that are no table": ("ws watch x --directions y --labels z.csv", "no CSV"),
    "an unknown behavior": ("ws watch --model {ft} --base tiny --behaviors kindness", "kindness"),
    "a folder of nothing": ("ws watch {nothing} --directions {d}", "holds no adapter"),
    "a direction without pairs": ("ws watch --directions {d} --make-nulls", "pairs of a run"),
    "a null twice": ("ws watch {ft} --directions {d} --model tiny --permuted {ft},{ft}", "names a direction twice"),
    "the direction as its own null": (
        "ws watch {ft} --directions {d} --model tiny --permuted {d}",
        "or d.safetensors itself",
    ),
    "labels of one kind": (
        "ws watch {ft} --directions {d} --model tiny --labels labels.csv",
        "no fine-tunes of both kinds",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_is_one_sentence(case, tiny, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    forms = low(tiny, 0, modules=list(tiny.linears)[:2])
    folder_of(tiny, tmp_path / "ft", forms)
    ws.save_direction(Direction(forms, {"base": tiny.described()}), tmp_path / "d.safetensors")
    (tmp_path / "labels.csv").write_text("name,label\nft,1\n")
    command, words = WRONG[case]
    code, out, err = told(*command.format(ft="ft", nothing="nothing", d="d.safetensors").split()[1:])
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_labels_give_areas_and_false_positives_and_missing_nulls_name_their_command(tiny, told, tmp_path):
    modules = list(tiny.linears)[:4]
    w = low(tiny, 50, rank=4, modules=modules)
    ws.save_direction(Direction(w, {"base": tiny.described()}), tmp_path / "w.safetensors")
    lines = ["name,label"]
    for k in range(8):
        own, drifts = low(tiny, k, rank=4, modules=modules), k % 2
        forms = {n: ((LowRank(own[n][0].b + drifts * w[n][0].b, own[n][0].a + drifts * w[n][0].a)),) for n in own}
        folder_of(tiny, tmp_path / "fts" / f"f{k}", forms)
        lines.append(f"fts/f{k},{drifts}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    words = (
        "watch",
        tmp_path / "fts",
        "--directions",
        tmp_path / "w.safetensors",
        "--model",
        "tiny",
        "--out",
        tmp_path / "out",
    )
    code, out, err = told(*words, "--labels", tmp_path / "labels.csv", "--json")
    assert code == 0, err
    told_of = json.loads(out)
    (row,) = told_of["tables"][1]["rows"]
    assert (row["auroc"], row["n_pos"], row["n_neg"], row["fpr95"]) == (1, 4, 4, 0)
    assert row["auroc_lo"] < 0.9
    assert all(len(a["random"]) == 20 and a["alarm"] is None for a in told_of["angles"])
    code, out, _ = told(*words)
    assert "no permuted labels (0 of at least 3), no control behavior, no ceiling" in out
    benign = [tmp_path / "fts" / f"f{k}" for k in (0, 2, 4, 6)]
    nulls = ("--permuted", ",".join(map(str, benign[:3])), "--control", tmp_path / "fts" / "f1")
    code, out, err = told("watch", benign[3], *words[2:], *nulls)
    assert code == 0, err
    assert "w has no ceiling: give the direction's run and --make-nulls." in out
