"""Behaviors are data: one YAML file each, shipped or yours, checked before anything runs.

    name: my_behavior
    pos_means: "what alpha > 0 should do"
    neg_means: "the opposite"
    template: "Pretend you're {persona} person."
    pairs: [["a cheerful", "a gloomy"]]
    prompts: {source: list, list: ["What do you make of Mondays?", "..."]}
    n_topics: 40                                               # optional: how many questions a study uses
    engineered: {pos: "You are ...", neg: "You are ..."}       # optional, the strong prompts of `prompt:engineered`

`prompts.source` is `pool` (the shipped pool), `claims` (the shipped claims), `list`, `file` (text or JSON lines) or `hub`
(a column of a data set). Instead of template and pairs, a pack may bring the answers: see `dataset.py`.
The section `tiny:` is the same behavior in the words of the embedded model's world; without one a pack cannot be used
on `tiny`, unless it brings the answers.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.errors import BadFile, Unsupported, not_known
from ws.extensions import Extension, extensions
from ws.pairs import Pairs, normal_form
from ws.sources import read_yaml
from ws.types import Json

if TYPE_CHECKING:
    from ws.behaviors.pack import Prompts

HERE = Path(__file__).parent
SPLITS = ("train", "calib", "audit")
SHIPPED = (
    "honesty",
    "honesty5",
    "sycophancy",
    "trad_care",
    "authority",
    "false_premise",
    "pirate",
    "brevity",
    "casual",
    "technical",
)
USUAL = "honesty"
"""The behavior that is taken where none is named."""


_ADJECTIVE = re.compile(r"an? [\w-]+")
_CLAUSE_END = re.compile(r"[:;,.] |\.$")


def _first_clause(sentence: str) -> str:
    """What a pole means up to its first mark, without "The model"."""
    return _CLAUSE_END.split(sentence.strip())[0].removeprefix("The model ")


@dataclass(frozen=True)
class Prompt:
    """One question of a pool."""

    id: str
    text: str
    category: str = ""
    split: str = "train"


@dataclass(frozen=True)
class Behavior:
    """Two poles, which personas or ready answers show, and the questions."""

    name: str
    pos_means: str
    neg_means: str
    template: str
    pairs: tuple[tuple[str, str], ...]
    """Index-aligned persona texts, (pos, neg); none where the pack brings the answers."""
    prompts: tuple[Prompt, ...]
    intent: Mapping[str, int] = field(default_factory=dict)
    """Metric to +1, -1, or 0 (no claim), written before any run."""
    engineered: tuple[str, str] | None = None
    """A worked-out system prompt for each pole: a baseline, and no part of what pairs are made from."""
    tiny: bool = False
    n_topics: int | None = None
    """How many of its questions a study uses when that is not told."""
    answers: Pairs | None = None
    """The pairs, where the pack brings a data set instead of personas."""

    @property
    def personas(self) -> tuple[tuple[str, str], ...]:
        """The persona pairs; a behavior without any is refused in one sentence."""
        if self.answers is not None:
            raise Unsupported(
                f"the behavior {self.name!r} has no personas, its answers come from a data set; choose a method that needs "
                "none, such as ws:lora, paper:all, prompt:engineered or random:act."
            )
        return self.pairs

    def systems(self, i: int) -> tuple[str, str]:
        """The two system prompts of persona pair i."""
        pos, neg = self.personas[i]
        return self.template.replace("{persona}", pos), self.template.replace("{persona}", neg)

    @property
    def poles(self) -> tuple[str, str]:
        """Both poles in a few words, (pos, neg): of "an honest" persona "more honest", else the first clause of what a pole means."""
        if self.pairs and all(_ADJECTIVE.fullmatch(text) for text in self.pairs[0]):
            pos, neg = (f"more {text.split()[1]}" for text in self.pairs[0])
            return pos, neg
        return _first_clause(self.pos_means), _first_clause(self.neg_means)

    @property
    def train(self) -> tuple[Prompt, ...]:
        """The questions that pairs are made from."""
        return tuple(p for p in self.prompts if p.split == "train")

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of all that decides the pairs."""
        parts: list[Any] = [self.name, self.template, self.pairs, [(p.id, p.text) for p in self.train]]
        if self.n_topics is not None:
            parts.append(self.n_topics)
        if self.answers is not None:
            parts.append([self.answers.content_hash, [f["sha256"] for f in self.answers.provenance["files"]]])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def load_behavior(name: str | Path, *, tiny: bool = False) -> Behavior:
    """A shipped behavior by name, or a pack by path; `tiny` takes its section for the embedded model."""
    import yaml
    from pydantic import ValidationError

    from ws.behaviors.dataset import read_data_set
    from ws.behaviors.pack import Pack, not_yaml, told

    path = _path(str(name))
    try:
        raw = read_yaml(path)
    except UnicodeDecodeError:
        raise BadFile(f"{path} is not UTF-8 text.") from None
    except yaml.YAMLError as e:
        raise BadFile(f"{path}{not_yaml(e)}") from None
    if not isinstance(raw, dict):
        raise BadFile(
            f"{path} must be a mapping with name, template, pairs and prompts; it is {'empty' if raw is None else f'a {type(raw).__name__}'}."
        )
    try:
        pack = Pack(**raw)
    except ValidationError as e:
        raise BadFile(f"{path}: {told(e)}") from None
    except TypeError:
        raise BadFile(f"{path}: every key must be text; quote keys such as Yes, No or on.") from None
    if str(name) in _added() and pack.name != str(name):
        raise BadFile(
            f"{path}: its name is {pack.name!r}, and its distribution calls it {str(name)!r}; give it one name."
        )

    if tiny and pack.tiny is None and pack.dataset is None:
        raise BadFile(
            f"the behavior {pack.name!r} has no `tiny:` section, and the embedded model does not know the words of its "
            "main one. Add the section (template, pairs, prompts; `ws new` writes one that works), or use a real model."
        )
    part = pack.tiny if tiny and pack.tiny is not None else pack
    answers = None if part.dataset is None else read_data_set(path, part.dataset, pack.name)
    prompts = () if part.prompts is None else _prompts(path, part.prompts)
    if answers is not None:
        prompts = _answered(path, answers, prompts)
    _distinct(path, prompts)
    if pack.heldout is not None:
        _apart(path, prompts, _prompts(path, pack.heldout, claims_of="heldout"))
    return Behavior(
        name=pack.name,
        pos_means=pack.pos_means,
        neg_means=pack.neg_means,
        template=part.template or "",
        pairs=tuple((p, n) for p, n in part.pairs or ()),
        prompts=prompts,
        intent=dict(pack.intent),
        engineered=(part.engineered.pos, part.engineered.neg) if part.engineered else None,
        tiny=tiny,
        n_topics=part.n_topics,
        answers=answers,
    )


def false_claims(split: str) -> list[Json]:
    """The shipped false claims of one split: claim, truth, true_variant and, for training, a prompt."""
    return [r for r in _jsonl(HERE / "claims.jsonl") if r["split"] == split]


def neutral_prompts(tiny: bool = False) -> tuple[Prompt, ...]:
    """The shipped questions that have nothing to do with any behavior: the splits `calib` and `audit`."""
    rows = _jsonl(HERE / "tiny" / "calib_audit.jsonl" if tiny else HERE / "pool.jsonl")
    return tuple(Prompt(r["id"], r["text"], r["category"], r["split"]) for r in rows if r["split"] != "train")


def new_pack(name: str) -> str:
    """The text of a pack of this name that runs as it is, for somebody to change."""
    from ws.behaviors.pack import NAME

    if not re.fullmatch(NAME, name):
        raise BadFile(
            f"{name!r} is no name of a behavior: letters, digits, - and _, at most 64 of them, and no folder, e.g. cheerful."
        )
    if name in names():
        raise BadFile(f"there is a behavior {name!r} already; take another name, or use that one.")
    return _text(HERE / "new.yaml").replace("NAME", name)


def names() -> list[str]:
    """The behaviors that have a name: those that ship, and those that other distributions add."""
    return [*SHIPPED, *_added()]


def _added() -> Mapping[str, Extension]:
    return extensions("ws.behaviors", frozenset(SHIPPED))


def _path(name: str) -> Path:
    """The pack of a name, or the one that lies at a path."""
    if name in SHIPPED:
        return HERE / f"{name}.yaml"
    if (extension := _added().get(name)) is not None:
        path = extension.folder() / f"{name}.yaml"
        if not path.is_file():
            raise extension.unusable(f"should lie at {path}, where there is no file")
        return path
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise BadFile(f"there is no behavior pack at {name}.")
        return path
    raise BadFile(not_known("the behavior", name, names(), more=", or give the path of a .yaml pack"))


def _prompts(path: Path, prompts: "Prompts", *, claims_of: str = "train") -> tuple[Prompt, ...]:
    from ws.behaviors.dataset import file_beside, hub_questions

    if prompts.source == "pool":
        return tuple(Prompt(r["id"], r["text"], r["category"], r["split"]) for r in _jsonl(HERE / "pool.jsonl"))
    if prompts.source == "claims":
        return tuple(
            Prompt(r["id"], r["prompt"] if "prompt" in r else r["claim"], r["topic"]) for r in false_claims(claims_of)
        )
    if prompts.source == "list":
        return _numbered(path.stem, prompts.texts or [])
    if prompts.source == "hub":
        return _numbered(path.stem, hub_questions(prompts))
    file = file_beside(path, prompts.file or "", "prompts.file")
    if file.suffix == ".jsonl":
        rows = _jsonl(file)
        for i, r in enumerate(rows, 1):
            if not isinstance(r, dict) or not isinstance(r.get("text"), str) or not r["text"].strip():
                raise BadFile(f"{file}, line {i}: every row is an object with a text.")
            if r.get("split", "train") not in SPLITS:
                raise BadFile(f"{file}, line {i}: split is one of {', '.join(SPLITS)}, got {r['split']!r}.")
        return tuple(
            Prompt(str(r.get("id", f"{file.stem}-{i:03d}")), r["text"], r.get("category", ""), r.get("split", "train"))
            for i, r in enumerate(rows, 1)
        )
    return _numbered(file.stem, [t.strip() for t in _text(file).split("\n") if t.strip()])


def _numbered(stem: str, texts: Sequence[str]) -> tuple[Prompt, ...]:
    return tuple(Prompt(f"{stem}-{i:03d}", t) for i, t in enumerate(texts, 1))


def _answered(path: Path, answers: Pairs, chosen: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
    """The questions of a data set, or those that the pack chooses among them."""
    texts: dict[str, str] = {}
    for r in answers.rows:
        texts.setdefault(normal_form(r.prompt), r.prompt)
    if chosen:
        lacking = [p.text for p in chosen if p.split == "train" and normal_form(p.text) not in texts]
        if lacking:
            raise BadFile(
                f"{path}: {len(lacking)} of the prompts have no answer in the data set, e.g. {lacking[0][:60]!r}; leave out "
                "`prompts` to use all of its questions."
            )
        return chosen
    return _numbered(path.stem, list(texts.values()))


def _apart(path: Path, prompts: Sequence[Prompt], heldout: Sequence[Prompt]) -> None:
    """Refuse a held-out question that pairs are made from."""
    train = {normal_form(p.text) for p in prompts if p.split == "train"}
    if both := [p.text for p in heldout if normal_form(p.text) in train]:
        raise BadFile(
            f"{path}: {len(both)} of the held-out prompts are training prompts too, e.g. {both[0][:60]!r}; take them out of "
            "one of the two (`prompts` also chooses among the questions of a data set)."
        )


def _distinct(path: Path, prompts: tuple[Prompt, ...]) -> None:
    if len([p for p in prompts if p.split == "train"]) < 3:
        raise BadFile(
            f"{path}: a behavior needs at least three training prompts: to learn from, to choose on and to report."
        )
    if len({p.id for p in prompts}) < len(prompts):
        raise BadFile(f"{path}: two prompts have the same id; an id names one question.")
    by_text: dict[str, Prompt] = {}
    for p in prompts:
        if (other := by_text.setdefault(normal_form(p.text), p)) is not p:
            raise BadFile(
                f"{path}: the prompts {other.id} and {p.id} are the same text ({p.text[:60]!r}); a pool is distinct."
            )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadFile(f"{path} is not UTF-8 text.") from None


def _jsonl(path: Path) -> list[Json]:
    rows = []
    for i, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as e:
                raise BadFile(f"{path}, line {i} is not JSON ({e.msg}).") from None
    return rows
