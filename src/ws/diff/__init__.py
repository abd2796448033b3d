"""The direction between two models: two trained sides, two adapters, two checkpoints, or whatever two texts name."""

from ws.diff.checkpoints import diff_checkpoints as diff_checkpoints
from ws.diff.checkpoints import from_tensors as from_tensors
from ws.diff.lookup import NamedDirection as NamedDirection
from ws.diff.lookup import base_of as base_of
from ws.diff.lookup import lookup as lookup
from ws.diff.lookup import run_with as run_with
from ws.diff.named import diff_named as diff_named
from ws.diff.trained import checked_mode as checked_mode
from ws.diff.trained import diff as diff
from ws.diff.trained import diff_adapters as diff_adapters
from ws.diff.trained import geometry as geometry
