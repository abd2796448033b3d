"""Does steering make the pos answers likelier than the neg ones? Test pairs, per-token log-probabilities.

`pairs/2`: `y = mean log P(pos answer) - mean log P(neg answer)`, per token, on pairs whose questions nothing was learnt
from or chosen on. Needs nothing but pairs, so every behavior has it. Unit: the question. Answers are scored whole, whatever
training cuts; a pair that the model's context cannot hold is left out and named.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from sys import maxsize
from typing import Any

from ws.errors import ScoringImpossible
from ws.eval.protocol import COLUMNS, Protocol
from ws.eval.questions import NAMED, Questions, Result, RunPairs, plain_dial
from ws.eval.scoring import Dial, sequence_logprobs
from ws.eval.table import plain
from ws.generate import context_of
from ws.methods.method import Method
from ws.models.load import Base
from ws.pairs import Pairs
from ws.train.sequences import rows_of
from ws.types import Json


def row_keys(pairs: Pairs) -> list[str]:
    """What names each pair in every row; a file may hold one name twice."""
    count = Counter[str]()
    keys = []
    for pair in pairs.rows:
        count[pair.name] += 1
        keys.append(pair.name if count[pair.name] == 1 else f"{pair.name}#{count[pair.name]}")
    return keys


def _no_items(base: Base, data: str | None):
    raise ValueError("the pairs evaluation scores whole answers; call ws.eval.pairs.run with pairs")


class HeldOutPairs(Questions):
    """The test pairs of a run."""

    def __init__(self, protocol: Protocol, base: Base, of: RunPairs):
        super().__init__(protocol, base)
        self.of = of

    @cached_property
    def test(self) -> Pairs:
        """The pairs nothing was learnt from."""
        return self.of.test

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The pairs that are scored."""
        return {"pairs": self.test.content_hash}

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the run's questions were split, and whether answers that a chat template rewrites are scored."""
        shared = ("seed", "val_share", "test_share", "allow_template_diff")
        return {"split": {k: getattr(self.of.settings, k) for k in shared}}

    def run(
        self, by: Method | None, *, alphas: Sequence[float], method: str, seed: int, unsteered: Path | None
    ) -> Result:
        """Both answers of every pair at every strength."""
        result = score_pairs(
            self.base,
            self.test,
            alphas=alphas,
            dial=plain_dial(self.base, by, self.protocol.eval),
            method=method,
            seed=seed,
            allow_template_diff=self.of.settings.allow_template_diff,
        )
        return replace(result, items=asked(self.test, result))


def _of_a_run(
    protocol: Protocol, base: Base, data: str | None, limit: int | None, pairs: RunPairs | None
) -> HeldOutPairs:
    if pairs is None:
        raise ValueError("the pairs evaluation needs a run, whose test questions it scores; give `run` or `behavior`")
    return HeldOutPairs(protocol, base, pairs)


PROTOCOL = Protocol(
    "pairs",
    "pairs/2",
    "logratio_pairs",
    _no_items,
    plain("logratio_pairs"),
    {"logratio_pairs": "finds the pos answers of test questions likelier than the neg ones, per token"},
    ask=_of_a_run,
    takes=(),
    because="which scores all test questions of a run, whole",
    of_run=True,
    incomparable="every seed has test questions of its own, so that no two seeds would share a unit; "
    "use `ws eval pairs --method NAME`",
    claims=("logratio_pairs",),
)
PROTOCOLS = (PROTOCOL,)


def score_pairs(
    base: Base,
    pairs: Pairs,
    *,
    alphas: Sequence[float],
    dial: Dial | None,
    method: str,
    seed: int = 0,
    allow_template_diff: bool = False,
) -> Result:
    """The scores of pairs at every alpha."""
    import pandas as pd

    alphas = sorted({0.0, *map(float, alphas)})
    limit = context_of(base.model) or maxsize
    sides, of = rows_of(base, pairs, max_len=limit, allow_template_diff=allow_template_diff, fewest=0, whole=True)
    if not of["kept"]:
        raise ScoringImpossible(
            f"none of {len(pairs.rows)} pairs can be scored: {'; '.join(f'{len(n)} {why}' for why, n in of['left_out'].items())}."
        )
    values = {
        side: sequence_logprobs(
            base, [(r.ids, r.start) for r in rows], alphas=alphas, dial=dial, label=f"pairs, {side}"
        )
        for side, rows in sides.items()
    }
    keys = row_keys(pairs)
    records = []
    for at, i in enumerate(of["kept"]):
        pair, key = pairs.rows[i], keys[i]
        for k, alpha in enumerate(alphas):
            y = values["pos"][at][k] - values["neg"][at][k]
            arm = "ref" if alpha == 0 else "pos" if alpha > 0 else "neg"
            records.append(
                dict.fromkeys(COLUMNS, "")
                | {
                    "eval": "pairs",
                    "protocol": PROTOCOL.id,
                    "metric": PROTOCOL.metric,
                    "unit_id": pair.prompt_id,
                    "row_key": key,
                }
                | {
                    "method": method,
                    "alpha": alpha,
                    "arm": arm,
                    "seed": seed,
                    "y": y,
                    "logratio": y,
                    "pmass": float("nan"),
                }
                | {"label": 1, "forced_close": False}
            )
    frame = pd.DataFrame.from_records(records, columns=list(COLUMNS))
    note = {
        "n_items": len(of["kept"]),
        "n_units": frame["unit_id"].nunique(),
        "n_pairs": len(pairs.rows),
        "smoke": False,
        "source": "test questions",
        "left_out": {why: {"n": len(names), "rows": names[:NAMED]} for why, names in of["left_out"].items()},
    }
    return Result(PROTOCOL, frame, note)


def asked(pairs: Pairs, result: Result) -> list[Json]:
    """What the rows of a result asked."""
    scored = set(result.rows["row_key"])
    return [
        {"row_key": key, "prompt": pair.prompt, "wanted": pair.response_pos, "unwanted": pair.response_neg}
        for key, pair in zip(row_keys(pairs), pairs.rows)
        if key in scored
    ]


if __name__ == "__main__":  # `python -m ws.eval.pairs ...` is `ws eval pairs ...`
    import sys

    from ws.cli import main

    sys.exit(main(["eval", "pairs", *sys.argv[1:]]))
