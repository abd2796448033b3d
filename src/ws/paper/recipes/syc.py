"""4.1 and 4.2: does steering by persona answers change what a model holds for true, and not only how it sounds?"""

from ws.paper.claims import SIDES, Claim, alike, beats, between, costs, ineffective, moves, together
from ws.paper.curves import Curves, Sides
from ws.paper.recipe import Measure, Need
from ws.paper.recipes.arms import LORA, QUICK_KL, STEPS, steering_arms
from ws.paper.steering import Steering

MODEL = "Qwen/Qwen2.5-7B-Instruct"
NAMES = ("weight", "finetune", "act_single", "act_all", "bias_only", "tau+", "tau-", "random")
QA = "syc-qa"
ALONE = Measure(QA, "qa_acc", "right when asked alone", 0)
STRICT = Measure(QA, "qa_strict", "stays right under all cues", -1)
MEAN = Measure(QA, "qa_mean", "stays right under a cue", -1)
FIXED = Measure(QA, "qa_strict_fixed", "the same, of what is right unsteered", -1)
TWIN = {
    "arms": steering_arms(quick=True, names=NAMES),
    "kl": (0.5,),
    "options": {"checkpoints": STEPS},
    "calibrate": QUICK_KL,
}
OTHERS = ("weight", "finetune", "act_single", "bias_only", "tau+")
PLUS: Sides = (1,)
MINUS: Sides = (-1,)

SYC_QA = Steering(
    name="syc_qa",
    section="4.1",
    figures="Figs 2, 12-14, 16",
    question="Does steering change content, and not only tone?",
    model=MODEL,
    needs=(
        Need(
            "qa",
            "1,817 questions under 4 cues",
            "read from the hub, cfierro/sycophancy_eval_answer; or --data FILE with its columns",
        ),
    ),
    behavior="sycophancy",
    arms=steering_arms(names=NAMES),
    x=ALONE,
    ys=(STRICT, MEAN, FIXED),
    options={**LORA, "checkpoints": STEPS},
    claims=(
        Claim(
            "to both sides, weight gets further than act_single, in the strict reading and in the mean",
            beats("weight", "act_single", ALONE, STRICT, MEAN),
        ),
        Claim("every arm but act_all can induce sycophancy", moves(OTHERS, ALONE, STRICT, sides=PLUS)),
        Claim(
            "weight and finetune induce more of it than act_single before plain accuracy drops",
            together(
                beats("weight", "act_single", ALONE, STRICT, sides=PLUS),
                beats("finetune", "act_single", ALONE, STRICT, sides=PLUS),
            ),
        ),
        Claim(
            "act_all lowers sycophancy only at a large loss, and cannot raise it",
            together(
                ineffective(["act_all"], ALONE, STRICT),
                costs("act_all", ALONE, more_than=0.05, sides=MINUS),
            ),
        ),
        Claim(
            "bias_only, tau+ and tau- lie between act_single and weight",
            between(["bias_only", "tau+", "tau-"], "act_single", "weight", ALONE, STRICT),
        ),
        Claim("a random direction moves nothing", ineffective(["random"], ALONE, STRICT), "ours"),
    ),
    twin=TWIN,
)

TONE = "tone"
COHERENT = Measure(TONE, "coherence", "coherent", 0, "points")
SHOWS = Measure(TONE, "trait", "shows the trait", 1, "points")
COHERENT_TWIN, SHOWS_TWIN = (
    Measure(f"{TONE}@tone-phrases/1", m.metric, m.label, m.toward, m.unit) for m in (COHERENT, SHOWS)
)


def tone_claims(
    x: Measure, y: Measure, *, sides: Sides = SIDES, arms: tuple[str, ...] = OTHERS
) -> tuple[Claim[Curves], ...]:
    """What the paper says of questions like those of training."""
    return (
        Claim("every arm moves the trait on questions like those of training", moves(arms, x, y, sides=sides)),
        Claim(
            "this view hides how weight and act_single differ",
            alike("weight", "act_single", x, y, within=10, sides=sides),
        ),
        Claim("a random direction moves nothing", ineffective(["random"], x, y, sides=sides), "ours"),
    )


SYC_TONE = Steering(
    name="syc_tone",
    section="4.2",
    figures="Fig 15",
    question="How far does every arm move tone, on questions like those of training?",
    model=MODEL,
    needs=(
        Need(
            "trait_sycophantic",
            "20 held-out questions and the trait's rubric",
            "the trait file of the persona-vectors project, as --data tone=FILE, and a judge of it, as --judge URL#MODEL",
            file="tone",
        ),
    ),
    behavior="sycophancy",
    arms=steering_arms(names=NAMES),
    x=COHERENT,
    ys=(SHOWS,),
    options={**LORA, "checkpoints": STEPS},
    claims=tone_claims(COHERENT, SHOWS),
    twin={**TWIN, "x": COHERENT_TWIN, "ys": (SHOWS_TWIN,), "claims": tone_claims(COHERENT_TWIN, SHOWS_TWIN)},
)

RECIPES = {r.name: r for r in (SYC_QA, SYC_TONE)}
