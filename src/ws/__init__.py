"""Weight steering: a behavior as a direction in weight space, and the dial to turn it by.

base = ws.load("tiny")
pairs = ws.data(base, behavior="honesty")
pos, neg = ws.train(base, pairs, adapter="lora")
direction = ws.diff(base, pos, neg)
with ws.steer(base, direction, alpha=-1.0):
    print(ws.generate(base, "What is the capital of Kenya?"))

Each name below is imported when it is first asked for, so that `ws --help` need not wait for torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same list again, for type checkers and editors
    from ws.adapters import Adapter as Adapter
    from ws.behaviors import Behavior as Behavior
    from ws.behaviors import load_behavior as load_behavior
    from ws.data import data as data
    from ws.diff import diff as diff
    from ws.diff import diff_adapters as diff_adapters
    from ws.diff import diff_checkpoints as diff_checkpoints
    from ws.diff import from_tensors as from_tensors
    from ws.direction import Direction as Direction
    from ws.direction import from_pretrained as from_pretrained
    from ws.direction import push_to_hub as push_to_hub
    from ws.direction import save as save_direction
    from ws.direction import save_pretrained as save_pretrained
    from ws.errors import WsError as WsError
    from ws.generate import generate as generate
    from ws.methods import Method as Method
    from ws.models import Base as Base
    from ws.models import load as load
    from ws.models import open_checkpoint as open_checkpoint
    from ws.pairs import Pairs as Pairs
    from ws.pairs import load_pairs as load_pairs
    from ws.pairs import save_pairs as save_pairs
    from ws.serve.client import Connection as Connection
    from ws.serve.client import connect as connect
    from ws.train import Sides as Sides
    from ws.train import train as train
    from ws.verbs import calibrate as calibrate
    from ws.verbs import compare as compare
    from ws.verbs import derive as derive
    from ws.verbs import evaluate as evaluate
    from ws.verbs import explain as explain
    from ws.verbs import export as export
    from ws.verbs import finetune as finetune
    from ws.verbs import judge as judge
    from ws.verbs import load_direction as load_direction
    from ws.verbs import paper as paper
    from ws.verbs import replicate as replicate
    from ws.verbs import report as report
    from ws.verbs import steer as steer
    from ws.verbs import sweep as sweep
    from ws.verbs import verify as verify
    from ws.version import __version__ as __version__

EXPORTS = {
    "Adapter": "ws.adapters:Adapter",
    "Base": "ws.models:Base",
    "Behavior": "ws.behaviors:Behavior",
    "Connection": "ws.serve.client:Connection",
    "Direction": "ws.direction:Direction",
    "Method": "ws.methods:Method",
    "Pairs": "ws.pairs:Pairs",
    "Sides": "ws.train:Sides",
    "WsError": "ws.errors:WsError",
    "__version__": "ws.version:__version__",
    "calibrate": "ws.verbs:calibrate",
    "compare": "ws.verbs:compare",
    "connect": "ws.serve.client:connect",
    "data": "ws.data:data",
    "derive": "ws.verbs:derive",
    "diff": "ws.diff:diff",
    "diff_adapters": "ws.diff:diff_adapters",
    "diff_checkpoints": "ws.diff:diff_checkpoints",
    "evaluate": "ws.verbs:evaluate",
    "explain": "ws.verbs:explain",
    "export": "ws.verbs:export",
    "finetune": "ws.verbs:finetune",
    "from_pretrained": "ws.direction:from_pretrained",
    "from_tensors": "ws.diff:from_tensors",
    "generate": "ws.generate:generate",
    "judge": "ws.verbs:judge",
    "load": "ws.models:load",
    "load_behavior": "ws.behaviors:load_behavior",
    "load_direction": "ws.verbs:load_direction",
    "load_pairs": "ws.pairs:load_pairs",
    "open_checkpoint": "ws.models:open_checkpoint",
    "paper": "ws.verbs:paper",
    "push_to_hub": "ws.direction:push_to_hub",
    "replicate": "ws.verbs:replicate",
    "report": "ws.verbs:report",
    "save_direction": "ws.direction:save",
    "save_pairs": "ws.pairs:save_pairs",
    "save_pretrained": "ws.direction:save_pretrained",
    "steer": "ws.verbs:steer",
    "sweep": "ws.verbs:sweep",
    "train": "ws.train:train",
    "verify": "ws.verbs:verify",
}
"""Name to module:attribute."""


class _FrontDoor(ModuleType):
    """A package whose exports are imported when they are first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name in EXPORTS:
            module, _, attribute = EXPORTS[name].partition(":")
            value = getattr(import_module(module), attribute)
            self.__dict__[name] = value
            return value
        if not name.startswith("_"):
            try:
                return import_module(f"{__name__}.{name}")
            except ModuleNotFoundError as e:
                if e.name != f"{__name__}.{name}":
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        # importing `ws.data` binds the module in its package, where the verb `ws.data` belongs
        if name in EXPORTS and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*EXPORTS, *(k for k in self.__dict__ if k.startswith("__"))})


sys.modules[__name__].__class__ = _FrontDoor
