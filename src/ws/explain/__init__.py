"""Where in the weights a behavior sits: parts of a direction, what each does, and what each is made of."""

from ws.explain.protocol import Analysis as Analysis
from ws.explain.protocol import Finding as Finding
from ws.explain.protocol import Subject as Subject
from ws.explain.protocol import Variant as Variant
