"""Does steering make the pos answers likelier than the neg ones? Held-out pairs, per-token log-probabilities.

`pairs/1`: `y = mean log P(pos answer) - mean log P(neg answer)`, per token, on pairs whose questions training never saw.
Needs nothing but pairs, so every behavior has it. Unit: the question.
"""

from collections.abc import Sequence

from ws.eval.protocol import COLUMNS, Protocol, Result, plain
from ws.eval.scoring import Dial, sequence_logprobs
from ws.models.load import Base
from ws.pairs import Pair, Pairs
from ws.sequences import rows_of


def row_key(pair: Pair) -> str:
    """What names a pair in every row."""
    return f"{pair.prompt_id}/{pair.persona_idx}/{pair.sample_idx}"


def _no_items(base: Base, data: str | None):
    raise ValueError("the pairs evaluation scores whole answers; call ws.eval.pairs.run with pairs")


LEGEND = {"logratio_pairs": "finds the pos answers of held-out pairs likelier than the neg ones, per token"}
PROTOCOL = Protocol("pairs", "pairs/1", "logratio_pairs", _no_items, plain("logratio_pairs"), LEGEND)
PROTOCOLS = (PROTOCOL,)


def run(
    base: Base,
    pairs: Pairs,
    *,
    alphas: Sequence[float],
    dial: Dial | None,
    method: str,
    seed: int = 0,
    max_len: int = 512,
    allow_template_diff: bool = False,
) -> Result:
    """Score held-out pairs at every alpha."""
    import pandas as pd

    alphas = sorted({0.0, *map(float, alphas)})
    sides, told = rows_of(base, pairs, max_len=max_len, allow_template_diff=allow_template_diff, fewest=0)
    values = {
        side: sequence_logprobs(
            base, [(r.ids, r.start) for r in rows], alphas=alphas, dial=dial, label=f"pairs, {side}"
        )
        for side, rows in sides.items()
    }
    records = []
    for at, i in enumerate(told["kept"]):
        pair = pairs.rows[i]
        for k, alpha in enumerate(alphas):
            y = values["pos"][at][k] - values["neg"][at][k]
            arm = "ref" if alpha == 0 else "pos" if alpha > 0 else "neg"
            key = row_key(pair)
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
    return Result(PROTOCOL, frame, {"n_items": len(told["kept"])})


if __name__ == "__main__":  # `python -m ws.eval.pairs ...` is `ws eval pairs ...`
    import sys

    from ws.cli import main

    sys.exit(main(["eval", "pairs", *sys.argv[1:]]))
