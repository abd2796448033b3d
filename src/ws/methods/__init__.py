"""Every way of steering behind one dial: weight directions among their baselines."""

from ws.methods.file import load_method as load  # noqa: F401
from ws.methods.file import load_named as load_named
from ws.methods.file import save_method as save  # noqa: F401
from ws.methods.maker import Maker as Maker
from ws.methods.maker import Needs as Needs
from ws.methods.maker import added as added
from ws.methods.maker import edited as edited
from ws.methods.material import Material as Material
from ws.methods.method import Method as Method
from ws.methods.registry import METHODS as METHODS
from ws.methods.registry import check as check
from ws.methods.registry import is_control as is_control
from ws.methods.registry import is_name as is_name
from ws.methods.registry import make as make
from ws.methods.registry import names as names
from ws.methods.registry import needs as needs
from ws.methods.registry import places as places
from ws.methods.registry import selection as selection
from ws.methods.registry import without_texts as without_texts
from ws.methods.weights import as_method as as_method
from ws.methods.weights import with_origin as with_origin
