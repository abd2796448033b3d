"""Parts of a trained direction as methods, by what stands after the slash of its name.

ws:lora/only:layer7            one layer, one kind of matrix (o_proj), writers, readers, attention, mlp, early, middle, late, a module
ws:lora/without:o_proj         all but that
ws:lora/cropped:top:.25        some of its own singular values: top, middle, bottom, energy, rank
ws:lora/dir_only               every module equally large
ws:lora/mag_only:0             Gaussian noise as large in every module; random_norm:0, equally large everywhere
ws:lora/project:act32          P w on what writes, P on the 32 directions in which the change moves activations most (circular)
ws:lora/normmatched:act32      the same, as large as before in every module;   ws:lora/complement:act32   what is left of the writers
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ws.direction import Direction
from ws.direction.algebra import layer_of, restricted
from ws.direction.groups import group
from ws.direction.variants import (
    Flags,
    as_variant,
    check_part,
    complement,
    cropped,
    dir_only,
    mag_only,
    norm_matched,
    projected,
    random_norm,
)
from ws.methods.activation.paper import hidden_names
from ws.methods.activation.states import Text, states
from ws.methods.material import Material
from ws.models.base import Base
from ws.models.chat import Chat, encode, render
from ws.steer import steer

KINDS = ("only", "without", "cropped", "dir_only", "mag_only", "random_norm", "project", "normmatched", "complement")
IN_SPACE = ("project", "normmatched", "complement")
PROMPTS = 64


def check(variant: str) -> None:
    """Refuse a part that does not exist, before anything is trained; groups are known when the direction is."""
    kind, _, rest = variant.partition(":")
    if kind not in KINDS:
        raise ValueError(f"a part of a direction is one of {', '.join(KINDS)}; got {variant!r}")
    number = rest.removeprefix("act") if kind in IN_SPACE else rest
    counted = kind in (*IN_SPACE, "mag_only", "random_norm")
    wrong = {
        "dir_only": bool(rest),
        "only": not rest,
        "without": not rest,
    }.get(kind, counted and not (number.isascii() and number.isdigit()))
    if kind in IN_SPACE:
        wrong = wrong or not rest.startswith("act") or int(number) < 1
    if wrong:
        raise ValueError(f"{kind} is written like {_like(kind)}; got {variant!r}")
    if kind == "cropped":
        check_part(rest)


def _like(kind: str) -> str:
    if kind in IN_SPACE:
        return f"{kind}:act32"
    return {"dir_only": "dir_only", "only": "only:layer7", "without": "without:o_proj"}.get(kind, f"{kind}:0")


def part(material: Material, whole: Direction, variant: str) -> Direction:
    """A part of a direction by its name."""
    check(variant)
    kind, _, rest = variant.partition(":")
    weight = material.base.weight
    if kind in ("only", "without"):
        names = sorted(group(rest, list(whole.forms)))
        chosen = restricted(whole, keep=names) if kind == "only" else restricted(whole, drop=names)
        return as_variant(whole, chosen.forms, variant)
    if kind == "cropped":
        return cropped(whole, rest, weight)
    if kind == "dir_only":
        return dir_only(whole, weight)
    if kind in ("mag_only", "random_norm"):
        return (mag_only if kind == "mag_only" else random_norm)(whole, int(rest), weight)
    return in_moved_space(material, whole, kind, int(rest.removeprefix("act")), variant)


def in_moved_space(material: Material, whole: Direction, kind: str, rank: int, name: str) -> Direction:
    """What the writers write inside the space that the direction moves activations in, or outside of it."""
    base = material.base
    writers = restricted(whole, keep=sorted(group("writers", list(whole.forms))))
    rows = moved(base, whole, texts(material), 1.0)
    spaces = {at: moved_space(g, rank) for at, g in rows.items() if float(g.abs().max()) > 0}
    bases = {n: spaces[layer_of(n)] for n in writers.forms if layer_of(n) in spaces}
    flags = Flags("same_direction", rank=float(rank))
    kept = projected(writers, write=bases, weight=base.weight, name=name, flags=flags)
    if kind == "project":
        return kept
    if kind == "complement":
        return complement(writers, kept, name=name)
    return as_variant(writers, norm_matched(kept, writers, base.weight).forms, name, flags)


def moved(base: Base, direction: Direction, texts: list[Text], alpha: float) -> dict[int, Float[Tensor, "n d"]]:
    """How differently each block writes at +alpha and at -alpha, prompt by prompt."""
    names = hidden_names(base)
    ends = []
    for strength in (alpha, -alpha):
        with steer(base, direction, strength):
            ends.append(states(base, texts, names))
    wrote = [{at: end[names[at + 1]] - end[names[at]] for at in range(base.depth)} for end in ends]
    return {at: wrote[0][at] - wrote[1][at] for at in range(base.depth)}


def moved_space(rows: Float[Tensor, "n d"], rank: int) -> Float[Tensor, "d k"]:
    """The first right singular vectors of the rows, each row at length 1."""
    sizes = rows.double().norm(dim=1, keepdim=True)
    unit = rows.double() / sizes.clamp(min=1e-12 * float(sizes.max()))
    return torch.linalg.svd(unit, full_matrices=False)[2][:rank].mT


def texts(material: Material) -> list[Text]:
    """Questions of the study as the model is asked them, validation ones first, read at the last token."""
    validation = sorted({pair.prompt for pair in material.held_pairs()})
    training = sorted(set(material.questions() if material.questions else ()) - set(validation))
    tokenizer = material.base.tokenizer
    asked = [tuple(encode(tokenizer, render(tokenizer, Chat(q)))) for q in [*validation, *training][:PROMPTS]]
    return [(ids, len(ids) - 1) for ids in asked]
