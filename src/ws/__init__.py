"""Weight steering: a behavior as a direction in weight space, and the dial to turn it by.

base = ws.load("tiny")
pairs = ws.data(base, behavior="honesty")
pos, neg = ws.train(base, pairs, adapter="lora")
direction = ws.diff(base, pos, neg)
with ws.steer(base, direction, alpha=-1.0):
    print(ws.generate(base, "What is the capital of Kenya?"))
"""

from ws.calibrate import calibrate as calibrate
from ws.data import data as data
from ws.diff import diff as diff
from ws.diff import diff_adapters as diff_adapters
from ws.diff import diff_checkpoints as diff_checkpoints
from ws.diff import from_tensors as from_tensors
from ws.direction import Direction as Direction
from ws.direction import from_pretrained as from_pretrained
from ws.direction import load as load_direction
from ws.direction import push_to_hub as push_to_hub
from ws.direction import save as save_direction
from ws.direction import save_pretrained as save_pretrained
from ws.errors import WsError as WsError
from ws.generate import generate as generate
from ws.generate import generate_all as generate_all
from ws.models import Base as Base
from ws.models import load as load
from ws.models import open_checkpoint as open_checkpoint
from ws.pairs import Pairs as Pairs
from ws.pairs import load_pairs as load_pairs
from ws.steer import steer as steer
from ws.train import train as train
from ws.version import __version__ as __version__
