"""Training against one written by hand from its description: one row at a time, one side after the other."""

import dataclasses

import pytest
import torch
from test_train import PAIRS, quick, rate

from ws.adapters import FAMILIES
from ws.diff import diff
from ws.pairs import Pairs
from ws.steer import steer
from ws.train import TrainSettings, train
from ws.train.sequences import rows_of

UNEVEN = Pairs(
    tuple(
        dataclasses.replace(
            r,
            prompt=" ".join([r.prompt] * (1 + i % 3)),
            response_pos=" ".join([r.response_pos] * (1 + i % 2)),
            response_neg=" ".join([r.response_neg] * (1 + (i == 2))),
            ended_neg=i != 1,
        )
        for i, r in enumerate(PAIRS.rows)
    )
)
"""Prompts of unequal length and answers of unequal length, one of which has no end."""


def parts(pairs, settings):
    """Positions of the pairs that are trained on, and of those the step is chosen on."""
    of = settings.parts(pairs.topics)
    return tuple([i for i, r in enumerate(pairs.rows) if r.topic_idx in part] for part in (of.train, of.val))


def summed_loss(base, row):
    """Cross-entropy of the answer's tokens and its end, the row read alone by the model as it stands."""
    logits = base.model(torch.tensor([row.ids])).logits[0, row.start - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[row.start :]), reduction="sum")


def by_hand(base, rows, inside, outside, settings, factors):
    """Biases of one side as they are trained: (training loss, validation loss, biases) at the start and after each interval."""
    layers = {n: x.module for n, x in base.linears.items() if n.endswith("mlp.down_proj")}
    shifts = {n: torch.zeros(m.out_features, requires_grad=True) for n, m in layers.items()}
    hooks = [m.register_forward_hook(lambda _, args, y, v=shifts[n]: y + v) for n, m in layers.items()]
    optimizer = torch.optim.AdamW(shifts.values(), lr=1.0, weight_decay=settings.weight_decay)

    def mean(chosen):
        return sum(summed_loss(base, rows[i]) for i in chosen) / sum(len(rows[i].ids) - rows[i].start for i in chosen)

    def state(losses):
        with torch.no_grad():
            return sum(losses) / max(1, len(losses)), float(mean(outside)), {n: v.clone() for n, v in shifts.items()}

    history, losses = [state([])], []
    for step, factor in enumerate(factors, 1):
        optimizer.zero_grad()
        loss = mean(inside)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(shifts.values(), 1.0)
        optimizer.param_groups[0]["lr"] = settings.lr[0] * factor
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % settings.eval_every == 0:
            history.append(state(losses))
            losses = []
    for hook in hooks:
        hook.remove()
    return history


def test_a_training_is_the_one_written_by_hand_and_ends_at_the_step_with_the_lowest_mean_of_both_validation_losses(
    tiny,
):
    settings = TrainSettings(
        "bias", lr=(6.0,), epochs=8, warmup=2, eval_every=2, patience=9, val_share=0.25, max_len=64, weight_decay=0.1
    )
    inside, outside = parts(UNEVEN, settings)
    settings = dataclasses.replace(settings, batch_size=len(inside))  # each step reads all of them
    unlike = "The color of snow is white."  # what neg learns from the others spoils this in the end
    pairs = Pairs(
        tuple(dataclasses.replace(r, response_neg=unlike) if i in outside else r for i, r in enumerate(UNEVEN.rows))
    )
    rows, _ = rows_of(tiny, pairs, max_len=64, fewest=0)
    factors = [1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    wanted = {s: by_hand(tiny, rows[s], inside, outside, settings, factors) for s in ("pos", "neg")}
    sides = train(tiny, pairs, settings)
    history = sides.report["tried"][0]["history"]
    for side, of in wanted.items():
        assert [h[f"val_{side}"] for h in history] == pytest.approx([val for _, val, _ in of], rel=1e-3)
        assert [h[f"train_{side}"] for h in history[1:]] == pytest.approx([loss for loss, _, _ in of[1:]], rel=1e-3)
    val = {s: [v for _, v, _ in of] for s, of in wanted.items()}
    mean = [p + n for p, n in zip(val["pos"], val["neg"])]
    best = mean.index(min(mean))
    assert best not in (0, len(mean) - 1, val["pos"].index(min(val["pos"])))  # or this would not tell them apart
    assert sides.report["step"] == history[best]["step"]
    for side, of in wanted.items():
        for name, v in of[best][2].items():
            found = getattr(sides, side).tensors[f"{name}.bias"]
            assert (found - v).norm() <= 1e-2 * v.norm(), (side, name)


def test_another_seed_trains_on_the_same_pairs_in_another_order(tiny):
    several = Pairs(tuple(dataclasses.replace(r, sample_idx=i) for i in range(3) for r in PAIRS.rows[:4]))
    settings = quick("bias", epochs=1, batch_size=1, lr=(1e-2,), warmup=0, eval_every=99, stop="none")
    found = {}
    for seed in range(30):
        at = dataclasses.replace(settings, seed=seed)
        found.setdefault(str(parts(several, at)), []).append(at)
    one, other, *_ = max(found.values(), key=len)
    first, again, second = (train(tiny, several, s).pos.tensors for s in (one, one, other))
    assert all(torch.equal(t, again[k]) for k, t in first.items())
    assert not all(torch.equal(t, second[k]) for k, t in first.items())


def toward_pos(base):
    """How much likelier than the neg answers the pos ones are, per token, to the model as it stands."""
    rows, _ = rows_of(base, PAIRS, max_len=64)
    with torch.no_grad():
        of = {s: sum(summed_loss(base, r) for r in rows[s]) / sum(len(r.ids) - r.start for r in rows[s]) for s in rows}
    return float(of["neg"] - of["pos"])


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_direction_of_every_family_makes_what_pos_was_trained_on_likelier_and_its_negative_less_so(tiny, name):
    d = diff(tiny, *train(tiny, PAIRS, quick(name, lr=rate(name))))
    found = []
    for alpha in (-1.0, 0.0, 1.0):
        with steer(tiny, d, alpha):
            found.append(toward_pos(tiny))
    assert found == sorted(set(found))
