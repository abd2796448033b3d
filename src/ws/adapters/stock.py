"""Adapters that other people trained: stock peft folders, read as data.

The config is parsed strictly and never executed. LoRA, rsLoRA, DoRA, PiSSA, DeLoRA, OFT (the default series), BOFT (factor
1) and IA3 are understood; anything that would change the result in a way not held here is refused by name.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ws.adapters.families import USUAL, family
from ws.adapters.family import Adapter, Spec, peft_names, renamed, sizes
from ws.adapters.oft import TERMS
from ws.direction.forms import LowRank, all_finite
from ws.errors import BadFile, DirectionMismatch, Unsupported
from ws.models.checkpoint import Theta
from ws.types import Json

LARGEST_RANK = 512
HARMLESS = {  # keys of a config that name, place or start an adapter, or act only while it is trained
    *("peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision"),
    *("inference_mode", "runtime_config", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("fan_in_fan_out", "lora_dropout", "module_dropout", "boft_dropout"),
    *("init_weights", "init_lora_weights", "init_ia3_weights", "loftq_config", "eva_config", "corda_config"),
    *("lora_ga_config", "megatron_core", "ephemeral_gpu_offload", "feedforward_modules", "bias"),
    *("target_parameters", "r", "lora_alpha", "use_rslora", "use_dora", "lora_bias", "delora_lambda", "eps"),
    *("oft_block_size", "use_cayley_neumann", "num_cayley_neumann_terms", "coft", "block_share"),
    *("boft_block_size", "boft_block_num", "boft_n_butterfly_factor"),
}
PARAMETERS = {
    "lora": {"lora_A.weight", "lora_B.weight"},
    "pissa": {"lora_A.weight", "lora_B.weight"},
    "dora": {"lora_A.weight", "lora_B.weight", "lora_magnitude_vector"},
    "delora": {"delora_A", "delora_B", "delora_lambda", "delora_w_norm"},
    "oft": {"oft_R.weight"},
    "boft": {"boft_R", "boft_s"},
    "ia3": {"ia3_l"},
}
NAMES = {"DELORA": "delora", "OFT": "oft", "BOFT": "boft", "IA3": "ia3"}
PARAMETER = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+?)\.(?P<parameter>lora_[AB]\.weight|lora_magnitude_vector(?:\.weight)?|delora_A|"
    r"delora_B|delora_lambda|delora_w_norm|oft_R\.weight|boft_R|boft_s|ia3_l)$"
)


def load_stock(folder: Path | str, base: Theta) -> Adapter:
    """A stock peft adapter folder, on the base it was made for."""
    folder = Path(folder)
    return adapter_of(_config(folder), _stored(folder), base, folder)


def plain_lora(folder: Path | str) -> dict[str, LowRank]:
    """The change of each module that a plain LoRA makes, read without the base it was made for."""
    folder = Path(folder)
    config = _config(folder)
    if config.get("target_parameters"):
        raise Unsupported(
            f"{folder}: target_parameters = {config['target_parameters']!r} puts an adapter on experts, which is read beside its base "
            "alone; export the direction with `to=merged`."
        )
    _refuse_more(folder, config)
    name, settings = _spec(folder, config)
    if name != "lora":
        raise Unsupported(f"{folder} is a {name} adapter, and only a plain LoRA can be read without its base.")
    _all_known(folder, config)
    tensors, modules = _named(folder, _stored(folder))
    if tensors.keys() != {f"{m}.lora_{side}.weight" for m in modules for side in "AB"}:
        raise BadFile(f"{folder}: its tensors are not two factors of each module.")
    scale = settings["lora_alpha"] / settings["rank"]
    low_ranks = {
        m: (tensors[f"{m}.lora_B.weight"].double() * scale, tensors[f"{m}.lora_A.weight"].double()) for m in modules
    }
    for module, (b, a) in low_ranks.items():
        if a.ndim != 2 or b.ndim != 2 or not a.shape[0] == b.shape[1] == settings["rank"]:
            raise BadFile(f"{folder}: the factors of {module} are not of rank {settings['rank']}.")
    return {m: LowRank(*factors) for m, factors in low_ranks.items()}


def adapter_of(config: Json, raw: Mapping[str, torch.Tensor], base: Theta, folder: Path | str) -> Adapter:
    """An adapter of its config and tensors, as peft names both; `folder` is what errors call it.

    What peft has in memory is read by this as well as a folder is.
    """
    folder = Path(folder)
    _refuse_more(folder, config)
    name, sizes = _spec(folder, config)
    _all_known(folder, config)
    tensors, modules = _named(folder, raw)
    names = _experts(folder, config, base)
    tensors, modules = {renamed(k, names): t for k, t in tensors.items()}, {names.get(m, m) for m in modules}
    if missing := sorted(modules - base.linears.keys() - set(names.values())):
        raise DirectionMismatch(
            f"{folder}: {len(missing)} of its {len(modules)} modules are not linear layers of {base.id}, e.g. {missing[:3]}."
        )
    if names and name != USUAL:
        raise Unsupported(f"{folder}: on experts that lie in one tensor only {USUAL} is read, and this is {name}.")
    spec = Spec(name, tuple(sorted(modules)), **sizes)
    for module, own in Adapter(spec, tensors).by_module.items():
        if own.keys() != PARAMETERS[name]:
            raise BadFile(f"{folder}: {module} has {sorted(own)}, and a {name} adapter has {sorted(PARAMETERS[name])}.")
    start = {}
    if name == "pissa":
        of = family(name)
        assert of.start is not None
        start = of.start(base, spec)
    wrong = [k for k, t in tensors.items() if not _fits(k, t, base, spec)]
    if wrong:
        raise DirectionMismatch(
            f"{folder}: {wrong[0]} is {tuple(tensors[wrong[0]].shape)}, which does not fit {base.id}."
        )
    provenance = {"source": "peft", "folder": folder.name, "peft_version": config.get("peft_version")}
    return Adapter(spec, tensors, start, base.described(), provenance)


def _experts(folder: Path, config: Json, base: Theta) -> dict[str, str]:
    """peft's name of each tensor of experts that a config names, to ours."""
    targets = config.get("target_parameters") or []
    stacks = [n for n in base.layers if n not in base.linears]
    found = [n for n in stacks if any(n == t or n.endswith(f".{t}") for t in targets)]
    if odd := [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in found)]:
        raise DirectionMismatch(f"{folder}: target_parameters names {odd[0]}, which are no experts of {base.id}.")
    return {peft: name for name, peft in peft_names(base, found).items()}


def _config(folder: Path) -> Json:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise BadFile(f"{folder} holds no adapter_config.json, so it is no peft adapter.")
    try:
        config = json.loads(path.read_text())
        assert isinstance(config, dict)
    except (ValueError, AssertionError):
        raise BadFile(f"{path} is not a JSON object.") from None
    return config


def _refuse_more(folder: Path, config: Json) -> None:
    """Refuse an adapter that changes more than linear layers, or them in another way than by its own tensors."""
    path = folder / "adapter_config.json"
    for key in ("modules_to_save", "rank_pattern", "alpha_pattern", "trainable_token_indices", "layer_replication"):
        if config.get(key):
            raise Unsupported(
                f"{path}: {key} = {config[key]!r} changes the model in a way a direction does not hold here."
            )
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        raise Unsupported(f"{path}: an adapter that also trains biases is not supported.")


def _all_known(folder: Path, config: Json) -> None:
    """Refuse a setting that is not known here: it could change the result. Values that peft writes by default are accepted."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CLASSES

    kind = next((c for t, c in CLASSES.items() if t == str(config.get("peft_type", "")).upper()), None)
    usual = {} if kind is None else {f.name: f.default for f in fields(kind)}
    for key, value in config.items():
        if key not in HARMLESS and value and value != usual.get(key):
            raise Unsupported(f"{folder}: {key} = {value!r} is not understood, and could change what the adapter does.")


def _spec(folder: Path, config: Json) -> tuple[str, Json]:
    kind = str(config.get("peft_type", "")).upper()
    if kind == "LORA":
        rank, scale = config.get("r"), config.get("lora_alpha")
        if not isinstance(rank, int) or not 1 <= rank <= LARGEST_RANK or not isinstance(scale, (int, float)):
            raise BadFile(
                f"{folder}: r = {rank!r} and lora_alpha = {scale!r} are no rank (1 to {LARGEST_RANK}) and scale."
            )
        if config.get("use_rslora"):
            scale = scale * math.sqrt(rank)  # lora_alpha / sqrt(r), written as lora_alpha' / r
        init = config.get("init_lora_weights", True)
        if init not in (True, False, "gaussian", "pissa"):
            raise Unsupported(
                f"{folder}: init_lora_weights = {init!r} moves the base in a way that cannot be found again."
            )
        if config.get("use_dora") and init == "pissa":
            raise Unsupported(f"{folder}: DoRA on a PiSSA start is not supported.")
        name = "dora" if config.get("use_dora") else "pissa" if init == "pissa" else "lora"
        return name, {"rank": rank, "lora_alpha": float(scale)}
    if kind not in NAMES:
        raise Unsupported(f"{folder}: peft_type {kind!r} is not supported; there are LORA, {', '.join(NAMES)}.")
    if kind == "DELORA":
        rank, size = config.get("r"), config.get("delora_lambda", 15)
        if not isinstance(rank, int) or not 1 <= rank <= LARGEST_RANK or not isinstance(size, (int, float)):
            raise BadFile(
                f"{folder}: r = {rank!r} and delora_lambda = {size!r} are no rank (1 to {LARGEST_RANK}) and size."
            )
        return "delora", {"rank": rank, "delora_lambda": float(size)}
    if kind == "OFT":
        if config.get("use_cayley_neumann") is not True or config.get("num_cayley_neumann_terms", TERMS) != TERMS:
            raise Unsupported(f"{folder}: OFT is read with peft's default series of {TERMS} terms only.")
        if config.get("coft") or config.get("block_share"):
            raise Unsupported(f"{folder}: OFT with coft or block_share is not supported.")
        return "oft", {"block_size": int(config.get("oft_block_size", 0))}
    if kind == "BOFT" and config.get("boft_n_butterfly_factor", 1) != 1:
        raise Unsupported(f"{folder}: BOFT is read with butterfly factor 1 only.")
    return NAMES[kind], {"block_size": int(config.get("boft_block_size", 0))} if kind == "BOFT" else {}


def _stored(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        pickled = " It holds a pickle, and no pickle is ever loaded." if list(folder.glob("adapter_model.bin")) else ""
        raise BadFile(f"{folder} holds no adapter_model.safetensors.{pickled}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as e:
        raise BadFile(f"{path} cannot be read as safetensors ({str(e)[:80]}).") from None


def _named(folder: Path, raw: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], set[str]]:
    """The tensors as a `Spec` names them, and the modules they belong to."""
    path = folder / "adapter_model.safetensors"
    tensors, modules = {}, set()
    for key, t in raw.items():
        match = PARAMETER.match(key)
        if match is None:
            raise Unsupported(f"{path}: the tensor {key!r} belongs to no adapter that is understood here.")
        if not t.is_floating_point():
            raise BadFile(f"{path}: {key} holds {str(t.dtype).removeprefix('torch.')} and not floating-point numbers.")
        if not all_finite(t):
            raise BadFile(f"{path}: {key} holds values that are not finite.")
        tensors[own_name(key)] = t
        modules.add(match["module"])
    if not tensors:
        raise BadFile(f"{path} holds no tensors.")
    return tensors, modules


def own_name(key: str) -> str:
    """The name of a stored tensor without what peft puts around it."""
    return key.removeprefix("base_model.model.").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def _fits(key: str, t: torch.Tensor, base: Theta, spec: Spec) -> bool:
    match = PARAMETER.match(key)
    assert match is not None
    *experts, out_features, in_features = sizes(base.layers[match["module"]].module)
    ranks = math.prod(experts) * (spec.rank or 0)
    shape = {
        "lora_A.weight": (ranks, in_features),
        "lora_B.weight": (out_features, ranks),
        "lora_magnitude_vector": (out_features,),
        "delora_A": (spec.rank, in_features),
        "delora_B": (out_features, spec.rank),
        "delora_w_norm": (in_features,),
    }.get(key.removeprefix(match["module"] + "."))
    return shape is None or tuple(t.shape) == shape
