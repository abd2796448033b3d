"""Doors that the command line still opens."""

from ws.results.lines import best as best
from ws.results.lines import forward as forward
from ws.results.published import sheets as sheets
