"""Models: loading, chats, answer tokens, and the names of their matrices."""

from ws.models.load import Base as Base
from ws.models.load import load as load
