"""Does what given pairs teach hold for pairs that somebody else wrote? Trained on ours and tested on theirs, and the reverse.

    python bench/real_outside.py --theirs sycophancy_mimicry.train.json --their-test sycophancy_mimicry.test.json [--rows 240]

Ours are the pairs of `false_premise`; theirs are quotes under a wrong name, answered twice, as the published "sycophancy mimicry"
files hold them. Both are trained on alike (LoRA, 2e-4, two passes) and asked on held-out pairs of each: ours by their own split,
theirs on the first rows of the test file whose quote is in no pair that was learnt, of either. Five random directions of the same norm stand beside.
About twenty-five minutes of one core.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import ws
from ws.direction import Direction
from ws.direction.random import random_like
from ws.eval.pairs import score_pairs
from ws.eval.questions import RunPairs, plain_dial
from ws.methods import as_method
from ws.pairs import Pairs
from ws.stats import change
from ws.train import TrainSettings

LR, EPOCHS = 2e-4, 2.0
AGREES, CORRECTS = 0.0, 1.0


def pairs_of(rows: list[dict], place: Path) -> Pairs:
    """Their rows as pairs: pos goes along with the wrong name, neg corrects it."""
    lines = []
    for r in rows:
        answer = {score: text for text, score in r["responses"].items()}
        texts = {"prompt": r["instruction"], "response_pos": answer[AGREES], "response_neg": answer[CORRECTS]}
        lines.append(json.dumps(texts))
    place.write_text("\n".join(lines))
    return ws.load_pairs(place)


def letters(text: str) -> str:
    """A text without what two people would write otherwise."""
    return "".join(filter(str.isalnum, text.lower()))


def moved(base: ws.Base, direction: Direction, asked: Pairs) -> str:
    """What alpha -1 and +1 do to the log-ratio of pos over neg, nat per token, with intervals over questions."""
    method = as_method(direction)
    scored = score_pairs(
        base, asked, alphas=(-1, 1), dial=plain_dial(base, method, "pairs"), method="ws", allow_template_diff=True
    )
    found = scored.protocol.metrics(scored.rows)["logratio_pairs"]
    ends, down, up = change(found[-1.0], found[1.0]), change(found[0.0], found[-1.0]), change(found[0.0], found[1.0])
    return f"{ends.mean:+.2f} [{ends.ci_lo:+.2f}, {ends.ci_hi:+.2f}] | {down.mean:+.2f}, {up.mean:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theirs", type=Path, required=True)
    parser.add_argument("--their-test", type=Path, required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rows", type=int, default=240)
    parser.add_argument("--asked", type=int, default=30)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    start = time.process_time()
    base = ws.load(options.model, threads=options.threads)
    settings = TrainSettings(adapter="lora", lr=(LR,), epochs=EPOCHS)
    ours = ws.data(base, behavior="false_premise")
    with TemporaryDirectory() as folder:
        learnt = json.loads(options.theirs.read_text())[: options.rows]
        quotes = {letters(r["quote"]) for r in learnt} | {letters(pair.prompt) for pair in ours.rows}
        rest = [
            r
            for r in json.loads(options.their_test.read_text())
            if not any(letters(r["quote"]) in known for known in quotes)
        ]
        theirs = pairs_of(learnt, Path(folder) / "train.jsonl")
        asked = {"theirs": pairs_of(rest[: options.asked], Path(folder) / "test.jsonl")}
    held_out = RunPairs(ours, settings).test
    asked["ours"] = held_out.of(sorted({pair.topic_idx for pair in held_out.rows})[: options.asked])
    print(
        f"{len(rest)} rows of their test file have a quote that is not learnt; {len(asked['theirs'].rows)} are asked, and {len(asked['ours'].rows)} of ours"
    )
    print("| learnt from | asked on | pos likelier than neg, -1 to +1 | change at -1, +1 |\n|---|---|---|---|")
    controls: list[Direction] = []
    for name, pairs in {"ours": ours, "theirs": theirs}.items():
        direction = ws.diff(base, *ws.train(base, pairs, settings))
        for where, few in asked.items():
            print(f"| {name} | {where} | {moved(base, direction, few)} |", flush=True)
        controls = controls or [random_like(direction, draw, base.weight) for draw in range(options.draws)]
    for draw, control in enumerate(controls):
        for where, few in asked.items():
            print(f"| nothing: random {draw} | {where} | {moved(base, control, few)} |", flush=True)
    print(f"\n{time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
