"""Two small tasks for `ws paper lora_vs_full` where a model is too small for school maths: sums in English, and answers in French.

    python bench/added.py --out sums
    ws paper lora_vs_full --model smollm2 --data gsm8k_chat=sums/maths.jsonl,alpaca_french=sums/french.jsonl,gsm8k=sums/test.jsonl

| file           | holds                                                                                   |
|----------------|-----------------------------------------------------------------------------------------|
| `maths.jsonl`  | stories of one step with their sum, in the layout of `gsm8k_chat`                        |
| `test.jsonl`   | others, of numbers that are not learnt from together, in the layout of `gsm8k`           |
| `french.jsonl` | short questions in English, answered in French, in the layout of `alpaca_french`         |

Everything is made by rule; a row is decided by its number alone.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

NAMES = ("Tom", "Ana", "Lena", "Omar", "Mia", "Sam", "Nora", "Paul")
THINGS = ("apples", "books", "coins", "stamps", "pencils", "cards", "shells", "buttons")
STORIES = (
    ("{n} has {a} {t} and buys {b} more. How many {t} does {n} have now?", "{n} has {a} + {b} = {r} {t}.", 1),
    ("{n} had {a} {t} and gave away {b} of them. How many {t} are left?", "{a} - {b} = {r} {t} are left.", -1),
    ("There are {a} {t} in one box and {b} {t} in another. How many {t} are there in both?", "There are {a} + {b} = {r} {t} in both.", 1),
    ("{n} collected {a} {t} and lost {b}. How many {t} does {n} still have?", "{n} still has {a} - {b} = {r} {t}.", -1),
)  # fmt: skip
SMALLEST, LARGEST = 3, 29
HELD = 5
"""Of so many sums one is kept for the test."""

CAPITALS = {"France": ("de la France", "Paris"), "Italy": ("de l'Italie", "Rome"), "Spain": ("de l'Espagne", "Madrid"), "Germany": ("de l'Allemagne", "Berlin"), "Portugal": ("du Portugal", "Lisbonne"), "Greece": ("de la Grèce", "Athènes"), "Egypt": ("de l'Égypte", "Le Caire"), "Japan": ("du Japon", "Tokyo"), "China": ("de la Chine", "Pékin"), "Russia": ("de la Russie", "Moscou"), "Norway": ("de la Norvège", "Oslo"), "Poland": ("de la Pologne", "Varsovie"), "Austria": ("de l'Autriche", "Vienne"), "Ireland": ("de l'Irlande", "Dublin"), "Canada": ("du Canada", "Ottawa"), "Cuba": ("de Cuba", "La Havane")}  # fmt: skip
COLORS = {"a banana": "Une banane est jaune.", "snow": "La neige est blanche.", "grass": "L'herbe est verte.", "the sky": "Le ciel est bleu.", "coal": "Le charbon est noir.", "a carrot": "Une carotte est orange.", "a tomato": "Une tomate est rouge.", "chocolate": "Le chocolat est brun.", "milk": "Le lait est blanc.", "a lemon": "Un citron est jaune.", "an elephant": "Un éléphant est gris.", "a frog": "Une grenouille est verte.", "a strawberry": "Une fraise est rouge.", "salt": "Le sel est blanc."}  # fmt: skip
OPPOSITES = {"hot": ("chaud", "froid"), "big": ("grand", "petit"), "old": ("vieux", "jeune"), "rich": ("riche", "pauvre"), "heavy": ("lourd", "léger"), "fast": ("rapide", "lent"), "long": ("long", "court"), "full": ("plein", "vide"), "open": ("ouvert", "fermé"), "strong": ("fort", "faible"), "happy": ("heureux", "triste"), "clean": ("propre", "sale"), "easy": ("facile", "difficile"), "true": ("vrai", "faux"), "high": ("haut", "bas"), "early": ("tôt", "tard")}  # fmt: skip
TRADES = {"a baker": "Un boulanger fait du pain.", "a painter": "Un peintre fait des tableaux.", "a tailor": "Un tailleur fait des vêtements.", "a cobbler": "Un cordonnier répare des chaussures.", "a farmer": "Un fermier cultive des champs.", "a teacher": "Un professeur donne des cours à ses élèves.", "a doctor": "Un médecin soigne les malades.", "a cook": "Un cuisinier prépare les repas.", "a writer": "Un écrivain fait des livres.", "a gardener": "Un jardinier plante des fleurs.", "a singer": "Un chanteur chante des chansons.", "a driver": "Un chauffeur conduit une voiture."}  # fmt: skip
LEGS = {"a spider": "Une araignée a huit pattes.", "a dog": "Un chien a quatre pattes.", "a bird": "Un oiseau a deux pattes.", "an ant": "Une fourmi a six pattes.", "a snake": "Un serpent n'a pas de pattes.", "a horse": "Un cheval a quatre jambes.", "a bee": "Une abeille a six pattes.", "a hen": "Une poule a deux pattes."}  # fmt: skip
DAYS = (("Monday", "lundi"), ("Tuesday", "mardi"), ("Wednesday", "mercredi"), ("Thursday", "jeudi"), ("Friday", "vendredi"), ("Saturday", "samedi"), ("Sunday", "dimanche"))  # fmt: skip
MONTHS = (("January", "janvier"), ("February", "février"), ("March", "mars"), ("April", "avril"), ("May", "mai"), ("June", "juin"), ("July", "juillet"), ("August", "août"), ("September", "septembre"), ("October", "octobre"), ("November", "novembre"), ("December", "décembre"))  # fmt: skip


def stories(*, test: bool) -> list[tuple[str, str, int]]:
    """(question, answer, result) of every sum that is learnt from, or of those that are not."""
    rng = random.Random("sums")
    sums = [(a, b, k) for a in range(SMALLEST, LARGEST + 1) for b in range(SMALLEST, a) for k in range(len(STORIES))]
    rng.shuffle(sums)
    held = {frozenset((a, b)) for a, b, _ in sums if (7 * a + 3 * b) % HELD == 0}
    rows = []
    for a, b, k in sums:
        question, answer, sign = STORIES[k]
        words = {"a": a, "b": b, "r": a + sign * b, "n": rng.choice(NAMES), "t": rng.choice(THINGS)}
        if (frozenset((a, b)) in held) == test:
            rows.append((question.format(**words), answer.format(**words), words["r"]))
    return rows


def in_french() -> list[tuple[str, str]]:
    """Questions in English with answers in French, in a fixed order that mixes their forms."""
    rows = [(f"What is the capital of {c}?", f"La capitale {of} est {city}.") for c, (of, city) in CAPITALS.items()]
    rows += [(f"What color is {thing}?", answer) for thing, answer in COLORS.items()]
    rows += [(f"What is the opposite of {w}?", f"Le contraire de {a} est {b}.") for w, (a, b) in OPPOSITES.items()]
    rows += [(f"What does {trade} do?", answer) for trade, answer in TRADES.items()]
    rows += [(f"How many legs does {animal} have?", answer) for animal, answer in LEGS.items()]
    for what, the, names in (("day", "Le jour", DAYS), ("month", "Le mois", MONTHS)):
        for (one, un), (two, deux) in zip(names, names[1:] + names[:1]):
            rows.append((f"Which {what} comes after {one}?", f"{the} qui vient après {un} est {deux}."))
            rows.append((f"Which {what} comes before {two}?", f"{the} qui vient avant {deux} est {un}."))
    random.Random("french").shuffle(rows)
    return rows


def written(path: Path, rows: Sequence[dict]) -> None:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    print(f"{path}  {len(rows)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    chats = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a, _ in stories(test=False)]
    written(out / "maths.jsonl", [{"messages": chat} for chat in chats])
    written(out / "test.jsonl", [{"question": q, "answer": f"{a}\n#### {r}"} for q, a, r in stories(test=True)])
    written(out / "french.jsonl", [{"instruction": q, "input": "", "output": a} for q, a in in_french()])


if __name__ == "__main__":
    main()
