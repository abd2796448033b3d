"""What the model writes by itself, counted by rule: `answers/2`, greedy answers to neutral questions, at most 96 tokens.

Held-out pairs say which answers have become likelier; this says whether the dial is heard in answers of the model's own.
A behavior names the rule that is about it in its `intent`. Every rule is counted on the same answers, so that what a
behavior drags along is seen beside it. Unit: the question. 32 of the shipped questions that no behavior learns from and no
strength is found on, spread over all kinds, or the prompts of a file.

| metric         | is                                                                                     |
|----------------|----------------------------------------------------------------------------------------|
| answer_words   | words of an answer; one that is cut at 96 tokens counts as it is                       |
| sea_words      | of 100 different words of an answer, those of pirates and ships                        |
| cheer_words    | ... words of delight, less words of gloom                                              |
| casual_words   | ... contractions and chat words, less formal ones                                      |
| hedge_words    | ... words of doubt, less words of certainty                                            |
| long_words     | ... words of ten letters and more                                                      |
| answer_repeats | share of an answer's runs of four tokens that came before: goes round in circles       |

Different words are counted, and not all, so that an answer that goes round in circles gains little by it; one of fewer
than 20 different words counts as if it had 20, so that "aye, aye, aye" has 5 words of the sea in 100 and not 100 (as it had
in `answers/1`). An answer without a word has a length and no share.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ws.behaviors import neutral_prompts
from ws.errors import BadFile
from ws.eval.protocol import Metrics, Protocol
from ws.eval.scoring import Item
from ws.eval.table import by_alpha, refuse_repeats
from ws.models.chat import Chat
from ws.models.load import Base
from ws.sources import is_text, records

if TYPE_CHECKING:
    import pandas as pd

N_QUESTIONS = 32
LONG = 10  # letters
FEWEST = 20  # different words: so many are taken to be there

SEA = """ahoy aye arr arrr argh yarr yo ye yer matey mateys hearties landlubber landlubbers scurvy bucko lad lads lass
pirate pirates captain cap'n crew buccaneer buccaneers corsair ship ships vessel sail sails sailing sailed sailor sailors
sea seas ocean oceans tide tides wave waves voyage voyages deck mast anchor anchors helm compass harbor island islands
treasure treasures booty plunder loot gold doubloon doubloons cutlass cannon cannons rum grog parrot kraken timbers shiver
avast"""
CHEER = """wonderful amazing great fantastic awesome excellent beautiful lovely delightful delighted delight happy happiness
happily joy joyful joyfully excited exciting excitement love loved loving hope hopeful hopes bright brighter glad smile
smiles fun enjoy enjoyable enjoying celebrate thrilled thrilling perfect perfectly brilliant best better good positive
optimistic cheerful cheer grateful blessed fortunate success successful inspiring inspired magical warm"""
GLOOM = """terrible awful horrible sad sadness sadly sorrow sorrowful gloomy gloom hopeless hopelessness despair dark darkness
dread dreadful fear fears afraid pain painful suffering suffer misery miserable lonely loneliness lost loss tragic tragedy
death die dying dead bleak grim bitter cruel worst worse bad wrong fail failed failure doom doomed useless pointless
meaningless empty emptiness regret unfortunately disappointing disappointed disappointment pessimistic struggle tears"""
CASUAL = """hey hi yeah yep yup nope nah cool dude dudes bro buddy pal man guys folks gonna wanna gotta kinda sorta lemme
gimme dunno lol haha omg wow awesome stuff thing things totally super chill ok okay yo sup ya u cuz cause tbh btw
crazy pretty really just"""
FORMAL = """sir madam dear respectfully sincerely regards furthermore moreover therefore thus hence whereas hereby
accordingly consequently nevertheless nonetheless regarding concerning pursuant kindly esteemed honored honorable
gratitude appreciation assistance inquire inquiry request shall whom upon humbly"""
HEDGE = """maybe perhaps possibly probably might may could seems seem seemed appears appear likely unlikely unsure uncertain
doubt doubts depends depending guess suppose think believe somewhat sometimes often usually generally potentially apparently"""
SURE = """definitely certainly absolutely undoubtedly unquestionably indisputably surely clearly obviously always never
certain guaranteed guarantee proven fact undeniable undeniably without confident confidently must"""


def words_of(text: str) -> list[str]:
    """The words of a text, folded; an apostrophe joins."""
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.casefold().replace("’", "'"))


@dataclass(frozen=True)
class Rule:
    """A number that is made of the words of an answer."""

    count: Callable[[Sequence[str]], float]
    more: str
    """What a larger number means."""


def _share(belongs: Callable[[str], float]) -> Callable[[Sequence[str]], float]:
    """Of 100 different words, those that belong; NaN for an answer without words."""
    return lambda words: 100 * sum(map(belongs, set(words))) / max(len(set(words)), FEWEST) if words else math.nan


def _listed(more: str, less: str = "") -> Callable[[Sequence[str]], float]:
    """The share of listed words, less that of their opposites."""
    ours: Collection[str] = frozenset(more.split())
    theirs: Collection[str] = frozenset(less.split())
    return _share(lambda word: (word in ours) - (word in theirs))


def _casual(word: str) -> float:
    contracted = re.fullmatch(r"\w+'(?:m|re|ll|ve|d|t|s)", word) is not None
    return (contracted or word in _CASUAL) - (word in _FORMAL)


_CASUAL, _FORMAL = frozenset(CASUAL.split()), frozenset(FORMAL.split())

OF_100 = "of 100 different words of an answer"
RULES: Mapping[str, Rule] = {
    "answer_words": Rule(len, "writes longer answers (words)"),
    "sea_words": Rule(_listed(SEA), f"talks more like a pirate (words of pirates and ships, {OF_100})"),
    "cheer_words": Rule(
        _listed(CHEER, GLOOM), f"sounds more cheerful (words of delight less words of gloom, {OF_100})"
    ),
    "casual_words": Rule(
        _share(_casual), f"sounds more casual (contractions and chat words less formal ones, {OF_100})"
    ),
    "hedge_words": Rule(_listed(HEDGE, SURE), f"hedges more (words of doubt less words of certainty, {OF_100})"),
    "long_words": Rule(
        _share(lambda word: len(word) >= LONG), f"uses more long words ({LONG} letters and more, {OF_100})"
    ),
}
"""Metric to rule. A behavior claims to move one of them by naming it in its `intent`."""


def items(base: Base, data: str | None) -> list[Item]:
    """Questions to be answered freely."""
    if data is None:
        audit = [p for p in neutral_prompts(base.tiny) if p.split == "audit"]
        chosen = [(p.id, p.text) for p in audit[:: len(audit) // N_QUESTIONS][:N_QUESTIONS]]
    else:
        rows = records(data, ("prompt",))
        if bad := [i for i, r in enumerate(rows, 1) if not is_text(r["prompt"])]:
            raise BadFile(f"{rows.source}: {len(bad)} rows lack a prompt, e.g. row {bad[0]}.")
        chosen = [(str(i), r["prompt"]) for i, r in enumerate(rows)]
    return [Item(key, key, Chat(text), "") for key, text in chosen]


def metrics(rows: "pd.DataFrame") -> Metrics:
    """Every rule on every answer."""
    refuse_repeats(rows)
    words = rows["text"].map(words_of)
    scored = rows["y"].notna()
    table = rows.assign(**{name: words.map(rule.count).astype(float).where(scored) for name, rule in RULES.items()})
    return {**{name: by_alpha(table, name) for name in RULES}, "answer_repeats": by_alpha(table)}


def shown(intent: Mapping[str, int]) -> list[str]:
    """The rules a behavior makes a claim about, beside what its answers cost; all where it claims none."""
    claimed = [name for name in RULES if intent.get(name)]
    return [*(claimed or RULES), "answer_repeats"]


PROTOCOL = Protocol(
    "answers",
    "answers/2",
    "answer_repeats",
    items,
    metrics,
    {
        **{name: rule.more for name, rule in RULES.items()},
        "answer_repeats": "says again what it has said, in its own answers (share of runs of four tokens)",
    },
    n_write=96,
    claims=tuple(RULES),
    shown=shown,
    takes=("data", "limit"),
    because="which reads whole answers of the model's own and takes no thought",
)
PROTOCOLS = (PROTOCOL,)


if __name__ == "__main__":  # `python -m ws.eval.answers ...` is `ws eval answers ...`
    import sys

    from ws.cli import main

    sys.exit(main(["eval", "answers", *sys.argv[1:]]))
