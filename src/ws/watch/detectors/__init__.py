"""The detectors of drift, one file each, behind one interface. A new one is a file and a line here."""

from ws.watch.detectors import cos, svd_watch, trait_drift
from ws.watch.detectors.case import Case as Case
from ws.watch.detectors.case import Probe as Probe
from ws.watch.detectors.detector import Detector as Detector
from ws.watch.detectors.detector import Moved as Moved
from ws.watch.detectors.detector import Reading as Reading

DETECTORS: dict[str, Detector] = {"cos": cos.read, "svd_watch": svd_watch.read, "trait_drift": trait_drift.read}
