"""Fine-tunes of experts are watched as those of any matrix are: angles, adapters on disk and in training, what they write most."""

import warnings

import architectures as shapes
import pytest
import torch
from models.test_experts import stacks_by_name
from peft import get_peft_model

from ws.adapters import FAMILIES, Adapter, direction_of, save_adapter
from ws.adapters.family import peft_names, renamed
from ws.behaviors import load_behavior
from ws.direction.direction import cosine
from ws.export import export
from ws.models.checkpoint import open_checkpoint
from ws.models.load import load
from ws.train import TrainSettings, spec_of
from ws.watch import Change, angles, opened
from ws.watch.changes import of_direction
from ws.watch.detectors import Case, Probe
from ws.watch.detectors.svd_watch import _singular
from ws.watch.live import Meter
from ws.watch.nulls import Watched

ON = TrainSettings(rank=2, layers="all", targets=("experts", "o_proj"))


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return shapes.folder("gpt-oss", tmp_path_factory.mktemp("base") / "gpt-oss", tiny.tokenizer)


@pytest.fixture(scope="module")
def base(folder):
    return load(folder)


def a_side(base, seed, start=0):
    """A trained side, with the readers of a start."""
    spec = spec_of(base, ON)
    with FAMILIES["lora"].attached(base, spec, start) as fresh:
        tensors = fresh.state()
    g = torch.Generator().manual_seed(seed)
    tensors = {k: t if "lora_A" in k else 0.1 * torch.randn(t.shape, generator=g) for k, t in tensors.items()}
    return Adapter(spec, tensors, base=base.described())


def test_angles_over_experts_are_those_of_all_their_matrices_and_a_shared_start_shows(base):
    made = [direction_of(FAMILIES["lora"], base, a_side(base, s, start)) for s, start in ((0, 0), (1, 0), (2, 9))]
    a, b, c = (Change(str(k), d.forms) for k, d in enumerate(made))
    table = angles([a], [b, c], base, draws=8)
    for at, other in enumerate(made[1:]):
        flat = [torch.cat([d.dense(n, base.weight).flatten() for n in d.forms]).double() for d in (made[0], other)]
        wanted = torch.nn.functional.cosine_similarity(*flat, dim=0)
        assert float(table.cos()["all"][0, at]) == pytest.approx(float(wanted), abs=1e-9)
    assert float(table.norms()["all"][0]) == pytest.approx(made[0].norm())
    assert (table.mode(0, 0), table.mode(0, 1)) == ("shared", "independent")
    assert table.random_cos()["all"][0, 0].abs().max() < 0.3


def test_an_adapter_of_experts_on_disk_is_watched_module_by_module_ours_and_stock_peft_s(base, folder, tmp_path):
    side = a_side(base, 0)
    whole = direction_of(FAMILIES["lora"], base, side)
    save_adapter(side, tmp_path / "ours", base)
    export(whole.to(dtype=torch.float32), base, tmp_path / "stock", to="peft", alphas=[1.0])
    theta = open_checkpoint(folder)
    for place in ("ours", "stock"):
        (change,) = opened(str(tmp_path / place), theta, tmp_path)
        assert change.forms.keys() == whole.forms.keys() >= set(stacks_by_name(base))
        again = change.direction(theta)
        assert cosine(again, whole.to(dtype=torch.float32)) == pytest.approx(1, abs=1e-6)
        assert again.norm() == pytest.approx(whole.norm(), rel=1e-5)
    watched = of_direction("it", whole, theta)
    assert float(angles([change], [watched], theta).cos()["all"][0, 0]) == pytest.approx(1, abs=1e-6)


def test_a_training_of_experts_is_measured_while_it_runs(base, folder):
    theta, spec = open_checkpoint(folder), spec_of(base, ON)
    side = a_side(base, 0)
    own = Watched(of_direction("own", direction_of(FAMILIES["lora"], base, side), theta))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft, about transformers (2026-11)
        network = get_peft_model(
            shapes.network("gpt-oss", vocabulary=len(base.tokenizer), whole=True),
            FAMILIES["lora"].peft_config(spec, base),
        )
    meter = Meter(theta, [own])
    assert meter.measure(network, 1)["norm"] == 0
    stored = {f"{m}.{p}": t for m, ts in side.by_module.items() for p, t in ts.items()}
    names = {peft: m for m, peft in peft_names(base, spec.modules).items()}
    for name, p in network.named_parameters():
        if "lora_" in name:
            p.data.copy_(stored[renamed(name.removeprefix("base_model.model.").replace(".default", ""), names)])
    row = meter.measure(network, 2)
    assert row["own cos"] == pytest.approx(1, abs=1e-6) and row["own alphas"] == pytest.approx(1, rel=1e-5)


def test_what_every_expert_came_to_write_most_is_watched_in_the_activations(base):
    tau = direction_of(FAMILIES["lora"], base, a_side(base, 0))
    behavior = load_behavior("honesty", tiny=True)
    watched = _singular(tau, Case(Probe(base, behavior, behavior), Change("it", tau.forms)))
    assert watched
    for block, columns in watched.items():
        (name,) = [n for n in tau.forms if n.startswith(f"{block}.") and n.endswith("experts.down_proj")]
        first = torch.stack([torch.linalg.svd(m)[0][:, 0] for m in tau.dense(name, base.weight)])
        found = (first.double() @ columns).abs().max(1).values
        torch.testing.assert_close(found, torch.ones(4).double(), atol=1e-4, rtol=0)
