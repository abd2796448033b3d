"""Whether a text is French or English: by the small words that every sentence has, and by runs of letters where it has none.

    french("Le mot est long.")         True
    french("The word is long.")        False
    french("12")                       False: not known, and so not French

No model and no library: a text of either language of a few words holds some of its most frequent ones. It knows no third
language, and says so of none.
"""

import re

from ws.judge import Case, Rule

FRENCH_WORDS = """merci bonjour voilà le la les l un une des du de d et est sont était sera ce cette ces cet c je j tu il elle on nous vous ils
elles que qu qui quoi dans pour par avec sans sur sous mais ou où donc car ne n pas plus très bien si mon ma mes ton ta tes
son sa ses notre nos votre vos leur leurs au aux en y à être avoir a ont fait faire peut comme tout tous toute toutes même
aussi puis alors quand combien après avant chaque entre deux trois quatre cinq six sept huit neuf dix reste réponse oui non
voici mot mots s m t lui moi chez ainsi jour jours fois font vient donne"""
ENGLISH_WORDS = """six thank much sure the a an of and is are was were will be been this that these those i you he she it we they what which who
whom in for by with without on under but or so because not no yes more very well if my your his her its our their to from
at as do does did have has had can could would should there then when how after before each between two three four five
seven eight nine ten left answer here word words day days times makes comes gives all some any also just than them him us me
into out about up down over again"""
FRENCH_RUNS = """que ent ion ais ait eur eux oir our ous ans onn ell ett ill ien ier aux eau oui iqu qui uit ais ont ez_ _qu
_dé _à_ es_ ée_ és_ _je _un _l' _d' _c' _n' _j' _s' ç é è ê à ù â î ô û"""
ENGLISH_RUNS = """the ing and tha his her ere ght igh ould wh_ _wh _th th_ ed_ ly_ ck_ sh_ ow_ _kn oo ee_ ay_ y_ _be _wi wit
n't 're 'll k_ _w ll_ nd_ ng_"""


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORDS = _listed(FRENCH_WORDS), _listed(ENGLISH_WORDS)
RUNS = _listed(FRENCH_RUNS), _listed(ENGLISH_RUNS)
JOINED = r"[^\W\d_']+(?:'[^\W\d_']+)*"
FEW = 3
"""Small words below which runs of letters decide too."""


def french(text: str) -> bool:
    """Whether a text reads as French rather than English; False where neither is seen."""
    plain = text.casefold().replace("’", "'")
    words = re.findall(r"[^\W\d_]+", plain)
    shared = WORDS[0] & WORDS[1]
    counts: list[float] = [sum(w in known and w not in shared for w in words) for known in WORDS]
    if sum(counts) < FEW:
        letters = f"_{'_'.join(re.findall(JOINED, plain))}_"
        counts = [n + sum(letters.count(run) for run in known) / 2 for n, known in zip(counts, RUNS)]
    return counts[0] > counts[1]


def _french(case: Case) -> tuple[float, str]:
    is_french = any(p in case.answer for p in case.gold) if case.gold else french(case.answer)
    return (1.0, "FRENCH") if is_french else (0.0, "NOT FRENCH")


FRENCH = Rule("french", _french)
"""Whether an answer is in French, by the rule above; a case that names phrases asks for one of these instead."""
