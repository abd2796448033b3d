"""The adapter families, one file each, and what they have in common."""

from ws.adapters.families import FAMILIES as FAMILIES
from ws.adapters.families import USUAL as USUAL
from ws.adapters.families import family as family
from ws.adapters.families import small as small
from ws.adapters.family import Adapter as Adapter
from ws.adapters.family import Attached as Attached
from ws.adapters.family import Family as Family
from ws.adapters.family import Spec as Spec
from ws.adapters.family import changes_between as changes_between
from ws.adapters.family import direction_of as direction_of
from ws.adapters.file import load_adapter as load_adapter
from ws.adapters.file import save_adapter as save_adapter
