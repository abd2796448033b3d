"""Directions in weight space: forms, algebra, files. Nothing here knows a model."""

from ws.direction import algebra as algebra
from ws.direction import merging as merging
from ws.direction.direction import Direction as Direction
from ws.direction.direction import cosine as cosine
from ws.direction.direction import dot as dot
from ws.direction.file import load_direction as load  # noqa: F401
from ws.direction.file import save_direction as save  # noqa: F401
from ws.direction.folder import from_pretrained as from_pretrained
from ws.direction.folder import push_to_hub as push_to_hub
from ws.direction.folder import save_pretrained as save_pretrained
from ws.direction.random import random_like as random_like
