"""Whether a fine-tune drifts toward a behavior: angles in weight space beside their nulls, and two other detectors."""

from ws.watch.alarm import auroc as auroc
from ws.watch.alarm import fpr_at as fpr_at
from ws.watch.angles import angles as angles
from ws.watch.changes import Change as Change
from ws.watch.changes import direction_named as direction_named
from ws.watch.changes import opened as opened
from ws.watch.matrix import matrix as matrix
from ws.watch.nulls import Watched as Watched
from ws.watch.nulls import make_nulls as make_nulls
from ws.watch.nulls import watched as watched
