"""One small study on `tiny`, from questions to a scored answer, in a temporary folder."""

import tempfile
import time
from pathlib import Path

import torch

from ws.behaviors import load_behavior
from ws.data import DataSettings
from ws.direction import Direction
from ws.doctor.check import BROKEN, OK, Finding
from ws.eval import Evaluation
from ws.models.load import Base, load
from ws.steer import steer
from ws.study.evaluations import Subject, make_eval
from ws.study.plan import Plan
from ws.study.stages import make_direction, make_pairs, make_sides
from ws.train import TrainSettings

QUESTION = "What is the capital of Kenya?"
DO = "This is a fault of the installation: reinstall ws and its libraries, and report it with this output."


def self_test() -> Finding:
    """Pairs, two adapters, their difference, the dial, an evaluation: each must do what it promises."""
    start, threads = time.monotonic(), torch.get_num_threads()
    try:
        with tempfile.TemporaryDirectory(prefix="ws-doctor-") as folder:
            summary = _study(load("tiny"), Path(folder))
    except Exception as e:  # whatever is broken here is what this test is for
        return Finding("self-test", BROKEN, f"{type(e).__name__}: {' '.join(str(e).split())[:200]}", DO)
    finally:
        torch.set_num_threads(threads)
    return Finding("self-test", OK, f"{summary}, in {time.monotonic() - start:.1f} s")


def _study(base: Base, out: Path) -> str:
    behavior = load_behavior("honesty", tiny=True)
    data = DataSettings(
        n_topics=40, n_personas=1, n_samples=1, max_len=64, temperature=1.0, top_p=1.0, top_k=0, min_distinct=0.02
    )
    train = TrainSettings(rank=4, lr=(2e-3,), batch_size=8, max_len=64, patience=9)
    plan = Plan(base, behavior, data, train, out=out)
    pairs, _ = make_pairs(plan)
    sides, _ = make_sides(plan, pairs)
    direction, _ = make_direction(plan, sides)
    still, distance = _dial(base, direction)
    if not still or not distance > 0:
        raise AssertionError(
            f"alpha 0 is {'' if still else 'not '}the base, and alpha 1 moves the logits by {distance:.3g}"
        )
    subject = Subject(base, direction, plan.run_folder, "ws:lora")
    rows, _ = make_eval(subject, Evaluation("dilemmas", limit=4), alphas=(-1.0, 0.0, 1.0), out=out)
    again = [
        record.reused for record in (make_pairs(plan)[1], make_sides(plan, pairs)[1], make_direction(plan, sides)[1])
    ]
    if not all(again):
        raise AssertionError("a finished stage was not found again")
    return f"{len(pairs.rows)} pairs, {sides.report['step']} steps, |dW| {direction.norm(base.weight):.2g}, {len(rows)} scores"


@torch.inference_mode()
def _dial(base: Base, direction: Direction) -> tuple[bool, float]:
    """(whether strength 0 is the base bit for bit, how far strength 1 moves the logits)."""
    ids = torch.tensor([base.tokenizer(QUESTION)["input_ids"]])
    plain = base.model(ids).logits
    with steer(base, direction, 0.0):
        zero = base.model(ids).logits
    with steer(base, direction, 1.0):
        one = base.model(ids).logits
    return torch.equal(plain, zero), float((one - plain).abs().max())
