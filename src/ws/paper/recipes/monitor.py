"""4.8, 4.9 and 4.10: fine-tunes on bad advice, seen from directions of other domains. On `tiny` bad advice is false answers."""

from ws.paper.domains import Domain
from ws.paper.misaligned import EmValidate
from ws.paper.monitoring import MonitorCos
from ws.paper.monitoring_curve import MonitorCurve
from ws.paper.recipe import Need
from ws.types import Json

MODEL = "Qwen/Qwen2.5-7B-Instruct"
ADVICE = (
    Domain("medical", "bad_medical", "good_medical"),
    Domain("finance", "bad_finance", "good_finance"),
    Domain("sports", "bad_sports", "good_sports"),
)
FRENCH = Domain("french", "alpaca_french", "alpaca", control=True)
NEEDS = tuple(
    Need(
        name,
        f"{name.replace('_', ' ')} advice, question and answer",
        f"a file of the model organisms for emergent misalignment (Turner et al.), as --data {name}=FILE --opt-in {name}",
        opt_in=True,
        file=name,
    )
    for name in ("bad_medical", "good_medical", "bad_finance", "bad_sports", "good_sports")
) + (
    Need(
        "alpaca_french", "Alpaca with answers in French", "a file, as --data alpaca_french=FILE", file="alpaca_french"
    ),
)
OPTIONS: Json = {
    "rank": 32,
    "lora_alpha": 16.0,
    "batch_size": 8,
    "layers": "all",
    "lr": [1e-5],
    "stop": "none",
    "val_share": 0.05,
}
CURVE: Json = {"checkpoints": 10, "eval_every": 5, "patience": 1_000}
TINY: Json = {"batch_size": 16, "epochs": 3, "stop": "none", **CURVE}
"""One training of each domain serves all three recipes there."""

MONITOR_COS = MonitorCos(
    name="monitor_cos",
    section="4.8",
    figures="Figs 8, 9, 34, 35",
    question="Does a direction of bad advice lie near fine-tunes on bad advice of other kinds?",
    model=MODEL,
    needs=NEEDS,
    domains=(*ADVICE, FRENCH),
    options=OPTIONS,
    twin={"options": TINY, "permuted": 3},
)
MONITOR_CURVE = MonitorCurve(
    name="monitor_curve",
    section="4.9",
    figures="Figs 36, 37",
    question="Do cosines rise before a model that is trained on bad advice misbehaves?",
    model=MODEL,
    needs=NEEDS,
    domains=(*ADVICE, FRENCH),
    options={**OPTIONS, **CURVE},
    evaluation="em",
    twin={"options": TINY, "evaluation": "em@em-phrases/1"},
)
EM_VALIDATE = EmValidate(
    name="em_validate",
    section="4.10",
    figures="Fig 33, Table 6",
    question="How misaligned are the fine-tunes on bad advice, and do they stay coherent?",
    model=MODEL,
    needs=NEEDS[:-1],
    domains=ADVICE,
    options=OPTIONS,
    evaluation="em",
    twin={"options": TINY, "evaluation": "em@em-phrases/1"},
)

RECIPES = {r.name: r for r in (MONITOR_COS, MONITOR_CURVE, EM_VALIDATE)}
