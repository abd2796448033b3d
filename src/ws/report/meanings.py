"""What the columns of tables mean, for who rests on their names."""

import re
from collections.abc import Mapping

from ws.results.sheet import Sheet

MEANINGS: tuple[tuple[str, str], ...] = (
    ("protocol", "How the questions were asked and scored; numbers of two protocols are never put together."),
    ("metric", "What is measured. What a larger number means stands below the table."),
    ("alpha", "The strength: how far along the direction the weights were moved. 0 is the base, bit for bit."),
    ("mean", "The mean over rows at this strength."),
    (
        r"95% interval|95 % CI.*",
        "Where the number lies in 19 of 20 samples of units like these: questions, claims or dilemmas are drawn again.",
    ),
    (
        r"pmass( .*)?|mass",
        "The probability on the answers that are scored. Near 1 they are what the model wants to say.",
    ),
    (r"n|units", "How many units the number rests on. Below 30 an interval is too narrow."),
    (r"adapter|[Mm]ethod", "What steers: the family of the adapter, or the method by its name."),
    ("behavior", "The behavior that the pairs show."),
    ("model", "The model that was steered."),
    ("lr", "The learning rate of the training."),
    ("α=0|base", "The model without steering."),
    (
        r"(delta|Δ) (α=.*|−|\+|vs base)",
        "The change against the model without steering, over the rows that were scored at both strengths.",
    ),
    (r"Δ .*", "The change of this metric at the upper strength, against the model without steering."),
    ("a: shift", "How far an undecided item moves: the behavior itself."),
    ("b: sharpening", "Above 1 the model got surer of what it said before. That alone is no change of behavior."),
    (
        r"forced.*",
        "The share of thoughts that the budget of tokens ended. Above a half, the budget decides the result.",
    ),
    (r"C|C − / \+", "The strengths: below 0 and above."),
    (
        r"kl|kl − / \+",
        "How far these strengths move the model: 95th percentile over tokens of KL(steered || base), in nats.",
    ),
    (r"audit.*", "The same KL on other prompts. Where it is off, the strength is not matched."),
    (
        r"SI_k2|Bidirectional SI",
        "Surgical informedness: 100 fixes all that was wrong and breaks nothing; what breaks counts twice.",
    ),
    (r"SI_k1.*", "Surgical informedness in which what breaks counts once: 0 is what changes at random give."),
    (r"SI_best.*", "The best sign and arm, chosen after the fact: an upper end and no result."),
    (r"SI(_k2)? null", "What this score would be if as many rows changed at random."),
    ("p", "How often arms swapped at random give as much."),
    (r"one arm.*", "The same with the upper strength alone."),
    ("fix_rate", "Of the rows that were wrong at 0, the share that is right at the upper strength."),
    ("broke_rate", "Of the rows that were right at 0, the share that is wrong at the upper strength."),
    ("flip", "Of the rows that were right at 0, the share that is wrong at the lower strength."),
    ("counter", "Of the rows that were wrong at 0, the share that is right at the lower strength."),
    ("wrong/right", "How many rows were wrong at 0, and how many right."),
    (r"sign \(cal\)", "Which way the metric goes on units kept apart for that: as intended, reversed, or open."),
    ("mean_lr|.*logratio", "log P(one answer) less log P(the other), at the upper strength."),
    ("shift vs base", "Its change against the model without steering."),
    ("order_bias", "How far an answer is preferred for the place where it stands."),
    (
        "cue",
        "🟢 a large axis the wanted way, its interval clear of 0; 🟡 small or unsure; 🔴 neither; ⚪ of another strength, or nothing is claimed.",
    ),
    (r"axis( \[.*\])?", "Half the difference between both arms: what both do alike, as plain damage, cancels."),
    (r"axis − .*", "The axis less that of the reference, over the same rows."),
    ("outside random", "Whether the axis lies outside the range of random directions that act in the same places."),
    ("seeds|by seed", "The number of each seed: another sample of pairs and another training."),
    ("sd|spread", "How much seeds differ among themselves: the standard deviation."),
    ("same sign", "How many seeds have the sign that most have."),
    (
        "as wanted",
        "How many seeds move the way the behavior wants. In brackets where it claims nothing: how many agree.",
    ),
    ("change", "The change from the lowest to the highest strength, with its 95 % interval over seeds and units."),
    (r"nll rise.*", "How much worse answers to neutral questions are predicted, in nats per token. Near 0 is good."),
    (r"choice right.*", "The change of the share of plain questions answered rightly. Near 0 is good."),
    (r"loops.*", "The change of the share of free answers that repeat themselves. Near 0 is good."),
    (
        r"rel|adj|off|.*_(rel|adj|off)",
        "The axis set against the other foundations, adjusted for them, or theirs alone.",
    ),
    ("common", "What all foundations move alike: everything is judged more or less strictly."),
    ("wrongness.*", "How wrong the model finds what is told."),
    ("bool_mass", "The probability on true or false, of the frame that has less. Below 0.9 a cell is not scored."),
    ("frame_agreement", "How far both frames say the same. Near 0 the answers are about the words true and false."),
    ("gap", "Others' doings against one's own."),
    (
        r"(Care|Sanc|Auth|Loy|Fair|Lib|SocN).*",
        "The change of this moral foundation: mean and standard deviation over cells.",
    ),
    ("source", "The model without steering."),
    (r"alpha_(pos|neg)", "The strength that was found, above 0 and below."),
    (r"p95_(pos|neg)", "The KL that was aimed at, as it was reached: the 95th percentile over tokens."),
    ("max", "The largest KL of a token."),
    ("n_eval", "How many strengths were tried."),
    ("status", "How the search ended: ok, or why it did not reach the budget."),
    ("verdict", "What it comes to: matched or not; of a check, ok, warn or fail."),
    ("check", "The check by its name, by which it can be overruled."),
    ("value", "The number that the verdict is about; of the worse side where both have one."),
    ("pos|neg", "The same of one side alone."),
    ("is", "What the number is."),
    ("what mends it", "What to change where the verdict is not ok."),
    ("effect", "The change from the lower to the upper strength, above 0 where it is the way the behavior wants."),
    ("cost", "The rise of the loss on neutral text at the worse end, nats per token. Near 0 is good."),
    ("seed", "What was drawn with: pairs and training."),
    ("date", "When it was measured."),
    ("by", "The evaluation that the effect is of."),
    ("run", "The folder of the study, by which other commands find it."),
    ("state", "How far it came."),
)
"""A pattern for the names of columns, and what they mean; the first that fits."""


def meaning(column: str) -> str | None:
    """What a column means, by its name."""
    return next((text for pattern, text in MEANINGS if re.fullmatch(pattern, column)), None)


def meanings(sheet: Sheet) -> Mapping[str, str]:
    """The same for all columns of a table."""
    return {c: text for c in sheet.columns if (text := meaning(c)) is not None}
