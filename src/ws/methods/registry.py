"""All ways of steering by name: one line each. A new one is one file and one line here.

`make("sl:pca", material)` makes the method; what follows a name's own colon goes to its maker as text, so that
`random:gauss:3` is the line `random` with ("gauss", "3").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor

from ws.adapters import FAMILIES, SMALL
from ws.behaviors import Behavior
from ws.diff import diff
from ws.errors import Unsupported
from ws.methods import constructed, prompts, random
from ws.methods.activation import (
    ablation,
    clusters,
    gated,
    imported,
    paper,
    sspace,
    transport,
    turning,
    vectors,
    writing,
)
from ws.methods.activation.method import Activation, Add, Edit, block_name
from ws.methods.activation.vectors import States, Vector
from ws.methods.material import Material
from ws.methods.method import Method
from ws.methods.weights import Weights, bisector

Maker = Callable[..., Method]


def added(name: str, fit: Callable[[States, States], Vector]) -> Maker:
    """A method that adds one vector per block, fitted to that block's states."""
    return edited(name, lambda pos, neg: Add(fit(pos, neg)))


def edited(name: str, fit: Callable[[States, States], Edit]) -> Maker:
    """A method with one edit per block, fitted to that block's states."""

    def make(material: Material) -> Method:
        found = material.states(material.block_names)
        edits = {n: fit(found.pos[n], found.neg[n]) for n in material.block_names}
        return Activation(name, edits, provenance=material.made("train", pool="last"))

    return make


def trained(material: Material, adapter: str, mode: str = "contrastive") -> Method:
    """The direction of a study, or a part of it."""
    sides = material.sides_of(adapter)
    if mode == "bisector":
        plus, minus, whole = (diff(material.base, *sides, mode=m) for m in ("tau+", "tau-", "contrastive"))
        return Weights(f"ws:{adapter}:bisector", bisector(material.base, plus, minus, whole))
    return Weights(
        f"ws:{adapter}" + ("" if mode == "contrastive" else f":{mode}"), diff(material.base, *sides, mode=mode)
    )


def finetuned(material: Material, adapter: str, checkpoint: str = "") -> Method:
    """Two fine-tunes as arms: +1 is theta_pos, -1 is theta_neg, and nothing lies beyond; at the end or at a checkpoint."""
    sides, name = material.sides_of(adapter), f"ft:{adapter}"
    if checkpoint:
        at, name = int(checkpoint), f"{name}:{checkpoint}"
        if at > len(sides.checkpoints):
            raise Unsupported(
                f"{name} is checkpoint {at} of a training that has {len(sides.checkpoints)}; train with --checkpoints {at} or more."
            )
        sides = sides.checkpoints[at - 1]
    plus, minus = (diff(material.base, *sides, mode=m) for m in ("tau+", "tau-"))
    return Weights(name, plus, below=minus, largest=1.0)


def in_singular_space(material: Material) -> Method:
    names = sspace.writers(material.base, material.layers)
    found, base = material.states(names), material.base
    edits = {n: sspace.sspace_w(found.pos[n], found.neg[n], base.weight(n), base.bias(n)) for n in names}
    return Activation("sl:sspace_w", edits, provenance=material.made("train", pool="last"))


def one_layer(pool: str, name: str) -> Maker:
    def make(material: Material) -> Method:
        names = paper.hidden_names(material.base)
        a = paper.means(material.states(names, pool), names)
        made = paper.single_layer(material.base, a, name, material.held_pairs(), material.blocks)
        told = {k: made.provenance[k] for k in ("block", "effects")}
        return Activation(name, made.edits, made.positions, provenance=material.made("train", "val", pool=pool, **told))

    return make


def every_layer(name: str, *, as_code: bool) -> Maker:
    def make(material: Material) -> Method:
        names = paper.hidden_names(material.base)
        a = paper.means(material.states(names, "response_mean"), names)
        made = paper.all_layers(material.base, a, name, as_code=as_code)
        return Activation(
            name, made.edits, made.positions, provenance=material.made("train", pool="response_mean", layers="all")
        )

    return make


def in_written_space(material: Material, rank: str) -> Method:
    found, base = material.states(material.block_names), material.base
    matrices: dict[str, list[Tensor]] = {}
    for name in sspace.writers(base, material.layers):
        matrices.setdefault(block_name(base, base.linears[name].block), []).append(base.weight(name))
    steps = {n: vectors.mean_diff(found.pos[n], found.neg[n]) for n in material.block_names}
    edits = {n: Add(writing.projected(v, matrices[n], int(rank))) for n, v in steps.items()}
    return Activation(f"svd:{rank}", edits, provenance=material.made("train", pool="last", rank=int(rank)))


def at_random(material: Material, form: str, draw: str = "0", *like: str) -> Method:
    """A random control, like the method it stands beside."""
    random.check(form, draw, *like)
    which = random.like_of(form, *like)
    if form == "act":
        return random.on_every_token(material, draw)
    if form == "paper":
        return random.like_vectors(material, make(f"paper:{which}", material), draw, which)
    if form == "constructed":
        return random.outputs(material, draw, which)
    if form == "labels":
        return random.of_shuffled_labels(material, draw, which)
    return random.in_weights(material, form, draw, which)


METHODS: dict[str, Maker] = {
    "ws": trained,
    "ft": finetuned,
    "prompt": lambda material, which: prompts.of_behavior(material.known, which),
    "repe": added("repe", vectors.pca),
    "repe_centred": added("repe_centred", vectors.pca_centred),
    "paper:single": one_layer("response_mean", "paper:single"),
    "paper:single-last": one_layer("last", "paper:single-last"),
    "paper:all": every_layer("paper:all", as_code=False),
    "paper:all-code": every_layer("paper:all-code", as_code=True),
    "sl:mean_diff": added("sl:mean_diff", vectors.mean_diff),
    "sl:mean_centred": added("sl:mean_centred", vectors.mean_centred),
    "sl:pca": added("sl:pca", vectors.pca),
    "sl:pca_centred": added("sl:pca_centred", vectors.pca_centred),
    "sl:sspace_act": added("sl:sspace_act", vectors.sspace_act),
    "sl:sspace_w": in_singular_space,
    "sl:topk_clusters": edited("sl:topk_clusters", clusters.topk_clusters),
    "sl:cosine_gated": edited("sl:cosine_gated", gated.cosine_gated),
    "sl:directional_ablation": edited("sl:directional_ablation", ablation.directional_ablation),
    "sl:angular": edited("sl:angular", turning.angular),
    "sl:spherical": edited("sl:spherical", turning.spherical),
    "sl:linear_act": edited("sl:linear_act", transport.linear_act),
    "sl:chars": edited("sl:chars", transport.chars),
    "svd": in_written_space,
    "constructed": constructed.make,
    "random": at_random,
    "gguf": lambda material, *path: imported.from_gguf(material.base, ":".join(path)),
    "vectors": lambda material, *path: imported.from_safetensors(material.base, ":".join(path)),
}
PARTS = ("tau+", "tau-", "bisector")
OPEN: dict[str, Sequence[str]] = {
    "ws": [":".join([a, *part]) for a in SMALL for part in ([], *([p] for p in PARTS))],
    "ft": list(SMALL),
    "prompt": prompts.KINDS,
    "svd": [str(r) for r in writing.RANKS],
    "constructed": ["top", "tail", "random:0"],
    "random": [
        "gauss:0",
        "spectrum:0",
        "gate:0:ia3",
        "labels:0",
        "act:0",
        "paper:0",
        "paper:0:single",
        "constructed:0",
    ],
    "gguf": [],
    "vectors": [],
}
"""Names that go on after their line, and with what; files and further draws are not listed."""
SEEDLESS = ("prompt", "gguf", "vectors")
"""Lines that make the same for every seed."""


FROM_ANSWERS = ("paper:single", "paper:all", "paper:all-code")
"""Activation methods that read the answers instead of the personas."""
DEFAULT = (
    "ws:lora", "prompt:simple", "prompt:engineered", "repe", "paper:all", "sl:mean_diff", "random:spectrum", "random:act",
    "random:paper",
)  # fmt: skip
"""What a comparison takes when nothing is asked for: ours, the usual baselines, and controls for all of them."""
PUBLISHED = (
    *(f"ws:{a}" for a in ("lora", "dora", "pissa", "delora", "oft", "ia3")), "repe", "prompt:simple", "prompt:engineered",
)  # fmt: skip
"""The methods of the published fork's calibrated tables."""
DRAWS = 5
ALL_DRAWS = 20


@dataclass(frozen=True)
class Needs:
    """What of a study a method is made from, and what another seed changes about it."""

    kin: str
    """Its name without its draw."""
    adapter: str | None = None
    """The family whose two trained sides it is made from."""
    answers: bool = False
    """Whether it is made from the answers of both personas."""
    personas: bool = False
    """Whether it is made from the personas themselves, which a behavior with a data set has not."""
    trains: bool = False
    """Whether it trains two sides of its own instead of those that all methods of the family share."""
    checkpoint: int = 0
    """Which checkpoint of that training it is; 0 is its result."""
    seed: str = "study"
    """`study`: pairs, training or sampling; `draw`: the number in its name; `none`: it is the same for all."""


def needs(name: str) -> Needs:
    """What the method called `name` is made from."""
    line, rest = _found(name)
    if line in ("ws", "ft"):
        at = int(rest[1]) if line == "ft" and rest[1:] else 0
        return Needs(name, rest[0], answers=True, checkpoint=at)
    if line == "random":
        form, _, *like = [*rest, "0"][:2] + rest[2:]
        adapter = random.like_of(form, *like) if form in random.LIKE_DIRECTIONS else None
        answers = adapter is not None or form == "paper"
        personas = form == "constructed" or "single-last" in like
        kin, trains = ":".join([line, form, *like]), form == "labels"
        return Needs(kin, adapter, answers=answers, personas=personas, trains=trains, seed="draw")
    personas = name in ("prompt:simple", "prompt:pairs") or line not in (*SEEDLESS, *FROM_ANSWERS)
    return Needs(
        name, answers=line.startswith("paper:"), personas=personas, seed="none" if line in SEEDLESS else "study"
    )


def places(name: str) -> str:
    """Where a method acts: the random controls of the same places, and no others, are what it stands beside."""
    line, rest = _found(name)
    if line == "random":
        form, _, *like = [*rest, "0"][:2] + rest[2:]
        which = random.like_of(form, *like)
        return "weights" if form in random.LIKE_DIRECTIONS else {"act": "activations"}.get(form, f"{form}:{which}")
    if line == "constructed":
        return f"constructed:{rest[0]}"
    if line in ("ws", "ft", "prompt"):
        return "prompts" if line == "prompt" else "weights"
    return line if line.startswith("paper:") else "activations"


def selection(asked: Sequence[str], *, draws: int | None = None) -> list[str]:
    """Methods by name, each once: `default`, `published`, `all`, names; random ones without a number stand for `draws` of them."""
    if draws is not None and draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    found: list[str] = []
    for word in asked or ("default",):
        group = {"default": DEFAULT, "published": PUBLISHED, "all": names()}.get(word, (word,))
        for name in group:
            form = name.split(":")
            if form[0] == "random" and (word == "all" or len(form) == 2):
                # many of the forms that are controls by default; a few of the others show whether the form matters
                many = ALL_DRAWS if word == "all" and ":".join(form[:2]) in DEFAULT else DRAWS
                found += [":".join([*form[:2], str(k), *form[3:]]) for k in range(draws or many)]
            else:
                found.append(name)
    for name in found:
        check(name)
    return list(dict.fromkeys(found))


def without_texts(chosen: Sequence[str], behavior: Behavior) -> list[str]:
    """Those of a selection that a behavior has no text for: engineered prompts, or personas where it has a data set."""
    return [
        n
        for n in chosen
        if (n == "prompt:engineered" and behavior.engineered is None)
        or (behavior.answers is not None and needs(n).personas)
    ]


def names() -> list[str]:
    """Every method that needs nothing but a study."""
    return [f"{line}:{rest}" if rest else line for line in METHODS for rest in OPEN.get(line, [""])]


def make(name: str, material: Material) -> Method:
    """The method called `name`, made from a study's material."""
    line, rest = _found(name)
    return METHODS[line](material, *rest)


def check(name: str) -> None:
    """Refuse a name that no line can make, before any work."""
    line, rest = _found(name)
    if line in ("ws", "ft") and rest[0] not in FAMILIES:
        raise ValueError(f"there is no adapter {rest[0]!r}; there are {', '.join(FAMILIES)}")
    if line == "ws" and rest[1:] not in ([], *([p] for p in PARTS)):
        raise ValueError(f"a direction is whole or one of {', '.join(PARTS)}; got {name!r}")
    if line == "ft" and rest[1:] and not (len(rest) == 2 and rest[1].isascii() and rest[1].isdigit() and int(rest[1])):
        raise ValueError(
            f"fine-tunes are ft:{rest[0]}, or ft:{rest[0]}:N for the N-th checkpoint from 1 on; got {name!r}"
        )
    if line == "prompt" and rest not in [[k] for k in prompts.KINDS]:
        raise ValueError(f"a prompt is one of {', '.join(prompts.KINDS)}; got {name!r}")
    if line in CHECKS:
        CHECKS[line](*rest)


CHECKS: dict[str, Callable[..., None]] = {
    "random": random.check,
    "constructed": constructed.check,
    "svd": writing.check,
}


def _found(name: str) -> tuple[str, list[str]]:
    parts = name.split(":")
    for cut in range(len(parts), 0, -1):
        line, rest = ":".join(parts[:cut]), parts[cut:]
        if line in METHODS and bool(rest) == (line in OPEN):
            return line, rest
    near = get_close_matches(name, names(), n=2)
    hint = f" Did you mean {' or '.join(near)}?" if near else f" There are {', '.join(names())}."
    raise ValueError(f"there is no method {name!r}.{hint}")
