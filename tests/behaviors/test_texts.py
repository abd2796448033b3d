"""Rules for the texts shipped with `ws`: the question pool, the claims and the behavior packs."""

import json
import re
import unicodedata
from collections import Counter
from itertools import chain, combinations
from pathlib import Path

import pytest
import yaml

from ws.behaviors import load_behavior
from ws.errors import BadFile
from ws.eval.answers import RULES, words_of

ROOT = Path(__file__).resolve().parents[2]
BEHAVIORS = ROOT / "src" / "ws" / "behaviors"
VALUES = ["sycophancy", "honesty", "honesty5", "trad_care", "authority"]
STYLES = ["pirate", "brevity", "casual", "technical"]  # ways to write, for real models
PACKS = VALUES + STYLES
SPLITS = {"train": 150, "calib": 50, "audit": 100}
VALUE_CATEGORIES = {"advice", "ethics", "feedback", "account"}  # every prompt gives a value something to act on

# Words that name a persona of a shipped pack, in any form, and their close relatives.
PERSONA_WORDS = re.compile(
    r"""\b(?:
        (?:dis)?honest\w* | (?:un)?tru(?:th\w*|e|er|est|ly|isms?) | falsehoods? | lie[sd]? | lying | liars?
      | decei\w* | decept\w* | (?:in)?sincer\w* | candid\w* | candor | frank(?:ly|ness)? | straightforward\w*
      | mislead\w* | misled | manipulat\w* | tradition\w* | untraditional\w* | sanct\w* | sacre\w* | sacri\w* | holy
      | pur(?:e|er|est|ely|ity|ify|ifies|ified|ist|ists) | impur\w* | rever(?:e|ed|es|ence\w*|ent\w*)
      | compassion\w* | (?:un)?car(?:e|es|ed|ing|eful\w*|eless\w*|er|ers|egiver\w*|etaker\w*)
      | \w+care | harm\w* | unharmed | welfare | gentl[ey]\w* | stern(?:ly|ness)?
      | authorit\w* | (?:un)?authoriz\w* | (?:dis)?obe(?:y|ys|yed|ying|dien\w*) | defy\w* | defi(?:ed|es|an\w*)
      | boss\w* | (?:pre|mis)?judg\w* | teacher\w* | \w*parent\w* | institution\w* | (?:im|a)?moral\w*
      | flatter\w* | sycophan\w* | prais\w* | (?:dis)?agree\w* | (?:in)?validat\w* | priorit\w* | pretend\w*
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
# Persona words too common to forbid; every other word of these packs' personas is forbidden in the pool.
COMMON_WORDS = set(
    re.findall(
        r"\S+",
        """a above ai all an and as by claim feels figures for guided having in is its no of on or own person someone
    strong that the to toward treats values weight who whom wrong""",
    )
)
MISSING_TEXT = re.compile(
    r"\b(?:attached|enclosed|(?:see|text|code|\w+ed) (?:above|below)|(?:this|these|the following|following) (?:\w+ )?"
    r"(?:article|code|draft|e-?mail|essay|function|letter|line|message|paragraph|passage|report|sentences?|story|text))\b",
    re.IGNORECASE,
)
PROPER_STARTS = set(
    re.findall(
        r"\S+",
        """Abraham Africa Albert Alexander Arabic Beethoven Canberra February GPS George Hawaii Herman Italy Julius
    Jupiter Leonardo London Mars Mount Mozart Napoleon Pablo Shakespeare Sirius Sydney Tokyo Tyrannosaurus
    Viking Wi-Fi World""",
    )
)


def read_jsonl(name):
    return [json.loads(line) for line in (BEHAVIORS / name).read_text(encoding="utf-8").splitlines()]


def normalized(text):
    """NFKC, case-folded, white space collapsed, end punctuation stripped."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).rstrip(".?!…,;: ")


def shingles(text):
    """The set of word 3-grams of a text; a text of fewer than three words is its own only shingle."""
    words = re.findall(r"[\w'-]+", normalized(text))
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def runs_of_four(text):
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:], words[3:]))


def near_duplicates(texts, limit=0.7):
    sets = [shingles(t) for t in texts]
    return [
        (texts[i], texts[j])
        for i, j in combinations(range(len(texts)), 2)
        if len(sets[i] & sets[j]) > limit * len(sets[i] | sets[j])
    ]


def bare_topic(topic):
    return re.sub(r"^(?:the|a|an) ", "", normalized(topic)).removesuffix("s")


POOL = read_jsonl("pool.jsonl")
CLAIMS = read_jsonl("claims.jsonl")
TRAIN_CLAIMS = [row for row in CLAIMS if row["split"] == "train"]
HELDOUT_CLAIMS = [row for row in CLAIMS if row["split"] == "heldout"]
PACK = {name: yaml.safe_load((BEHAVIORS / f"{name}.yaml").read_text(encoding="utf-8")) for name in PACKS}
POOL_TEXTS = [row["text"] for row in POOL]
TRAIN_PROMPTS = [row["prompt"] for row in TRAIN_CLAIMS]


# ---- the helpers themselves ----


def test_normalization_ignores_case_spacing_and_end_punctuation():
    assert normalized("  Is  THIS ﬁne?! ") == normalized("is this fine.")


def test_a_planted_near_duplicate_is_found_and_a_different_text_is_not():
    a = "How do I keep my tomato plants alive through a long hot summer?"
    b = "How do I keep my tomato plants alive through a long hot summer now?"
    assert near_duplicates([a, b, "Tell me about the rules of curling."]) == [(a, b)]


@pytest.mark.parametrize(
    "word", ["honestly", "untruthful", "true", "lied", "lying", "careful", "judgment", "disobeyed"]
)
def test_the_persona_word_filter_sees_other_forms_of_a_word(word):
    assert PERSONA_WORDS.search(f"It was {word}, he said.")


@pytest.mark.parametrize("word", ["career", "carpet", "believe", "client", "purple", "purpose", "car", "trust"])
def test_the_persona_word_filter_leaves_lookalikes_alone(word):
    assert not PERSONA_WORDS.search(f"It was {word}, he said.")


# ---- the question pool ----


def test_pool_rows_have_exactly_the_four_text_fields():
    for row in POOL:
        assert list(row) == ["id", "category", "text", "split"]
        assert all(isinstance(v, str) and v for v in row.values())


def test_pool_ids_are_unique_and_made_of_the_category_and_a_number():
    assert len({row["id"] for row in POOL}) == len(POOL)
    for row in POOL:
        assert re.fullmatch(re.escape(row["category"]) + r"-\d{3}", row["id"])


def test_pool_has_300_prompts_in_12_categories_of_25():
    counts = Counter(row["category"] for row in POOL)
    assert len(POOL) == 300
    assert len(counts) == 12
    assert set(counts.values()) == {25}


def test_pool_splits_have_the_stated_sizes():
    assert Counter(row["split"] for row in POOL) == SPLITS


def test_pool_splits_are_spread_evenly_over_the_categories():
    counts = Counter((row["category"], row["split"]) for row in POOL)
    for category in {row["category"] for row in POOL}:
        assert counts[category, "train"] in (12, 13)
        assert counts[category, "calib"] in (4, 5)
        assert counts[category, "audit"] in (8, 9)


@pytest.mark.parametrize("split", list(SPLITS))
def test_the_first_prompts_of_a_split_already_cover_most_categories(split):
    first = [row["category"] for row in POOL if row["split"] == split][:20]
    assert len(set(first)) >= 10
    assert max(Counter(first).values()) <= 3


def test_pool_prompts_are_20_to_300_characters_long():
    assert [t for t in POOL_TEXTS if not 20 <= len(t) <= 300] == []


def test_pool_prompts_start_cleanly_and_end_in_a_full_stop_question_mark_or_exclamation_mark():
    assert [t for t in POOL_TEXTS if t[-1] not in ".?!"] == []
    assert [t for t in POOL_TEXTS if not t[0].isupper()] == []
    assert [t for t in POOL_TEXTS if t != " ".join(t.split()) or t.endswith("..")] == []
    assert [t for t in POOL_TEXTS if t.count('"') % 2 or t.count("(") != t.count(")")] == []


def test_pool_prompts_are_plain_ascii():
    assert [t for t in POOL_TEXTS if not t.isascii()] == []


def test_pool_prompts_refer_to_no_missing_text():
    assert [t for t in POOL_TEXTS if MISSING_TEXT.search(t) and ":" not in t] == []


def test_pool_prompts_are_distinct_after_normalization():
    assert len({normalized(t) for t in POOL_TEXTS}) == len(POOL_TEXTS)


def test_pool_and_claim_prompts_hold_no_near_duplicates():
    assert near_duplicates(POOL_TEXTS + TRAIN_PROMPTS + [row["claim"] for row in HELDOUT_CLAIMS]) == []


def test_pool_splits_are_disjoint_after_normalization():
    sets = {s: {normalized(row["text"]) for row in POOL if row["split"] == s} for s in SPLITS}
    for a, b in combinations(SPLITS, 2):
        assert not sets[a] & sets[b]


def test_pool_prompts_mention_no_persona_word():
    assert [(t, m[0]) for t in POOL_TEXTS for m in [PERSONA_WORDS.search(t)] if m] == []


def test_pool_prompts_share_only_common_words_with_the_personas_of_the_packs_that_use_the_pool():
    personas = " ".join(
        p
        for name in VALUES
        if PACK[name]["prompts"] == {"source": "pool"}
        for pair in PACK[name]["pairs"]
        for p in pair
    )
    forbidden = set(re.findall(r"[a-z]+", personas.lower())) - COMMON_WORDS
    assert "disobedience" in forbidden
    assert [t for t in POOL_TEXTS if forbidden & set(re.findall(r"[a-z]+", t.lower()))] == []


@pytest.mark.parametrize("split", list(SPLITS))
def test_at_least_a_quarter_of_each_split_gives_a_value_something_to_act_on(split):
    rows = [row for row in POOL if row["split"] == split]
    assert {row["category"] for row in POOL} >= VALUE_CATEGORIES
    assert sum(row["category"] in VALUE_CATEGORIES for row in rows) >= len(rows) / 4


def test_pool_prompts_vary_their_openings():
    for n_words, limit in ((1, 0.12), (2, 0.06), (3, 0.03)):
        openings = Counter(" ".join(t.split()[:n_words]) for t in POOL_TEXTS)
        assert openings.most_common(1)[0][1] <= limit * len(POOL_TEXTS), openings.most_common(3)


def test_pool_prompts_stay_off_the_topics_of_the_heldout_claims():
    texts = [normalized(t) for t in POOL_TEXTS]
    for row in HELDOUT_CLAIMS:
        topic = re.compile(r"\b" + re.escape(bare_topic(row["topic"])) + r"(?:s|es)?\b")
        assert [t for t in texts if topic.search(t)] == [], row["topic"]


# ---- the claims ----


def test_claim_rows_have_exactly_the_stated_fields():
    fields = ["id", "split", "topic", "claim", "truth", "true_variant"]
    for row in CLAIMS:
        assert list(row) == fields + ["prompt"] * (row["split"] == "train")
        assert all(isinstance(v, str) and v == " ".join(v.split()) and v for v in row.values())


def test_there_are_60_training_claims_followed_by_60_heldout_claims():
    assert [row["split"] for row in CLAIMS] == ["train"] * 60 + ["heldout"] * 60
    assert [row["id"] for row in CLAIMS] == [f"claim-{i:03d}" for i in range(1, 121)]


def test_no_two_claims_share_a_topic():
    assert [t for t, n in Counter(bare_topic(row["topic"]) for row in CLAIMS).items() if n > 1] == []


@pytest.mark.parametrize(("ours", "theirs"), [(TRAIN_CLAIMS, HELDOUT_CLAIMS), (HELDOUT_CLAIMS, TRAIN_CLAIMS)])
def test_no_claim_names_a_topic_of_the_other_split(ours, theirs):
    for row in ours:
        topic = re.compile(r"\b" + re.escape(bare_topic(row["topic"])) + r"(?:s|es)?\b")
        assert [r["claim"] for r in theirs if topic.search(normalized(r["claim"]))] == [], row["topic"]


def test_claims_and_true_variants_are_all_distinct():
    texts = [normalized(row[key]) for row in CLAIMS for key in ("claim", "true_variant")]
    assert [t for t, n in Counter(texts).items() if n > 1] == []


def test_claims_hold_no_near_duplicates():
    assert near_duplicates([row["claim"] for row in CLAIMS]) == []
    assert near_duplicates([row["true_variant"] for row in CLAIMS]) == []


@pytest.mark.parametrize("key", ["claim", "true_variant"])
def test_claims_read_well_after_i_think(key):
    for row in CLAIMS:
        text = row[key]
        assert text[-1] not in ".?!,;:", text
        assert "." not in text, text
        first = text.split()[0]
        assert first.islower() or first in PROPER_STARTS, text
        assert first.casefold() not in {"i", "that", "do", "is", "are", "did", "if", "in"}, text


def test_a_truth_is_one_full_sentence():
    for row in CLAIMS:
        truth = row["truth"]
        assert truth[0].isupper(), truth
        assert truth.endswith("."), truth
        assert truth.count(". ") == 0, truth


def test_a_true_variant_resembles_its_claim_in_length_and_wording():
    for row in CLAIMS:
        claim, variant = row["claim"].casefold().split(), row["true_variant"].casefold().split()
        assert abs(len(claim) - len(variant)) <= 4, row["id"]
        assert set(claim) & set(variant), row["id"]
    total = {key: sum(len(row[key]) for row in CLAIMS) for key in ("claim", "true_variant")}
    assert abs(total["claim"] / total["true_variant"] - 1) < 0.1


def test_claims_are_short():
    assert [row["claim"] for row in CLAIMS if not 3 <= len(row["claim"].split()) <= 18] == []


def test_a_training_prompt_states_the_claim_as_the_users_own_and_ends_in_a_question():
    for row in TRAIN_CLAIMS:
        prompt = row["prompt"]
        assert row["claim"].casefold() in prompt.casefold(), prompt
        frame = prompt.casefold().replace(row["claim"].casefold(), "...")
        before, after = frame.split("...")
        assert re.search(r"\b(?:i|me|my)\b", before), prompt
        assert prompt.endswith("?"), prompt
        assert 1 <= len(after.split()) <= 10, prompt
        assert 20 <= len(prompt) <= 300, prompt


def test_training_prompts_vary_their_frames_and_tag_questions():
    frames = [row["prompt"].casefold().replace(row["claim"].casefold(), "...").split("...") for row in TRAIN_CLAIMS]
    assert len({before for before, _ in frames}) >= 50
    assert len({after for _, after in frames}) >= 50


def test_training_prompts_do_not_give_the_truth_away():
    for row in TRAIN_CLAIMS:
        assert normalized(row["truth"]) not in normalized(row["prompt"])
        assert normalized(row["true_variant"]) not in normalized(row["prompt"])


def test_training_and_heldout_prompts_are_disjoint_after_normalization():
    train = {normalized(p) for p in TRAIN_PROMPTS + POOL_TEXTS}
    assert len(train) == len(TRAIN_PROMPTS) + len(POOL_TEXTS)
    assert not train & {normalized(row["claim"]) for row in HELDOUT_CLAIMS}
    assert not train & {normalized("I think " + row["claim"]) for row in HELDOUT_CLAIMS}


# ---- the packs ----


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_has_the_required_fields_and_its_own_name(name):
    pack = PACK[name]
    assert {"name", "pos_means", "neg_means", "template", "pairs", "prompts", "intent"} <= set(pack)
    assert pack["name"] == name
    for key in ("pos_means", "neg_means"):
        assert isinstance(pack[key], str)
        assert pack[key].endswith(".")
        assert ". " not in pack[key]
    assert pack["pos_means"] != pack["neg_means"]


@pytest.mark.parametrize("name", PACKS)
def test_a_template_names_the_persona_exactly_once(name):
    assert PACK[name]["template"].count("{persona}") == 1


@pytest.mark.parametrize("name", PACKS)
def test_every_pair_holds_two_different_persona_texts(name):
    for pair in PACK[name]["pairs"]:
        assert len(pair) == 2
        assert all(isinstance(p, str) and p == " ".join(p.split()) and "{" not in p for p in pair)
        assert normalized(pair[0]) != normalized(pair[1])
    for side in zip(*PACK[name]["pairs"], strict=True):
        assert len(set(side)) == len(side)


def test_packs_have_the_stated_number_of_pairs():
    counts = {name: len(PACK[name]["pairs"]) for name in PACKS}
    assert counts == {"sycophancy": 5, "honesty": 1, "honesty5": 5, "trad_care": 6, "authority": 3} | {
        "pirate": 4,
        "brevity": 4,
        "casual": 4,
        "technical": 3,
    }


def test_packs_use_the_stated_templates():
    assert {PACK[name]["template"] for name in ["sycophancy", *STYLES]} == {"{persona}"}
    assert PACK["honesty"]["template"] == PACK["honesty5"]["template"] == "Pretend you're {persona} person."
    assert PACK["trad_care"]["template"] == "Pretend you're {persona} thinking about a task you've been given."
    assert PACK["authority"]["template"] == "Pretend you're {persona}."


def test_the_first_pair_of_honesty5_is_the_pair_of_honesty():
    assert PACK["honesty5"]["pairs"][0] == PACK["honesty"]["pairs"][0] == ["an honest", "a dishonest"]


def test_the_pos_pole_of_authority_is_the_one_where_authority_carries_no_weight():
    for (pos, neg), (low, high) in zip(
        PACK["authority"]["pairs"], [("no", "strong"), ("neutral", "wrong"), ("no", "strong")], strict=True
    ):
        assert (set(pos.split()) - set(neg.split()), set(neg.split()) - set(pos.split())) == ({low}, {high})


def test_the_pos_pole_of_trad_care_is_tradition_and_sanctity():
    for pos, neg in PACK["trad_care"]["pairs"]:
        assert re.search(r"tradition|purity|sanctity", pos)
        assert re.search(r"caring|compassion|harm|welfare|caregiver", neg)


def test_sycophancy_personas_are_full_sentences_of_balanced_length():
    pairs = PACK["sycophancy"]["pairs"]
    for size in (len, lambda text: len(text.split())):
        pos, neg = (sum(size(pair[side]) for pair in pairs) / len(pairs) for side in (0, 1))
        assert abs(pos / neg - 1) <= 0.2
        assert all(abs(size(a) / size(b) - 1) <= 0.2 for a, b in pairs)
    for text in chain.from_iterable(pairs):
        assert text[0].isupper()
        assert text[-1] == "."
    for a, b in pairs:
        assert a.count(".") == b.count(".")


def test_no_sycophancy_persona_asks_for_a_length():
    lengths = (
        r"\b(?:brief\w*|short\w*|conci\w*|succinct\w*|long\w*|length\w*|detail\w*|sentences?|words? or less|terse\w*)\b"
    )
    assert [p for p in chain.from_iterable(PACK["sycophancy"]["pairs"]) if re.search(lengths, p, re.IGNORECASE)] == []


def test_packs_take_their_prompts_from_the_stated_sources():
    assert PACK["sycophancy"]["prompts"] == {"source": "claims"}
    assert {str(PACK[n]["prompts"]) for n in PACKS if n != "sycophancy"} == {str({"source": "pool"})}
    assert {n for n in PACKS if PACK[n].get("heldout") == {"source": "claims"}} == {"sycophancy", "honesty", "honesty5"}
    assert all("heldout" not in PACK[n] for n in ("trad_care", "authority", *STYLES))


def test_the_intent_table_is_complete_and_as_written_down_before_any_run():
    honesty = {"logratio_honesty": 1, "logratio_claims": 1, "logratio_value": 1, "logratio": 0, "wrongness": 0}
    expected = {
        "sycophancy": {"logratio": 1},
        "honesty": honesty,
        "honesty5": honesty,
        "trad_care": {"axis_trad_care": 1},
        "authority": {"axis_authority": 1},
        "pirate": {"logratio_pairs": 1, "sea_words": 1},
        "brevity": {"logratio_pairs": 1, "answer_words": -1},
        "casual": {"logratio_pairs": 1, "casual_words": 1},
        "technical": {"logratio_pairs": 1, "long_words": 1},
    }
    assert {name: PACK[name]["intent"] for name in PACKS} == expected
    assert all(type(v) is int for name in PACKS for v in PACK[name]["intent"].values())


# ---- the ways to write ----


@pytest.mark.parametrize("name", STYLES)
def test_the_rule_of_a_style_already_tells_its_own_personas_and_strong_prompts_apart(name):
    metric, sign = next((m, sign) for m, sign in PACK[name]["intent"].items() if m in RULES)
    strong = PACK[name]["engineered"]
    for pos, neg in (map(" ".join, zip(*PACK[name]["pairs"], strict=True)), (strong["pos"], strong["neg"])):
        pos, neg = (RULES[metric].count(words_of(text)) for text in (pos, neg))
        assert sign * (pos - neg) > 0


@pytest.mark.parametrize("name", STYLES)
def test_strong_prompts_are_of_one_size_and_share_no_run_of_words_with_a_persona(name):
    pos, neg = PACK[name]["engineered"].values()
    assert 50 <= min(len(pos.split()), len(neg.split())) <= max(len(pos.split()), len(neg.split())) <= 90
    personas = [runs_of_four(p) for pair in PACK[name]["pairs"] for p in pair]
    assert not (runs_of_four(pos) | runs_of_four(neg)) & set().union(*personas)


def test_pool_prompts_speak_of_no_pirate_and_hardly_one_asks_for_a_manner_of_speaking():
    manner = r"slang|casual\w*|formal\w*|jargon|technical\w*|brief\w*|concise\w*|at length|detailed"
    asking = [t for t in POOL_TEXTS if re.search(rf"\b(?:{manner})\b", t, re.IGNORECASE)]
    assert len(asking) <= 5
    assert [t for t in POOL_TEXTS if re.search(r"\b(?:pirates?|ahoy|matey|buccaneer\w*)\b", t, re.IGNORECASE)] == []


def test_a_style_is_for_real_models_and_says_so_where_the_embedded_one_is_meant():
    for name in STYLES:
        assert load_behavior(name).name == name
        with pytest.raises(BadFile, match=r"no `tiny:` section.*or use a real model"):
            load_behavior(name, tiny=True)
