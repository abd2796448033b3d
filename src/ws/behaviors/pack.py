"""The schema of a behavior pack: what strangers write, checked strictly, with errors a person can act on."""

import re
from difflib import get_close_matches
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError, field_validator, model_validator

from ws.settings import brief

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
"""The name of a behavior, which is a folder's name too."""
NonEmpty = Annotated[StrictStr, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prompts(_Strict):
    """The source of the questions."""

    source: Literal["pool", "claims", "list", "file", "hub"]
    texts: list[NonEmpty] | None = Field(default=None, alias="list")
    file: NonEmpty | None = None
    id: NonEmpty | None = None
    """A data set of the hub, `org/name` or `org/name@revision`."""
    config: NonEmpty = "default"
    split: NonEmpty | None = None
    column: NonEmpty | None = None

    @field_validator("id")
    @classmethod
    def _hub_id(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", text):
            raise ValueError("a data set of the hub is org/name or org/name@revision")
        return text

    @model_validator(mode="after")
    def _matching(self):
        if self.source == "list" and not self.texts:
            raise ValueError("source is list, so `list` must hold the questions")
        if self.source == "file" and not self.file:
            raise ValueError("source is file, so `file` must name it")
        if self.source == "hub" and not (self.id and self.split and self.column):
            raise ValueError("source is hub, so `id`, `split` and `column` must say where the questions are")
        return self


class Engineered(_Strict):
    """A worked-out system prompt for each pole."""

    pos: NonEmpty
    neg: NonEmpty


class DataSet(_Strict):
    """Answers that somebody else wrote: one file for each side, or one file with both."""

    pos: NonEmpty | None = None
    neg: NonEmpty | None = None
    file: NonEmpty | None = None
    prompt: NonEmpty = "prompt"
    response: NonEmpty | None = None
    response_pos: NonEmpty | None = None
    response_neg: NonEmpty | None = None
    key: NonEmpty | None = None

    @model_validator(mode="after")
    def _one_form(self):
        wrong: tuple[str, ...]
        if self.file is not None:
            form, wrong = "`file` holds both sides", ("pos", "neg", "response", "key")
        elif self.pos is not None and self.neg is not None:
            form, wrong = "`pos` and `neg` are a file each", ("response_pos", "response_neg")
        else:
            raise ValueError("a data set is `pos` and `neg`, or one `file` with both")
        if surplus := [k for k in wrong if getattr(self, k) is not None]:
            raise ValueError(f"{form}, so leave out {', '.join(surplus)}")
        return self


class Answered(_Strict):
    """Questions, and who answers them: personas of a template, or a data set that brings the answers."""

    template: NonEmpty | None = None
    pairs: Annotated[list[tuple[NonEmpty, NonEmpty]], Field(min_length=1)] | None = None
    dataset: DataSet | None = None
    engineered: Engineered | None = None
    prompts: Prompts | None = None
    n_topics: Annotated[int, Field(ge=3)] | None = None
    """How many of the questions a study uses when that is not told."""

    @model_validator(mode="after")
    def _one_source(self):
        parts = {"template": self.template, "pairs": self.pairs, "prompts": self.prompts}
        if self.dataset is not None:
            if self.template is not None or self.pairs is not None:
                raise ValueError("a data set brings the answers; leave out `template` and `pairs`, or `dataset`")
        elif missing := [k for k, v in parts.items() if v is None]:
            raise ValueError(f"{', '.join(missing)} missing; a behavior has template, pairs and prompts, or a dataset")
        return self

    @field_validator("template")
    @classmethod
    def _one_persona(cls, text: str | None) -> str | None:
        if text is not None and text.count("{persona}") != 1:
            raise ValueError("the template must hold {persona} exactly once")
        return text

    @field_validator("pairs")
    @classmethod
    def _different(cls, pairs: list[tuple[str, str]] | None) -> list[tuple[str, str]] | None:
        for i, (pos, neg) in enumerate(pairs or []):
            if pos.strip().casefold() == neg.strip().casefold():
                raise ValueError(f"pair {i} has the same persona on both sides")
        return pairs


class Pack(Answered):
    """A behavior pack: one YAML file."""

    name: Annotated[StrictStr, Field(pattern=f"^{NAME}$")]
    pos_means: NonEmpty
    neg_means: NonEmpty
    heldout: Prompts | None = None
    """Questions never used for training."""
    intent: dict[StrictStr, Literal[-1, 0, 1]] = {}
    tiny: Answered | None = None


def not_yaml(error: yaml.YAMLError) -> str:
    """Where a file stops being YAML, the line itself, and how a line should look; to stand after the file's name."""
    mark, shape = (
        None,
        'a line is `key: value` with a space after the colon, texts stand in quotes, a list is ["one", "two"]',
    )
    if isinstance(error, yaml.MarkedYAMLError):
        # of a block the problem is where it ends; of anything else, where it begins
        block = (error.context or "").startswith("while parsing a block")
        mark = error.problem_mark if block else error.context_mark or error.problem_mark
    if mark is None:
        return f" is not YAML ({' '.join(str(error).split())[:120]}); {shape}."
    line = (mark.buffer or "").rstrip("\0").split("\n")[mark.line : mark.line + 1]
    shown = f", at {line[0].strip()[:60]!r}" if line else ""
    problem = getattr(error, "problem", "")
    before = " or the one before it" if problem == "mapping values are not allowed here" else ""
    return f", line {mark.line + 1}{before} is not YAML{shown} ({problem}); {shape}."


KEYS = {f.alias or name for model in (Pack, Prompts, DataSet, Engineered) for name, f in model.model_fields.items()}


def told(error: ValidationError) -> str:
    """The first problems of a pack, each with its place, in one line."""
    parts = []
    for e in error.errors()[:4]:
        where = ".".join(str(p) for p in e["loc"]) or "the pack"
        if e["type"] == "extra_forbidden":
            key = str(e["loc"][-1])
            near = get_close_matches(key, KEYS - {key}, 1)  # a key of another place is no mend here
            parts.append(f"unknown key {where!r}{f' (did you mean {near[0]}?)' if near else ''}")
        elif e["type"] == "string_pattern_mismatch" and where == "name":
            parts.append(f"name is letters, digits, - and _, at most 64, got {brief(e['input'])}")
        elif e["type"] == "missing":
            parts.append(f"{where} is missing")
        elif e["type"] == "string_type":
            parts.append(f"{where} must be text, got {brief(e['input'])}: quote it")
        else:
            parts.append(f"{where}: {e['msg'].removeprefix('Value error, ')}")
    more = "" if len(error.errors()) <= 4 else f" and {len(error.errors()) - 4} more"
    return "; ".join(parts) + more + "."
