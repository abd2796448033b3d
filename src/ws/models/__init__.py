"""Models: loading, chats, answer tokens, and the names of their matrices."""

from ws.models.checkpoint import open_checkpoint as open_checkpoint
from ws.models.load import Base as Base
from ws.models.load import load as load
