"""What one of several processes does in `test_processes.py`: trains, and writes down what it saw."""

import json
from dataclasses import replace
from pathlib import Path

import architectures as shapes
import torch
import transformers as tf
from models.test_experts import direction_on
from safetensors.torch import save_file
from test_tracking import Fake
from test_train import PAIRS, quick
from torch.distributed.tensor import DTensor

import ws.train
from ws.direction import Direction
from ws.direction.forms import LowRank, RowScale
from ws.errors import BadFile, Unsupported
from ws.models.load import load
from ws.models.modules import blocks_of, sizes
from ws.models.tiny import FOLDER
from ws.steer import steer
from ws.train import checkpoint
from ws.train.loop import Fit
from ws.train.processes import join, spread
from ws.train.tracking import TRACKERS, UNTRACKED, Tracking

FAMILIES = ("lora", "dora", "pissa", "delora", "bias")
QUESTION = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
SETTINGS = {name: quick(name, epochs=2, eval_every=2, lr=(2e-3,)) for name in FAMILIES}


def run(out: Path, shard: bool) -> None:
    torch.set_num_threads(1)
    group = join(cpu=True, shard=shard)
    seen = {"rank": group.rank, "size": group.size, "histories": {}}
    for name in FAMILIES if shard else FAMILIES[:2]:
        settings = SETTINGS[name]
        base = load("tiny")  # a sharded base is good for one training
        sides = ws.train(base, PAIRS, settings, group=group, rows_at_once=1 if name == "dora" else None)
        seen["histories"][name] = sides.report["tried"][0]["history"]
        flat = {f"{side}/{k}": t for side, a in zip(("pos", "neg"), sides) for k, t in a.tensors.items()}
        save_file({k: t.contiguous() for k, t in flat.items()}, out / f"{name}-{group.rank}.safetensors")
        if name == "lora":
            spread = {n: p for n, p in base.model.named_parameters() if "lora_" not in n}
            seen["dtensors"] = sum(isinstance(p, DTensor) for p in spread.values())
            seen["parameters"] = len(spread)
            local = [p.to_local() if isinstance(p, DTensor) else p for p in spread.values()]
            seen["held"] = sum(p.numel() for p in local) / sum(p.numel() for p in spread.values())
    if shard:
        stopped(out, group, seen)
        seen |= split(group)
        seen["experts"] = experts_apart(group)
    else:
        tracked(group, seen)
    (out / f"{group.rank}.json").write_text(json.dumps(seen))
    group.wait()
    torch.distributed.destroy_process_group()


def tracked(group, seen: dict) -> None:
    """Two learning rates with a tracker, which ends its run in between while the group goes on."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    TRACKERS["wandb"], LOGGER_TYPE_TO_CLASS["wandb"] = "json", Fake
    tracking = Tracking(["wandb"]) if group.main else UNTRACKED
    sides = ws.train(load("tiny"), PAIRS, quick(lr=(1e-3, 2e-3), epochs=1), group=group, tracking=tracking)
    seen["tried"] = [t["history"] for t in sides.report["tried"]]
    seen["told"] = [run.rows for run in Fake.runs if run.finished]


def split(group) -> dict:
    """How far a model that is spread over the processes, steered by hook, is from the whole one; and what is refused."""
    base = load("tiny")
    g = torch.Generator().manual_seed(0)
    low = {
        n: LowRank(0.1 * torch.randn(o, 2, generator=g), torch.randn(2, i, generator=g)) for n, (o, i) in _sizes(base)
    }
    scale = {n: RowScale(torch.full((o,), 0.1)) for n, (o, _) in _sizes(base)}
    made = [Direction({n: (f,) for n, f in forms.items()}, {"base": base.described()}) for forms in (low, scale)]
    plain = base.model(QUESTION).logits
    whole = [_steered(base, base.model, d) for d in made]
    spread(blocks_of(base.model)[1], base.model, [], group.device)
    # a bare network is recognised by its weights, which all processes gather together
    apart = [(_steered(by, base.model, d) - w).abs().max() for by in (base, base.model) for d, w in zip(made, whole)]
    cut = tf.AutoModelForCausalLM.from_pretrained(FOLDER, tp_plan="auto")
    refused = {}
    for name, model, fold in (("fold", base, True), ("cut", cut, False)):
        try:
            with steer(model, made[0], 1.0, fold=fold):
                refused[name] = ""
        except Unsupported as e:
            refused[name] = str(e)
    return {"split": float(max(apart)), "moved": float((whole[0] - plain).abs().max()), "refused": refused}


def experts_apart(group) -> dict:
    """The same of the experts of a mixture, for one strength and for one per row."""
    base, ways = shapes.base("mixtral"), (0.7, [0.7, 0.0, -0.4])
    d, plain = direction_on(base), shapes.logits(base.model)
    whole = [_experts_steered(base, d, alpha) for alpha in ways]
    spread(blocks_of(base.model)[1], base.model, [], group.device)
    off = [(_experts_steered(base, d, alpha) - w).abs().max() for alpha, w in zip(ways, whole)]
    return {"split": float(max(off)), "moved": float((whole[0] - plain).abs().max())}


def _experts_steered(base, direction, alpha):
    with steer(base, direction, alpha):
        return shapes.logits(base.model)


def _sizes(base):
    return [(n, sizes(x.module)) for n, x in base.linears.items()]


@torch.no_grad()
def _steered(by, network, direction):
    with steer(by, direction, [0.5, -1.0]):
        return network(QUESTION).logits


def stopped(out: Path, group, seen: dict) -> None:
    """A training that every process leaves after its second checkpoint, and goes on with."""
    checkpoint.CHECKPOINT_SECONDS = 0.0
    judge, calls = Fit._judge, []

    def leaving(self, side, name):
        calls.append(name)
        if calls.count("pos") == 4:
            raise KeyboardInterrupt
        return judge(self, side, name)

    Fit._judge = leaving
    settings = replace(SETTINGS["lora"], eval_every=1)
    try:
        ws.train(load("tiny"), PAIRS, settings, group=group, work=out / "work")
    except KeyboardInterrupt:
        group.wait()
    seen["saved"] = len(list((out / "work" / "resume").glob("*")))
    resumed = ws.train(load("tiny"), PAIRS, settings, group=group, work=out / "work")
    seen["judged"] = calls.count("pos")
    Fit._judge = judge
    whole = ws.train(load("tiny"), PAIRS, settings, group=group)
    seen["same"] = all(torch.equal(t, b.tensors[k]) for a, b in zip(whole, resumed) for k, t in a.tensors.items())
    try:  # not every machine sees the folder
        ws.train(load("tiny"), PAIRS, settings, group=group, work=out / ("work" if group.main else "elsewhere"))
    except BadFile as e:
        seen["apart"] = str(e)
