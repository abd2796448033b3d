"""What the studies of a sweep say together: seeds that gave one and the same thing are one measurement."""

import json

import numpy as np
from planted import rows_of

from ws.records import checksums, write_json
from ws.results.effects import effects
from ws.results.sentences.sweep import readings


def study(out, seed, rows):
    """A cell of a sweep and what it left: an evaluation folder."""
    folder = out / f"s{seed}"
    folder.mkdir(parents=True)
    rows.assign(seed=seed).to_parquet(folder / "rows.parquet", index=False)
    settings = {"method": "ws:lora", "seed": seed, "limit": None, "protocol": "dd-1f/1"}
    manifest = {"stage": "eval", "key": "k", "settings": settings, "files": checksums(folder), "finished": seed}
    write_json(folder / "manifest.json", manifest)
    study = {"model": "tiny", "behavior": "honesty", "adapter": "lora", "lr": None, "seed": seed}
    return {**study, "intent": {"logratio_honesty": 1}, "evals": [str(folder)]}


def test_seeds_that_gave_the_same_rows_count_once_and_others_apart(tmp_path):
    rng = np.random.default_rng(0)
    ref = rng.normal(size=40)
    one = rows_of(ref, ref + 0.5 + rng.normal(size=40), ref - 0.5)
    other = rows_of(ref, ref + 0.4 + rng.normal(size=40), ref - 0.5)
    found = effects([study(tmp_path, s, rows) for s, rows in enumerate((one, one, other))])
    effect = next(e for e in found if e.metric == "logratio_honesty")
    assert (effect.seeds, effect.repeats, len(effect.over.each)) == ((0, 2), (1,), 2)
    means = [r.loc[r["alpha"] == 1, "y"].mean() - r.loc[r["alpha"] == -1, "y"].mean() for r in (one, other)]
    np.testing.assert_allclose(effect.over.each, means)
    assert json.loads(json.dumps(effect.as_json()["repeats"])) == [1]
    alone = effects([study(tmp_path / "b", s, one) for s in range(3)])
    assert all((len(e.seeds), e.repeats) == (1, (1, 2)) for e in alone)


def test_what_a_sweep_says_is_counted_by_the_rule_of_every_table(tmp_path):
    rng = np.random.default_rng(0)
    ref = rng.normal(size=40)
    up, again, down = (rows_of(ref, ref + k + rng.normal(size=40) / 9, ref - k) for k in (0.5, 0.51, -0.5))
    one_way = [e for e in effects([study(tmp_path, s, r) for s, r in enumerate((up, again))]) if e.sign]
    both = [e for e in effects([study(tmp_path / "b", s, r) for s, r in enumerate((up, down, up))]) if e.sign]
    text = " ".join(readings(one_way, budget=None, unmatched=[]))
    assert "in 1 of 1 row with a claim every seed moves as the behavior wants." in text
    assert "of 1 row with a claim 1 as intended." in text and "2 seeds are few" in text
    text = " ".join(readings(both, budget=None, unmatched=[]))
    assert "in 0 of 1 row" in text and "Do not rely on the others" in text and "1 without a clear effect" in text
    assert "Some seeds of honesty lora gave every number of another seed again, and count once: 2." in text
