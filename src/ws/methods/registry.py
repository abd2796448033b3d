"""All ways of steering by name: one line each. A new one is one file and one line here, or an entry point of another
distribution (docs/extending.md).

`make("sl:pca", material)` makes the method; what follows a name's own colon goes to its maker as text, so that
`random:gauss:3` is the line `random` with ("gauss", "3").
"""

from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from torch import Tensor

from ws.adapters import FAMILIES, USUAL, small
from ws.behaviors import Behavior
from ws.diff import diff
from ws.errors import BadFile, Unsupported
from ws.extensions import Registry
from ws.methods import constructed, parts, prompts, random, signed
from ws.methods.activation import (
    ablation,
    clusters,
    gated,
    imported,
    paper,
    post_block,
    sspace,
    transport,
    turning,
    vectors,
    writing,
)
from ws.methods.activation.method import Activation, Add, block_name
from ws.methods.maker import PERSONAS, Maker, Needs, added, edited
from ws.methods.material import Material
from ws.methods.method import Method
from ws.methods.weights import Weights, bisector
from ws.presets import PUBLISHED_METHODS

PARTS = ("tau+", "tau-", "bisector")


def trained(material: Material, *ending: str) -> Method:
    """The direction of a study, one side of it, or a part by what stands after the slash."""
    head, _, variant = ":".join(ending).partition("/")
    if variant:
        made = trained(material, *head.split(":"))
        assert isinstance(made, Weights)
        return Weights(f"{made.name}/{variant}", parts.part(material, made.direction, variant))
    adapter, _, mode = head.partition(":")
    mode = mode or "contrastive"
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
                f"{name} is checkpoint {at} of a training that has {len(sides.checkpoints)}; train with `checkpoints={at}` or more."
            )
        sides = sides.checkpoints[at - 1]
    plus, minus = (diff(material.base, *sides, mode=m) for m in ("tau+", "tau-"))
    return Weights(name, plus, below=minus, largest=1.0)


def in_singular_space(material: Material) -> Method:
    names = sspace.writers(material.base, material.layers)
    states, base = material.states(names), material.base
    edits = {n: sspace.sspace_w(states.pos[n], states.neg[n], base.weight(n), base.bias(n)) for n in names}
    return Activation("sl:sspace_w", edits, provenance=material.made("train", pool="last"))


def one_layer(pool: str, name: str) -> Callable[[Material], Method]:
    def choose(material: Material) -> Method:
        names = paper.hidden_names(material.base)
        a = paper.mean_differences(material.states(names, pool), names)
        best = paper.single_layer(material.base, a, name, material.held_pairs(), material.blocks)
        choice = {k: best.provenance[k] for k in ("block", "effects")}
        return Activation(
            name, best.edits, best.positions, provenance=material.made("train", "val", pool=pool, **choice)
        )

    def make(material: Material) -> Method:
        """Once for a study: a choice among the layers takes as long as a training."""
        settings = material.settings_of(USUAL)
        how = {
            "protocol": paper.CHOICE,
            "pool": pool,
            "behavior": None if material.behavior is None else material.behavior.content_hash,
            "split": {k: getattr(settings, k) for k in ("seed", "val_share", "test_share")},
            **{k: getattr(material, k) for k in ("layers", "items", "seed")},
        }
        return material.once(name, how, lambda: choose(material))

    return make


def every_layer(name: str, *, as_code: bool) -> Callable[[Material], Method]:
    def make(material: Material) -> Method:
        names = paper.hidden_names(material.base)
        a = paper.mean_differences(material.states(names, "response_mean"), names)
        method = paper.all_layers(material.base, a, name, as_code=as_code)
        return Activation(
            name, method.edits, method.positions, provenance=material.made("train", pool="response_mean", layers="all")
        )

    return make


def in_written_space(material: Material, rank: str) -> Method:
    states, base = material.states(material.block_names), material.base
    matrices: dict[str, list[Tensor]] = {}
    for name in sspace.writers(base, material.layers):
        matrices.setdefault(block_name(base, base.linears[name].block), []).append(base.weight(name))
    steps = {n: vectors.mean_diff(states.pos[n], states.neg[n]) for n in material.block_names}
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


# ---------------------------------------------------------------- what they need, and which endings there are


def _of_training(adapter: str, *part: str) -> Needs:
    return Needs(adapter=adapter.partition("/")[0], answers=True, places="weights")


def _of_checkpoint(adapter: str, checkpoint: str = "0") -> Needs:
    return Needs(adapter=adapter, answers=True, checkpoint=int(checkpoint), places="weights")


def _of_texts(which: str) -> Needs:
    return Needs(personas=which in ("simple", "pairs"), seed="none", places="prompts")


def _of_construction(which: str, *draw: str) -> Needs:
    return Needs(personas=True, places=f"constructed:{which}")


def _of_answers(name: str, *, personas: bool = False) -> Needs:
    return Needs(answers=True, personas=personas, places=name)


def _check_part(*ending: str) -> None:
    whole, slash, variant = ":".join(ending).partition("/")
    if slash:
        parts.check(variant)
    adapter, *rest = whole.split(":")
    part = tuple(rest)
    _check_family(adapter)
    if part not in ((), *((p,) for p in PARTS)):
        raise ValueError(f"a direction is whole or one of {', '.join(PARTS)}; got {':'.join(['ws', adapter, *part])!r}")


def _check_checkpoint(adapter: str, *checkpoint: str) -> None:
    _check_family(adapter)
    if checkpoint and not (len(checkpoint) == 1 and _is_number(checkpoint[0]) and int(checkpoint[0])):
        raise ValueError(
            f"fine-tunes are ft:{adapter}, or ft:{adapter}:N for the N-th checkpoint from 1 on; got "
            f"{':'.join(['ft', adapter, *checkpoint])!r}"
        )


def _check_family(adapter: str) -> None:
    if adapter not in FAMILIES:
        raise ValueError(f"there is no adapter {adapter!r}; there are {', '.join(FAMILIES)}")


def _check_prompt(*which: str) -> None:
    if which not in [(k,) for k in prompts.KINDS]:
        raise ValueError(f"a prompt is one of {', '.join(prompts.KINDS)}; got {':'.join(['prompt', *which])!r}")


def _check_file(*path: str) -> None:
    if not Path(":".join(path)).is_file():
        raise BadFile(f"there is no file {':'.join(path)}.")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _directions() -> list[str]:
    return [":".join([a, *part]) for a in small() for part in ([], *([p] for p in PARTS))]


def _ranks() -> list[str]:
    return [str(r) for r in writing.RANKS]


# ---------------------------------------------------------------- the lines

OF_A_FILE = Needs(seed="none")
SHIPPED: dict[str, Maker] = {
    "ws": Maker(trained, _of_training, _directions, _check_part),
    "ft": Maker(finetuned, _of_checkpoint, small, _check_checkpoint),
    "signed": Maker(
        signed.make,
        Needs(adapter=USUAL, answers=True, trains=True, places="weights"),
        lambda: (USUAL,),
        signed.check,
    ),
    "prompt": Maker(
        lambda material, which: prompts.of_behavior(material.known, which),
        _of_texts,
        lambda: prompts.KINDS,
        _check_prompt,
    ),
    "repe": added("repe", vectors.pca),
    "repe_centred": added("repe_centred", vectors.pca_centred),
    "paper:single": Maker(one_layer("response_mean", "paper:single"), _of_answers("paper:single")),
    "paper:single-last": Maker(one_layer("last", "paper:single-last"), _of_answers("paper:single-last", personas=True)),
    "paper:all": Maker(every_layer("paper:all", as_code=False), _of_answers("paper:all")),
    "paper:all-code": Maker(every_layer("paper:all-code", as_code=True), _of_answers("paper:all-code")),
    post_block.NAME: Maker(post_block.make, Needs(answers=True)),
    "sl:mean_diff": added("sl:mean_diff", vectors.mean_diff),
    "sl:mean_centred": added("sl:mean_centred", vectors.mean_centred),
    "sl:pca": added("sl:pca", vectors.pca),
    "sl:pca_centred": added("sl:pca_centred", vectors.pca_centred),
    "sl:sspace_act": added("sl:sspace_act", vectors.sspace_act),
    "sl:sspace_w": Maker(in_singular_space, PERSONAS),
    "sl:topk_clusters": edited("sl:topk_clusters", clusters.topk_clusters),
    "sl:cosine_gated": edited("sl:cosine_gated", gated.cosine_gated),
    "sl:directional_ablation": edited("sl:directional_ablation", ablation.directional_ablation),
    "sl:angular": edited("sl:angular", turning.angular),
    "sl:spherical": edited("sl:spherical", turning.spherical),
    "sl:linear_act": edited("sl:linear_act", transport.linear_act),
    "sl:chars": edited("sl:chars", transport.chars),
    "svd": Maker(in_written_space, PERSONAS, _ranks, writing.check),
    "constructed": Maker(constructed.make, _of_construction, lambda: constructed.LISTED, constructed.check),
    "random": Maker(at_random, random.needs, lambda: random.LISTED, random.check),
    "gguf": Maker(
        lambda material, *path: imported.from_gguf(material.base, ":".join(path)), OF_A_FILE, tuple, _check_file
    ),
    "vectors": Maker(
        lambda material, *path: imported.from_safetensors(material.base, ":".join(path)), OF_A_FILE, tuple, _check_file
    ),
}
METHODS: Registry[Maker] = Registry("ws.methods", Maker, SHIPPED)
DEFAULT = (
    "ws:lora",
    "prompt:simple",
    "prompt:engineered",
    "repe",
    "paper:all",
    "sl:mean_diff",
    "random:spectrum",
    "random:act",
    "random:paper",
)
"""What a comparison takes when nothing is asked for: ours, the usual baselines, and controls for all of them."""
DRAWS = 5
ALL_DRAWS = 20


def needs(name: str) -> Needs:
    """The needs of the method called `name`: what it is made from, and where it acts."""
    line, ending = _parts(name)
    return METHODS[line].needs_of(name, ending)


def is_name(name: str) -> bool:
    """Whether some line makes a method of this name."""
    return _parts_or_none(name) is not None


def is_control(name: str) -> bool:
    """True for the name of a random draw; a name that no line makes is none."""
    parts = _parts_or_none(name)
    return parts is not None and METHODS[parts[0]].needs_of(name, parts[1]).control


def places(name: str) -> str:
    """The places where a method acts: it is compared with the random controls of the same places, and with no others."""
    return needs(name).places


def selection(words: Sequence[str], *, draws: int | None = None) -> list[str]:
    """Methods by name, each once: `default`, `published`, `all`, names; random ones without a number stand for `draws` of them."""
    if draws is not None and draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    if twice := [word for word, n in Counter(words).items() if n > 1]:
        raise ValueError(f"`methods` names {twice[0]!r} twice; it is measured once for every seed, so name it once")
    chosen: list[str] = []
    for word in words or ("default",):
        group = {"default": DEFAULT, "published": PUBLISHED_METHODS, "all": names()}.get(word, (word,))
        for name in group:
            form = name.split(":")
            if form[0] == "random" and (word == "all" or len(form) == 2):
                # many of the forms that are controls by default; a few of the others show whether the form matters
                many = ALL_DRAWS if word == "all" and ":".join(form[:2]) in DEFAULT else DRAWS
                chosen += [":".join([*form[:2], str(k), *form[3:]]) for k in range(draws or many)]
            else:
                chosen.append(name)
    for name in chosen:
        check(name)
    return list(dict.fromkeys(chosen))


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
    return [
        f"{line}:{ending}" if ending else line
        for line, maker in METHODS.items()
        for ending in ([""] if maker.endings is None else maker.endings())
    ]


def make(name: str, material: Material) -> Method:
    """The method called `name`, made from a study's material."""
    line, ending = _parts(name)
    return METHODS[line].make(material, *ending)


def check(name: str) -> None:
    """Refuse a name that no line can make, before any work."""
    line, ending = _parts(name)
    METHODS[line].check(*ending)


def _parts(name: str) -> tuple[str, list[str]]:
    """The line that makes a name, and the parts of its ending."""
    if (parts := _parts_or_none(name)) is not None:
        return parts
    if near := get_close_matches(name, names(), n=2):
        raise ValueError(f"there is no method {name!r}. Did you mean {' or '.join(near)}?")
    lines = ", ".join(line if maker.endings is None else f"{line}:..." for line, maker in METHODS.items())
    raise ValueError(f"there is no method {name!r}. There are {lines}.")


def _parts_or_none(name: str) -> tuple[str, list[str]] | None:
    parts = name.split(":")
    for cut in range(len(parts), 0, -1):
        line, ending = ":".join(parts[:cut]), parts[cut:]
        if line in METHODS and bool(ending) == (METHODS[line].endings is not None):
            return line, ending
    return None
