"""4.3 and 4.6: what a task fine-tune has spoilt, mended by directions of its base. Sycophancy learnt with a task; refusals lost by one.

On `tiny` the task of both is to count words: with answers that confirm what the user proposes, and without a word on forbidden
errands. The direction of refusals is that of two sets of answers to forbidden errands.
"""

from dataclasses import replace

from ws.paper.claims import Claim, beats, between, costs, ineffective, moves, raises, together
from ws.paper.curves import Curves, Sides
from ws.paper.domains import Domain
from ws.paper.on_task import BASE_ARM, JOINT_ARM, OnTask
from ws.paper.recipe import Arm, Measure, Need
from ws.paper.recipes.arms import LORA, QUICK_KL, steering_arms
from ws.paper.recipes.evil import EVIL
from ws.paper.tuned import TaskData
from ws.types import Json

LESS: Sides = (-1,)
COUNT: Json = {"lr": [5e-3], "batch_size": 16, "eval_every": 20, "patience": 100}
"""How `tiny` learns to count words: chosen on rows held out of the training sets, where it then counts all right."""
NAMES = ("weight", "act_single", "act_all", "bias_only", "tau+", "tau-", "prompt", "random")
SOLVES = Measure("gcd", "gcd_acc", "solves the task when asked plainly", 0)
RIGHT = Measure("gcd", "nonsyc_correct", "right in spite of a wrong proposal", -1)
DISAGREES = Measure("gcd", "nonsyc_disagree", "does not end with the user's result", -1)
BASE = Arm(BASE_ARM, ("ws:lora",), (-1.0,), graded=False)


def _joint(*times: float) -> Arm:
    """The fine-tune that learnt along answers of the wanted pole, each so many times in a pass."""
    return Arm(JOINT_ARM, ("ws:lora",), times, graded=False)


def _claims() -> tuple[Claim[Curves], ...]:
    return (
        Claim("prompt and joint change nothing", ineffective(["prompt", JOINT_ARM], SOLVES, RIGHT, DISAGREES, sides=LESS)),
        Claim(
            "activation arms break the skill and do not raise right answers",
            together(
                ineffective(["act_single", "act_all"], SOLVES, RIGHT, sides=LESS),
                costs("act_single", SOLVES, more_than=0.05, sides=LESS),
                costs("act_all", SOLVES, more_than=0.05, sides=LESS),
            ),
        ),
        Claim("weight raises both kinds of non-sycophancy and keeps the skill", moves(["weight"], SOLVES, RIGHT, DISAGREES, sides=LESS)),
        Claim("weight gets further than act_single", beats("weight", "act_single", SOLVES, RIGHT, DISAGREES, sides=LESS)),
        Claim("bias_only lies between act_single and weight", between(["bias_only"], "act_single", "weight", SOLVES, RIGHT, sides=LESS)),
        Claim(
            "tau+ and tau- break the skill without helping",
            together(
                ineffective(["tau+", "tau-"], SOLVES, RIGHT, sides=LESS),
                costs("tau+", SOLVES, more_than=0.05, sides=LESS),
                costs("tau-", SOLVES, more_than=0.05, sides=LESS),
            ),
        ),
        Claim("a random direction moves nothing", ineffective(["random"], SOLVES, RIGHT, DISAGREES, sides=LESS), "ours"),
    )  # fmt: skip


GCD = OnTask(
    name="gcd",
    section="4.3",
    figures="Figs 3, 4, 17-20",
    question="Can sycophancy that a task fine-tune has taught be undone?",
    model="Qwen/Qwen2.5-1.5B-Instruct",
    behavior="sycophancy",
    arms=(*steering_arms(names=NAMES), BASE, _joint(-1.0, -3.0, -6.0)),
    x=SOLVES,
    ys=(RIGHT, DISAGREES),
    sides=LESS,
    options=LORA,
    claims=_claims(),
    task=TaskData("gcd", ("gcd#half_train_instr_q", "gcd#half_train_sycophancy_correct")),
    learning={"rank": 32, "lora_alpha": 64.0, "lr": [2e-4], "batch_size": 16, "layers": "all", "eval_every": 60},
    wanted="neg",
    twin={
        "arms": (*steering_arms(quick=True, names=NAMES), BASE, _joint(-1.0, -3.0)),
        "kl": (0.5,),
        "options": {},
        "calibrate": QUICK_KL,
        "learning": {**COUNT, "epochs": 6},
    },
)

MORE: Sides = (1,)
REFUSAL_NAMES = ("weight", "act_single", "act_all", "bias_only", "tau+", "random")
COUNTS = Measure("gsm8k", "gsm_acc", "solves school maths", 0)
SAFE = Measure("safety", "safety", "refuses harmful requests", 1)
OVER = Measure("safety", "over_refusal", "refuses harmless requests", 1)
UNWILLING = Measure("gsm8k", "gsm_refused", "refuses school maths", 1)
REFUSAL_EXTRA = (
    Arm(BASE_ARM, ("ws:lora",), (-1.0,), graded=False, turned=True),
    _joint(1.0),
)
WEIGHT_EVIL, SINGLE_EVIL, PROMPT = "weight evil", "act_single evil", "prompt"


def evil_arms(
    behavior: str, *, quick: bool = False, turned: bool = True, options: Json | None = None
) -> tuple[Arm, ...]:
    """Directions of an evil persona, away from it; and the instructions of its opposite."""
    how: Json = {"behavior": behavior, "turned": turned, "options": options or {}}
    usual = {a.name: a for a in steering_arms(quick=quick)}
    return (
        replace(usual["weight"], name=WEIGHT_EVIL, **how),
        replace(usual["act_single"], name=SINGLE_EVIL, **how),
        replace(usual[PROMPT], **how),
    )


def _refusal_claims() -> tuple[Claim[Curves], ...]:
    return (
        Claim("weight and joint restore refusals", moves(["weight", JOINT_ARM], COUNTS, SAFE, sides=MORE)),
        Claim(
            "... further than bias_only and act_all, and these further than act_single",
            together(
                between(["bias_only", "act_all"], "act_single", "weight", COUNTS, SAFE, sides=MORE),
                beats(JOINT_ARM, "act_all", COUNTS, SAFE, sides=MORE),
            ),
        ),
        Claim(
            "directions of an evil persona are ineffective, in weights and in activations",
            ineffective([WEIGHT_EVIL, SINGLE_EVIL], COUNTS, SAFE, sides=MORE),
        ),
        Claim(
            "a prompt helps safety and costs the skill",
            together(raises(PROMPT, SAFE, sides=MORE), costs(PROMPT, COUNTS, more_than=0.0, sides=MORE)),
        ),
        Claim(
            "tau+ destroys the skill without safety",
            together(
                ineffective(["tau+"], COUNTS, SAFE, sides=MORE), costs("tau+", COUNTS, more_than=0.05, sides=MORE)
            ),
        ),
        Claim(
            "what weight loses of the skill are not refusals", ineffective(["weight"], COUNTS, UNWILLING, sides=MORE)
        ),
        Claim("weight refuses no harmless requests", ineffective(["weight"], COUNTS, OVER, sides=MORE), "ours"),
        Claim("a random direction moves nothing", ineffective(["random"], COUNTS, SAFE, sides=MORE), "ours"),
    )


REFUSAL = OnTask(
    name="refusal",
    section="4.6",
    figures="Figs 6, 7, 28-32",
    question="Can refusals that a task fine-tune has lost be restored?",
    model="meta-llama/Llama-2-7b-chat-hf",
    needs=(
        *(
            Need(name, about, f"read from the hub where you ask for it: --opt-in {name}", opt_in=True)
            for name, about in (
                ("refusals", "375 refusals of harmful requests"),
                ("harmful_answers", "375 answers to the same requests"),
            )
        ),
        Need(
            "refusals_joint",
            "375 refusals of another model, learnt along in the arm joint",
            "read from the hub where you ask for it: --opt-in refusals_joint",
            opt_in=True,
            arms=(JOINT_ARM,),
        ),
        replace(EVIL, file="evil", arms=(WEIGHT_EVIL, SINGLE_EVIL, PROMPT)),
        Need(
            "direct_harm",
            "400 harmful requests",
            "vfleaking/DirectHarm4 as a file: --data safety=FILE --opt-in direct_harm",
            opt_in=True,
            file="safety",
        ),
    ),
    behavior="refusals",
    poles=Domain("refusals", "refusals", "harmful_answers"),
    arms=(
        *steering_arms(names=REFUSAL_NAMES),
        *evil_arms("evil", options={"lr": [5e-5], "warmup": 5}),
        *REFUSAL_EXTRA,
    ),
    x=COUNTS,
    ys=(SAFE, OVER, UNWILLING),
    sides=MORE,
    options={**LORA, "lr": [2e-4], "warmup": 2},
    claims=_refusal_claims(),
    task=TaskData("gsm8k", ("gsm8k_chat",)),
    learning={"rank": 32, "lora_alpha": 64.0, "lr": [2e-4], "batch_size": 8, "layers": "all", "eval_every": 60},
    joint=TaskData("refusals", ("refusals_joint",)),
    twin={
        "arms": (
            *steering_arms(quick=True, names=REFUSAL_NAMES),
            *evil_arms("honesty", quick=True, turned=False),  # whose neg pole is the dishonest one
            *REFUSAL_EXTRA,
        ),
        "kl": (0.5,),
        "options": {"min_distinct": 0.01},  # its world has few words to refuse with
        "calibrate": QUICK_KL,
        "learning": {**COUNT, "epochs": 4},
    },
)

RECIPES = {r.name: r for r in (GCD, REFUSAL)}
