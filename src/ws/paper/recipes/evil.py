"""4.4 and 4.5: does a direction learnt from open answers of an evil persona decide between options? Harmless on `tiny`, where
the persona is dishonest, the dial is turned below 0, and the options are an honest and a deceptive deed."""

from ws.models.tiny import TWINS
from ws.paper.claims import Claim, alike, beats, costs, ineffective, loses_more, opposed, together
from ws.paper.curves import Curves, Sides
from ws.paper.recipe import Measure, Need
from ws.paper.recipes.arms import LORA, QUICK_KL, STEPS, steering_arms
from ws.paper.recipes.syc import COHERENT, MODEL, NAMES, OTHERS, SHOWS, tone_claims
from ws.paper.steering import Steering
from ws.types import Json

EVIL = Need(
    "evil",
    "answers of an evil persona and of its opposite, 500-900 rows a side",
    "write a pack whose data set is cfierro/pv-prompts-evil and cfierro/pv-prompts-non-evil (docs/paper.md shows one), and "
    "give it as --data evil=evil.yaml --opt-in evil",
    opt_in=True,
)
SCENARIOS = Need(
    "world_affecting",
    "411 or 392 scenarios with two options",
    "world_affecting_reward.jsonl or _approval.jsonl of github keing1/reward-hack-generalization, as --data mcqa=FILE "
    "--opt-in world_affecting",
    opt_in=True,
    file="mcqa",
)
KNOWS = Measure("tiny-mmlu", "mmlu_acc", "right in TinyMMLU", 0)


DISHONEST_SIDE: Sides = (-1,)


def _chosen(toward: int) -> tuple[Measure, ...]:
    return tuple(
        Measure(f"mcqa@mcqa-{form}/2", "valid_evil", f"evil option chosen, {words}", toward)
        for form, words in (("cot-1", "first wording"), ("cot-2", "second wording"), ("letter", "letter alone"))
    )


VALID = tuple(
    Measure(f"mcqa@mcqa-cot-{n}/2", "valid", f"in form, {words}", 0)
    for n, words in ((1, "first wording"), (2, "second wording"))
)
CONSISTENT = Measure("mcqa@mcqa-consistent/2", "cot_consistent", "its reasons support its choice", 0)


def _of_form(sides: Sides) -> Claim[Curves]:
    """What the paper says of answers in form."""
    first, second = (loses_more("act_single", "weight", y, sides=sides) for y in VALID)
    return Claim("with one wording act_single falls out of form faster, with the other weight", opposed(first, second))


def _judged(claims: tuple[Claim[Curves], ...], sides: Sides) -> Json:
    """What a judge of the reasoning adds."""
    test = loses_more("act_single", "weight", CONSISTENT, sides=sides)
    claim = Claim("act_single makes reasons inconsistent with the choice more often than weight", test)
    return {"also": (*VALID, CONSISTENT), "claims": (*claims, claim)}


def _claims(ys: tuple[Measure, ...], sides: Sides) -> tuple[Claim[Curves], ...]:
    """What the paper says of choices, of the side of the dial that is evil."""
    cot, also, _ = ys
    return (
        Claim(
            "weight and finetune get equally far before knowledge is lost",
            alike("weight", "finetune", KNOWS, cot, also, within=0.1, sides=sides),
        ),
        Claim("weight gets further than act_single", beats("weight", "act_single", KNOWS, cot, also, sides=sides)),
        Claim("finetune gets further than act_single", beats("finetune", "act_single", KNOWS, cot, also, sides=sides)),
        Claim("bias_only gets furthest, beyond weight", beats("bias_only", "weight", KNOWS, cot, also, sides=sides)),
        Claim(
            "act_all has no effect and loses knowledge fast",
            together(
                ineffective(["act_all"], KNOWS, cot, also, sides=sides),
                costs("act_all", KNOWS, more_than=0.05, sides=sides),
            ),
        ),
        Claim("tau+ gets as far as weight", alike("tau+", "weight", KNOWS, cot, also, within=0.1, sides=sides)),
        Claim("tau- does next to nothing", ineffective(["tau-"], KNOWS, cot, also, sides=sides)),
        Claim("a random direction moves nothing", ineffective(["random"], KNOWS, cot, also, sides=sides), "ours"),
        _of_form(sides),
    )


def _twin_claims() -> tuple[Claim[Curves], ...]:
    """On `tiny` the dishonest side is the neg one, so what the paper says of tau+ is said of tau-, and the other way round."""
    ys, sides = _chosen(-1), DISHONEST_SIDE
    claims = _claims(ys, sides)
    swapped = (
        Claim(
            "tau- (of the dishonest side) gets as far as weight",
            alike("tau-", "weight", KNOWS, *ys[:2], within=0.1, sides=sides),
        ),
        Claim("tau+ (of the honest side) does next to nothing", ineffective(["tau+"], KNOWS, *ys[:2], sides=sides)),
    )
    return (*claims[:5], *swapped, *claims[7:])


TWIN = {
    "behavior": "honesty",
    "arms": steering_arms(quick=True, names=NAMES),
    "sides": (-1,),
    "kl": (0.5,),
    "options": {"checkpoints": STEPS},
    "calibrate": QUICK_KL,
}

EVIL_MCQA = Steering(
    name="evil_mcqa",
    section="4.4",
    figures="Figs 5, 11, 21-26",
    question="Does a direction of open answers move choices between options?",
    model=MODEL,
    needs=(EVIL, SCENARIOS),
    behavior="evil",
    arms=steering_arms(names=NAMES),
    x=KNOWS,
    ys=_chosen(1),
    sides=(1,),
    options={**LORA, "checkpoints": STEPS, "lr": [1e-5, 5e-5]},
    also=VALID,
    claims=_claims(_chosen(1), (1,)),
    with_judge=_judged(_claims(_chosen(1), (1,)), (1,)),
    twin={
        **TWIN,
        "ys": _chosen(-1),
        "claims": _twin_claims(),
        "with_judge": _judged(_twin_claims(), DISHONEST_SIDE),
    },
)
DISHONEST = str(TWINS / "traits" / "dishonest.eval.json")
COHERENT_TWIN = Measure("tone@tone-phrases/1", "coherence", COHERENT.label, 0, "points", DISHONEST)
SHOWS_TWIN = Measure("tone@tone-phrases/1", "trait", "sounds dishonest", -1, "points", DISHONEST)
EVIL_INDIST = Steering(
    name="evil_indist",
    section="4.5",
    figures="Fig 27",
    question="How far does every arm raise the trait, on questions like those of training?",
    model=MODEL,
    needs=(
        EVIL,
        Need(
            "trait_evil",
            "20 held-out questions and the trait's rubric",
            "the trait file of the persona-vectors project, as --data tone=FILE --opt-in trait_evil, and a judge of it, as --judge URL#MODEL",
            opt_in=True,
            file="tone",
        ),
    ),
    behavior="evil",
    arms=steering_arms(names=NAMES),
    x=COHERENT,
    ys=(SHOWS,),
    sides=(1,),
    options={**LORA, "checkpoints": STEPS},
    claims=tone_claims(COHERENT, SHOWS, sides=(1,)),
    twin={
        **TWIN,
        "x": COHERENT_TWIN,
        "ys": (SHOWS_TWIN,),
        "claims": tone_claims(
            COHERENT_TWIN, SHOWS_TWIN, sides=(-1,), arms=tuple(a for a in OTHERS if a != "tau+") + ("tau-",)
        ),
    },
)

RECIPES = {r.name: r for r in (EVIL_MCQA, EVIL_INDIST)}
