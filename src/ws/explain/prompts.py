"""The prompts that analyses read states on: none of them is one that an effect is measured on.

Persona contrasts come from the study's training questions under both personas. Everything else is read on its validation and
training questions, asked without a persona; test questions and those of other evaluations are left alone.
"""

from functools import lru_cache

from ws.errors import Unsupported
from ws.explain.bases.states import States, read_states
from ws.explain.protocol import Subject
from ws.methods import Material
from ws.methods.activation.states import Text
from ws.models.chat import Chat, encode, render

MOST = 64


def material_of(subject: Subject) -> Material:
    """The study of a subject; refused in one sentence where it has none."""
    if subject.material is None:
        raise Unsupported("this analysis reads prompts of a study; explain a run, not a file, or name the behavior.")
    return subject.material


@lru_cache(maxsize=2)
def persona_states(subject: Subject) -> States:
    """The base's states under both personas, read once for all analyses."""
    return read_states(subject.base, material_of(subject).personas)


def held_texts(subject: Subject, *, whole: bool = False, most: int = MOST) -> list[Text]:
    """Questions of the study as the model is asked them, validation ones first, read at the last token or, `whole`, at every one."""
    material = material_of(subject)
    validation = sorted({pair.prompt for pair in material.held_pairs()})
    training = sorted(set(material.questions() if material.questions else ()) - set(validation))
    questions = [*validation, *training][:most]
    tokenizer = subject.base.tokenizer
    texts = [tuple(encode(tokenizer, render(tokenizer, Chat(q)))) for q in questions]
    return [(ids, 0 if whole else len(ids) - 1) for ids in texts]
