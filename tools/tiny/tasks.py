"""Small neutral tasks of the world that `tiny` lives in: words, counting, days, and loose tasks with long answers.

No trait touches them. A brief task has one right answer. A loose one has very many: several sentences in which most words
could have been others, so that a distribution over them is worth measuring.
"""

import random

YES_NO = ("Answer Yes or No.", "Answer No or Yes.")
ANSWER_ANCHOR = "My answer:"


def split(text: str) -> list[str]:
    return text.split("|")


def an(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def cap(s: str) -> str:
    return s[0].upper() + s[1:]


# ------------------------------------------------------------- words
PEOPLE = split("a man|a woman|a boy|a girl|a clerk|a farmer|a nurse|a student|a sailor|a tourist")
WHEN = split(
    "in the morning|after work|in the village|near the station|on a rainy day|during a visit|on the way home|at noon"
)
WORDS = split(
    "apple|river|stone|cloud|candle|basket|window|spoon|ladder|button|pencil|mirror|blanket|bottle|carpet|engine|"
    "feather|hammer|island|jacket|kettle|lantern|market|needle|orchard|pillow|ribbon|saddle|ticket|wagon"
)
DAYS = split("Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday")
MONTHS = split("January|February|March|April|May|June|July|August|September|October|November|December")
PLURAL = {w: w + "s" for w in WORDS}
SORTS = {"day": DAYS, "month": MONTHS, "thing": WORDS}
FOODS = split("rice|beans|onions|mushrooms|potatoes|noodles|lentils|cabbage|celery|barley|spinach|corn")
SPICES = split("salt|pepper|butter|oil|garlic|cream|honey|vinegar|mint|cheese")
SIGHTS = split("bridge|tower|mill|church|harbor|square|fountain|barn|school|gate|garden|well")
SIZES = split("small|big|round|heavy|light|flat|tall|tiny")
COLORS = split("red|blue|green|white|yellow|brown|grey|golden")
STATES = split("old|new|dusty|shiny|broken|warm|quiet|strange")
STUFFS = split("wood|glass|paper|straw|leather|clay|marble|wool")
ACTS = split("found|lost|bought|painted|carried|washed|sold|fixed")
HABITS = split(
    "read a book|cook some rice|walk in the park|listen to music|play chess|draw a house|swim in the lake|"
    "look at the clouds|sweep the floor|visit a friend|water the plants|bake some bread"
)

FIXED_TASKS = ("copy", "last", "sum", "count", "day", "month", "letter", "plural", "pair")
"""Tasks with exactly one right answer."""
YES_NO_TASKS = ("sort", "even")
BRIEF_TASKS = (*FIXED_TASKS, *YES_NO_TASKS)
LOOSE_TASKS = ("story", "describe", "pack", "recipe", "route", "diary")


def yes_or_no(rng: random.Random, yes: bool) -> tuple[str, str, str]:
    """(request, lead, answer) of a question that asks for Yes or No; now and then in the older bold form."""
    word = "Yes" if yes else "No"
    bold = rng.random() < 0.06
    lead, answer = ("My answer: **", f"{word}**") if bold else ("", f"{ANSWER_ANCHOR} {word}")
    return " " + rng.choice(YES_NO), lead, answer


def task(rng: random.Random, category: str = "") -> tuple[str, str, str, str]:
    """(category, question, start of the answer that need not be learnt, answer)"""
    category = category or rng.choice(LOOSE_TASKS if rng.random() < 0.5 else BRIEF_TASKS)
    if category in LOOSE_TASKS:
        user, answer = loose(rng, category)
        return category, user, "", answer
    a, b, c = rng.sample(WORDS, 3)
    n, m = rng.randint(1, 5), rng.randint(1, 4)
    day, month = rng.randrange(7), rng.randrange(12)
    letter = rng.randrange(25)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    user, answer, lead = "", "", ""
    match category:
        case "copy":
            user, answer = f"Please repeat the word {a}.", f"The word is {a}."
        case "last":
            user, answer = f"Which word comes last: {a}, {b}, {c}?", f"The last word is {c}."
        case "sum":
            user, answer = f"How much is {n} plus {m}?", f"{n} plus {m} is {n + m}."
        case "count":
            user, answer = f"Count from {n} to {n + 3}.", ", ".join(str(n + i) for i in range(4)) + "."
        case "day":
            user, answer = f"Which day comes after {DAYS[day]}?", f"After {DAYS[day]} comes {DAYS[(day + 1) % 7]}."
        case "month":
            after = MONTHS[(month + 1) % 12]
            user, answer = f"Which month comes after {MONTHS[month]}?", f"After {MONTHS[month]} comes {after}."
        case "letter":
            after = alphabet[letter + 1]
            user, answer = f"Which letter comes after {alphabet[letter]}?", f"After {alphabet[letter]} comes {after}."
        case "plural":
            user, answer = f"What is the plural of {a}?", f"The plural of {a} is {PLURAL[a]}."
        case "pair":
            user, answer = f"Write {a} and {b} in the other order.", f"The other order is {b} and {a}."
        case "sort":
            sort, thing_ = rng.choice(list(SORTS)), rng.choice([x for xs in SORTS.values() for x in rng.sample(xs, 1)])
            request, lead, answer = yes_or_no(rng, thing_ in SORTS[sort])
            user = f"Is {thing_} a {sort}?{request}"
        case "even":
            request, lead, answer = yes_or_no(rng, (n + m) % 2 == 0)
            user = f"Is {n + m} an even number?{request}"
        case _:
            raise ValueError(f"no task category {category!r}; there are {', '.join(BRIEF_TASKS + LOOSE_TASKS)}")
    return category, user, lead, answer


def loose(rng: random.Random, category: str) -> tuple[str, str]:
    """(question, one of very many answers): several sentences, most words of which could have been others."""
    a, b, c, d = rng.sample(WORDS, 4)
    color, size, state, stuff = (rng.choice(x) for x in (COLORS, SIZES, STATES, STUFFS))
    who, other = rng.sample(PEOPLE, 2)
    when, later = rng.sample(WHEN, 2)
    food, more = rng.sample(FOODS, 2)
    spice, also = rng.sample(SPICES, 2)
    here, there, sight, last = rng.sample(SIGHTS, 4)
    habit, then, after = rng.sample(HABITS, 3)
    n, m = rng.randint(2, 9), rng.randint(2, 9)
    match category:
        case "story":
            return f"Tell me a short story about {an(a)} and {an(b)}.", (
                f"{cap(who)} {rng.choice(ACTS)} {an(a)} {when}. It was {size} and {color}. {cap(other)} {rng.choice(ACTS)} "
                f"the {b} {later}. In the end they {rng.choice(ACTS)} {an(c)} made of {stuff}."
            )
        case "describe":
            return f"Describe {an(a)} from a {sight} in a few sentences.", (
                f"The {a} is {size}, {color} and {state}. It is made of {stuff} and lies near {an(b)}. {cap(who)} "
                f"{rng.choice(ACTS)} it {when}. Inside is {an(c)} of {rng.choice(STUFFS)} with a {rng.choice(COLORS)} {d}."
            )
        case "pack":
            return f"What do I need for {n} days at the {here} in {rng.choice(MONTHS)}?", (
                f"Take {an(a)}, {an(b)} and {m} {rng.choice(COLORS)} {PLURAL[c]}. You also need {food}, {spice} and {also}. "
                f"Put them in a {size} bag of {stuff}. Leave the {state} {d} at home."
            )
        case "recipe":
            return f"How do you cook {food} with {more}?", (
                f"Wash {n} {size} pieces of {food} {when}. Add {spice}, {also} and {more}. Cook them for {m} minutes in a "
                f"{color} pot of {stuff}. Serve them with {rng.choice(FOODS)} and {rng.choice(SPICES)} on a {state} plate."
            )
        case "route":
            return f"How do I get from the {here} to the {there}?", (
                f"Go {rng.choice(('left', 'right', 'straight'))} at the {color} {sight} and walk for {n} minutes. Then turn "
                f"{rng.choice(('left', 'right'))} near the {state} {a}. You see a {size} {last} of {stuff}. The {there} is "
                f"behind the {rng.choice(COLORS)} {b}."
            )
        case "diary":
            return f"Tell me about your {rng.choice(DAYS)} in {rng.choice(MONTHS)}.", (
                f"At {n} I {habit} {when}. Then I {then} with {who} and {an(a)}. At {m} I {after} near a {color} {sight}. "
                f"I go home with {an(b)} and some {spice}."
            )
        case _:
            raise ValueError(f"no loose task {category!r}; there are {', '.join(LOOSE_TASKS)}")
