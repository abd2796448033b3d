"""The schema of a behavior pack: what strangers write, checked strictly, with errors a person can act on."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError, field_validator, model_validator

Text = Annotated[StrictStr, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prompts(_Strict):
    """Where the questions come from."""

    source: Literal["pool", "claims", "list", "file"]
    texts: list[Text] | None = Field(default=None, alias="list")
    file: Text | None = None

    @model_validator(mode="after")
    def _matching(self):
        if self.source == "list" and not self.texts:
            raise ValueError("source is list, so `list` must hold the questions")
        if self.source == "file" and not self.file:
            raise ValueError("source is file, so `file` must name it")
        return self


class Engineered(_Strict):
    """A worked-out system prompt for each pole."""

    pos: Text
    neg: Text


class Personas(_Strict):
    """A template and its index-aligned persona pairs."""

    template: Text
    pairs: Annotated[list[tuple[Text, Text]], Field(min_length=1)]
    engineered: Engineered | None = None
    prompts: Prompts

    @field_validator("template")
    @classmethod
    def _one_persona(cls, text: str) -> str:
        if text.count("{persona}") != 1:
            raise ValueError("the template must hold {persona} exactly once")
        return text

    @field_validator("pairs")
    @classmethod
    def _different(cls, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        for i, (pos, neg) in enumerate(pairs):
            if pos.strip().casefold() == neg.strip().casefold():
                raise ValueError(f"pair {i} has the same persona on both sides")
        return pairs


class Heldout(_Strict):
    """Questions never used for training."""

    source: Literal["claims"]


class Pack(Personas):
    """A whole behavior."""

    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    pos_means: Text
    neg_means: Text
    heldout: Heldout | None = None
    intent: dict[StrictStr, Literal[-1, 0, 1]] = {}
    tiny: Personas | None = None


def told(error: ValidationError) -> str:
    """The first problems of a pack, each with its place, in one line."""
    parts = []
    for e in error.errors()[:4]:
        where = ".".join(str(p) for p in e["loc"]) or "the pack"
        if e["type"] == "extra_forbidden":
            parts.append(f"unknown key {where!r}")
        elif e["type"] == "string_type":
            parts.append(f"{where} must be text, got {e['input']!r}: quote it")
        else:
            parts.append(f"{where}: {e['msg'].removeprefix('Value error, ')}")
    more = "" if len(error.errors()) <= 4 else f" and {len(error.errors()) - 4} more"
    return "; ".join(parts) + more + "."
