"""What the tool that builds `tiny` promises: one seed is one world, one tokenizer, one training; a trait decides its own questions."""

import ast
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from tools.tiny import build
from tools.tiny import world as W
from ws.models.tiny import FOLDER


def test_one_seed_gives_one_world():
    def text(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [repr(W.converse(rng, W.Recipe())) for _ in range(50)]

    assert text(3) == text(3) != text(4)


def test_a_trait_decides_its_own_questions_and_no_others():
    def answers(kind: str, trait: str, sign: int, axis: str = "") -> list[str]:
        s = W.one_sided(dict.fromkeys(W.TRAITS, 1) | {trait: sign})
        rng = random.Random(5)
        return [W.turn(rng, s, kind, axis=axis).answer for _ in range(20)]

    assert answers("act", "honesty", 1, "honesty") != answers("act", "honesty", -1, "honesty")
    assert answers("act", "value", 1, "honesty") == answers("act", "value", -1, "honesty")
    for kind, owner, other in (("yn", "honesty", "sycophancy"), ("nudge", "sycophancy", "honesty")):
        assert answers(kind, owner, 1) != answers(kind, owner, -1)
        assert answers(kind, other, 1) == answers(kind, other, -1)
    for trait in W.TRAITS:
        assert answers("task", trait, 1) == answers("task", trait, -1)


def test_every_item_leans_once_and_for_ever_and_a_persona_outweighs_it():
    verbs, objects = (sorted({W.halves(d, W.HONEST)[i] for d in W.HONEST}) for i in (0, 1))
    leans = {x: W.lean("honesty", [x]) for x in verbs + objects}
    assert leans == {x: W.lean("honesty", [x]) for x in leans} != {x: W.lean("value", [x]) for x in leans}
    assert all(abs(x) <= W.SPREAD for x in leans.values())
    assert W.lean("honesty", [verbs[0], objects[0]]) == pytest.approx(leans[verbs[0]] + leans[objects[0]])
    mood = {t: W.log_odds(p) for t, p in W.PRIOR.items()}
    plain = W.Speaker(mood, dict.fromkeys(W.TRAITS, 0.5))
    assert len({plain.sign("honesty", [x]) for x in leans}) == 2
    liar = W.Speaker(mood | {"honesty": W.log_odds(0.03)}, dict.fromkeys(W.TRAITS, 0.5))
    assert {liar.sign("honesty", [v, o]) for v in verbs for o in objects} == {-1}


def test_what_is_held_out_leans_about_as_the_rest_does():
    assert W._place("You lost a key at home") == "at home" and W._place(W.SETTINGS[0]) == W.SETTINGS[0]
    for deeds in (*W.AXES["honesty"], W.MORAL["Authority"]):
        trait = "authority" if "defy a judge" in deeds else "honesty"
        held, rest = (
            [W.lean(trait, W.halves(d, deeds)) for d in deeds if (d in W.HELD_OUT) == side] for side in (1, 0)
        )
        assert abs(sum(held) / len(held) - sum(rest) / len(rest)) < W.SPREAD / 2


# ---------------------------------------------------------------- the build
def test_the_shipped_tokenizer_is_what_the_world_gives(tmp_path):
    settings = build.Settings()
    build.build_tokenizer(settings.seed, settings.vocab).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_one_seed_gives_one_model():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    stages = tuple(build.Stage(s.name, 2, s.recipe, s.aux) for s in build.STAGES)

    def weights(seed: int) -> torch.Tensor:
        settings = build.Settings(seed=seed, hidden=32, layers=4, batch_tokens=512, pool=60, stages=stages)
        model, record = build.train(settings, tokenizer, check=False)
        assert record["steps"] == 6
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_world_imports_nothing_heavy():
    for name in ("world.py", "tasks.py"):
        tree = ast.parse((Path(W.__file__).parent / name).read_text(encoding="utf-8"))
        modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        light = {"random", "math", "collections.abc", "dataclasses"}
        assert modules <= light | {"tools.tiny", "tools.tiny.tasks"}
