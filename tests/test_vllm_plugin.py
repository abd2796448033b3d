"""`name@alpha` in stock vLLM: the adapter of a name is exactly the sum it says, and no name reaches beyond the folder."""

import asyncio
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import small
import torch
from safetensors.torch import load_file
from test_steer import lowrank

from ws.direction import Direction, save
from ws.direction.forms import RowScale
from ws.export import export
from ws.models.load import load
from ws.steer import steer
from ws.vllm_plugin import Adapters, Settings, register

BASE_MODEL = "org/base-model"


# What vLLM 0.32.0 has in vllm/lora/resolver.py and vllm/lora/request.py, as far as a resolver meets it.
class LoRAResolver(ABC):
    @abstractmethod
    async def resolve_lora(self, base_model_name, lora_name): ...


class Registry:
    def __init__(self):
        self.resolvers = {}

    def register_resolver(self, resolver_name, resolver):
        self.resolvers[resolver_name] = resolver


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""

    def __post_init__(self):
        assert self.lora_int_id > 0 and self.lora_path


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "base-model"
    small.model("llama", vocabulary=len(tiny.tokenizer)).save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return load(folder)


@pytest.fixture(scope="module")
def directions(base, tmp_path_factory):
    """`a` as an exported adapter, at strength 2 of half the direction; `b` of another rank, as a file of ours."""
    folder = tmp_path_factory.mktemp("directions")
    a, b = lowrank(base, seed=1, rank=2), lowrank(base, seed=2, rank=3, only="q_proj")
    export(0.5 * a, base, folder / "a", to="peft", alphas=[2.0])
    (folder / "b").mkdir()
    save(b, folder / "b" / "direction.safetensors")
    return folder, {"a": a, "b": b}


@pytest.fixture
def vllm(monkeypatch, tmp_path, directions):
    """Start vLLM's stand-in with some variables; what it resolves a name to."""
    resolver, request = ModuleType("vllm.lora.resolver"), ModuleType("vllm.lora.request")
    resolver.LoRAResolver, request.LoRARequest = LoRAResolver, LoRARequest
    monkeypatch.setitem(sys.modules, "vllm.lora.resolver", resolver)
    monkeypatch.setitem(sys.modules, "vllm.lora.request", request)
    monkeypatch.setenv("WS_VLLM_CACHE", str(tmp_path / "cache"))

    def start(**variables):
        for key, value in {"dir": directions[0], **variables}.items():
            monkeypatch.setenv(f"WS_VLLM_{key.upper()}", str(value))
        resolver.LoRAResolverRegistry = Registry()
        register()
        ours = resolver.LoRAResolverRegistry.resolvers["ws"]

        def ask(name):
            found = asyncio.run(ours.resolve_lora(BASE_MODEL, name))
            assert found is None or found.lora_name == name
            return found and Path(found.lora_path)

        return ask

    return start


def changes(folder):
    """The matrix that an adapter adds to each module, as vLLM computes it, in float64."""
    config = json.loads((folder / "adapter_config.json").read_text())
    stored = {
        k.removeprefix("base_model.model."): t.double()
        for k, t in load_file(folder / "adapter_model.safetensors").items()
    }
    scale = config["lora_alpha"] / config["r"]
    modules = {k.rsplit(".", 2)[0] for k in stored}
    assert set(config["target_modules"]) == modules
    assert {t.shape[0] for k, t in stored.items() if "lora_A" in k} == {config["r"]}
    return {m: scale * stored[f"{m}.lora_B.weight"] @ stored[f"{m}.lora_A.weight"] for m in modules}, config["r"]


def matrix(direction, module):
    return sum(f.b.double() @ f.a.double() for f in direction.forms[module]) if module in direction.forms else 0.0


def test_an_adapter_is_the_sum_that_its_name_says_and_ranks_add(vllm, directions):
    a, b = directions[1].values()
    added, rank = changes(vllm()("a@0.5+b@-1"))
    assert rank == 2 + 3
    assert added.keys() == a.forms.keys() > b.forms.keys()
    for module, change in added.items():
        torch.testing.assert_close(change, 0.5 * matrix(a, module) - matrix(b, module), rtol=0, atol=1e-12)
        assert (change - 0.5 * matrix(a, module)).norm() > 0.1 or module not in b.forms


def test_stock_peft_with_the_adapter_is_the_steered_model(vllm, directions, base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(1))
    plain = base.model(input_ids=ids).logits
    with steer(base, 0.35 * directions[1]["a"] - 0.6 * directions[1]["b"], 1.0):
        steered = base.model(input_ids=ids).logits
    fresh = AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(fresh, str(vllm()("a@0.35+b@-0.6"))).eval()(input_ids=ids).logits
    assert (adapted - steered).abs().max() <= 1e-5 * plain.abs().max()
    assert (steered - plain).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["a@0", "a@0.01", "b@0+a@-0.0", "base"])
def test_strength_0_and_the_base_are_an_adapter_of_zeros(vllm, name):
    added, rank = changes(vllm()(name))
    assert rank == 1
    assert not any(change.any() for change in added.values())


def test_a_name_alone_is_strength_1_and_others_are_rounded_to_the_grid(vllm):
    ask = vllm()
    assert ask("a") == ask("a@1") == ask("a@1.02") == ask("a@1+b@0") != ask("a@1.05")
    assert ask("b@0.5+a@0.1") == ask("a@+0.1+b@0.5") != ask("a@0.5+b@0.1")
    fine = vllm(step=0.01)
    assert fine("a@1.02") != fine("a@1")


@pytest.mark.parametrize(
    "name",
    [
        "c@1",
        "",
        "@1",
        "a@1+c@1",
        "a@1+",
        "../directions/a@1",
        "a/@1",
        "/a@1",
        ".@1",
        "..",
        "out@1",
        "inner@1",
        "x" * 5000,
    ],
)
def test_names_that_are_not_of_a_direction_in_the_folder_are_unknown(vllm, tmp_path, directions, name):
    folder = tmp_path / "directions"
    shutil.copytree(directions[0], folder)
    (folder / "out").symlink_to(directions[0] / "a")
    (folder / "inner").mkdir()
    (folder / "inner" / "direction.safetensors").symlink_to(directions[0] / "b" / "direction.safetensors")
    ask = vllm(dir=folder)
    assert ask(name) is None
    assert ask("a@1")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a@x", "numbers from -2 to 2"),
        ("a@nan", "numbers"),
        ("a@2.1", "WS_VLLM_MAX_ALPHA"),
        ("a@1+a@1", "named twice"),
        ("a@1+b@1", "together they have rank 5, and 4"),
        ("scaled@1", "low-rank changes only"),
        ("broken@1", "cannot be read as safetensors"),
        ("a@1+small@1", "different models"),
        ("foreign@1", "made on other-model, and this is org/base-model"),
    ],
)
def test_what_cannot_be_is_unknown_to_the_client_and_the_log_says_why(vllm, tmp_path, directions, caplog, name, why):
    folder = tmp_path / "directions"
    shutil.copytree(directions[0], folder)
    module = next(iter(directions[1]["a"].forms))
    (form,) = directions[1]["a"].forms[module]
    for other, forms in {"scaled": RowScale(torch.ones(8)), "small": type(form)(form.b[:4], form.a)}.items():
        (folder / other).mkdir()
        save(Direction({module: (forms,)}, directions[1]["a"].provenance), folder / other / "direction.safetensors")
    for other in ("foreign", "broken"):
        (folder / other).mkdir()
    save(Direction({module: (form,)}, {"base": {"id": "other-model"}}), folder / "foreign" / "direction.safetensors")
    (folder / "broken" / "direction.safetensors").write_bytes(b"{}")
    ask = vllm(dir=folder, max_rank=4)
    assert ask(name) is None
    assert why in caplog.text
    assert ask("a@2") and not [p for p in (tmp_path / "cache").iterdir() if "incomplete" in p.name]


def test_a_base_that_vllm_calls_otherwise_is_named_by_a_variable(vllm, directions, base):
    assert vllm(base="other-model")("a@1") is None
    other = Adapters(Settings(directions[0], Path(os.environ["WS_VLLM_CACHE"]), base=base.id))
    assert other.folder_of("a@1+b@1", "/models/snapshots/3f2a")


def test_an_adapter_is_written_once_and_again_when_its_direction_changed(vllm, tmp_path, directions):
    folder = tmp_path / "directions"
    shutil.copytree(directions[0], folder)
    first = vllm(dir=folder)("b@1")
    written = (first / "adapter_model.safetensors").stat().st_mtime_ns
    assert vllm(dir=folder)("b@1") == first
    assert (first / "adapter_model.safetensors").stat().st_mtime_ns == written
    save(2.0 * directions[1]["b"], folder / "b" / "direction.safetensors")
    assert vllm(dir=folder)("b@1") != first


def test_the_oldest_adapter_goes_but_none_that_a_server_gave_out(vllm, tmp_path, directions, caplog):
    cache = tmp_path / "cache"
    other = Adapters(Settings(directions[0], cache, keep=2))  # a server beside this one
    theirs = other.folder_of("a@0.5", BASE_MODEL)
    ask = vllm(keep=2)
    mine = ask("a@1")
    assert ask("b@1") is None
    assert "2 adapters are in use" in caplog.text
    assert {p.name for p in cache.iterdir()} == {".lock", theirs.name, mine.name}
    for at in other.held.values():  # it ends
        os.close(at)
    assert ask("b@1").parent == cache
    assert not theirs.exists()
    assert mine.exists() and ask("a@1") == mine


def test_the_entry_point_is_declared_and_costs_nothing_without_its_folder():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    (entry,) = tomllib.loads(text)["project"]["entry-points"]["vllm.general_plugins"].items()
    assert importlib.metadata.EntryPoint(*entry, group="vllm.general_plugins").load() is register
    heavy = "[m for m in ('vllm', 'torch', 'numpy') if m in sys.modules]"
    code = f"import os, sys; os.environ.pop('WS_VLLM_DIR', 0); sys.modules['vllm'] = None; from ws.vllm_plugin import register; register(); del sys.modules['vllm']; print({heavy})"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(
    "variables", [{"dir": "/nowhere"}, {"step": "0"}, {"max_alpha": "nan"}, {"keep": "1.5"}, {"max_rank": "r"}]
)
def test_a_setting_that_cannot_be_meant_stops_the_server_as_it_starts(vllm, variables):
    with pytest.raises(ValueError, match=f"WS_VLLM_{next(iter(variables)).upper()}"):
        vllm(**variables)
