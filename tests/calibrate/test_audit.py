"""The check on other prompts: it shows that a strength is on its budget, or says that it could not."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from ws.calibrate import CalibrateSettings, calibrate, divergences
from ws.calibrate.prompts import PromptSets, how_many
from ws.calibrate.search import Ending
from ws.methods.activation.method import Activation, Add, block_name
from ws.presets import preset
from ws.results.sentences.calibration import reading

USUAL = CalibrateSettings()
kl = sys.modules["ws.calibrate.kl"]
calibration = sys.modules["ws.calibrate"]


def planted(rng, n: int, *, spread: float = 1.0, of_prompts: float = 0.3, ratio: float = 1.0):
    """A divergence of so many prompts, whose true p95 is `ratio`."""
    whole = np.hypot(spread, of_prompts)
    levels = of_prompts * rng.standard_normal((n, 1)) + spread * rng.standard_normal((n, 40))
    tokens = ratio * np.exp(levels - 1.6449 * whole)
    return kl.divergence_of(1.0, [tuple(row) for row in tokens.tolist()])


def side(audit, settings=USUAL):
    sets = PromptSets(("Why?",), ("How?",))
    found = planted(np.random.default_rng(9), 20)
    return calibration._side(settings, sets, 1.0, 1.0, Ending("ok", 1.0, 1.0, ((1.0, 1.0),)), [], found, audit)


def test_a_strength_is_matched_only_where_enough_other_prompts_show_that_it_is_on_the_budget():
    rng = np.random.default_rng(0)
    few, many, off = planted(rng, 8, spread=2.0), planted(rng, 500), planted(rng, 500, ratio=1.4)
    assert side(many).verdict == "matched" and side(off).verdict == "unmatched (audit)"
    unsure = side(replace(few, p95=1.02))
    assert unsure.verdict == "unmatched (few prompts)" and unsure.audit_hi / unsure.audit_lo > 1.25**2
    for audit in (many, few):
        assert (side(audit).audit_lo, side(audit).audit_hi) == audit.interval(level=0.9)
        assert side(audit).audit_lo > audit.interval()[0]


def test_the_published_check_takes_the_number_as_it_is():
    published = CalibrateSettings(**preset("pub", "calibrate"))
    assert (published.audit, published.within, published.n_calib, published.n_audit) == ("point", 1.5, 50, 100)
    few = planted(np.random.default_rng(0), 20)
    for p95, matched in ((1.02, True), (1.49, True), (1.51, False), (0.67, True), (0.66, False)):
        assert side(replace(few, p95=p95), published).matched is matched


def test_a_strength_a_quarter_off_passes_in_about_one_of_twenty_and_one_on_the_budget_nearly_always():
    rng = np.random.default_rng(1)
    passed = {1.0: 0, 1.25: 0, 0.75: 0}
    for _ in range(80):
        audit = planted(rng, 60, spread=0.5, of_prompts=0.1)
        low, high = audit.interval(level=0.9)
        for ratio in passed:
            passed[ratio] += ratio * low >= 0.8 and ratio * high <= 1.25
    assert passed[1.0] >= 76 and 1 <= passed[1.25] <= 11 and passed[0.75] == 0


def test_prompts_are_drawn_again_within_their_kind_and_the_interval_is_as_wide_as_the_truth():
    rng = np.random.default_rng(2)
    kinds = ["a", "b", "c"] * 12

    def drawn():
        levels = np.array([{"a": -4.0, "b": -4.0, "c": 0.0}[k] for k in kinds])[:, None]
        tokens = np.exp(levels + 0.4 * rng.standard_normal((36, 1)) + 0.8 * rng.standard_normal((36, 12)))
        return kl.divergence_of(1.0, [tuple(row) for row in tokens.tolist()])

    samples = [drawn() for _ in range(50)]
    truth = np.std([np.log(d.p95) for d in samples])

    def width(which):
        return np.mean([np.log(high / low) for low, high in (d.interval(which) for d in samples)]) / (2 * 1.96)

    assert width(kinds) == pytest.approx(truth, rel=0.25)
    assert width([]) > 1.2 * width(kinds)  # as if the kinds themselves were drawn
    alone = [*kinds[:-1], "a kind of its own"]
    assert samples[0].interval(alone) == samples[0].interval()


def test_a_resample_is_the_quantile_of_the_tokens_that_were_drawn():
    rng = np.random.default_rng(3)
    ordered = np.sort(rng.lognormal(size=50))
    for _ in range(20):
        counts = rng.integers(0, 4, size=50)
        assert kl._quantile(ordered, counts) == pytest.approx(np.quantile(np.repeat(ordered, counts), 0.95))
    counts = kl.resampled(["a"] * 5 + ["b"] * 7, rng)
    assert set(counts[:, :5].sum(1)) == {4} and set(counts[:, 5:].sum(1)) == {6}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"n_calib": 24, "n_audit": 48}, "Try --n-calib 48 --n-audit 96."),
        ({"n_calib": 50, "n_audit": 60}, "Try --n-calib 50 --n-audit 100."),
        ({}, "All 50 + 100 prompts are in use: try a smaller one than --budget 1, or claim less with --within 1.5."),
    ],
)
def test_where_other_prompts_do_not_agree_it_is_said_what_to_type(flags, words):
    rng = np.random.default_rng(0)
    for audit, why in (
        (replace(planted(rng, 20), p95=1.02), "does not lie within"),
        (planted(rng, 500, ratio=1.4), "off"),
    ):
        said = reading(side(audit), CalibrateSettings(**flags), how_many(tiny=False))
        assert said.endswith(words) and why in said


def test_settings_of_the_check_that_mean_nothing_are_refused():
    for bad in ({"within": 1.0}, {"audit": "loose"}, {"n_audit": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            CalibrateSettings(**bad)


def test_few_prompts_lead_to_the_target_and_all_of_them_decide(tiny, monkeypatch):
    g = np.random.default_rng(0).standard_normal(128)
    import torch

    vector = torch.tensor(40 * g / np.linalg.norm(g), dtype=torch.float32)
    method = Activation("sl:planted", {block_name(tiny, 3): Add(vector)}, provenance={"base": tiny.described()})
    settings = CalibrateSettings(budget=0.5, n_calib=40, n_audit=7, tokens=6, thoughts="off")
    asked, measure = [], divergences

    def spy(base, method, prompts, alphas, **how):
        asked.append((len(prompts), len(alphas)))
        return measure(base, method, prompts, alphas, **how)

    monkeypatch.setattr(calibration, "divergences", spy)
    found = calibrate(tiny, method, settings=settings)
    assert {n for n, _ in asked} == {2, 10, 40, 7}
    for one in (found.neg, found.pos):
        assert one.status == "ok" and abs(one.p95 / 0.5 - 1) <= 0.05
        assert (one.alpha, one.p95) in one.history and len(one.history) <= 4
    on_a_quarter = [k for n, k in asked if n == 10]
    assert on_a_quarter[0] == 6 and len(on_a_quarter) <= calibration.ROUGH_ROUNDS  # three strengths of each sign
