"""Readers of results: every table again from its rows, and the items behind a number."""

from ws.report.found import Measured as Measured
from ws.report.found import measured as measured
from ws.report.found import not_held_out as not_held_out
from ws.report.found import pairs_left_out as pairs_left_out
from ws.report.items import COSTS as COSTS
from ws.report.items import Unit as Unit
from ws.report.items import moved as moved
from ws.report.sheet import Sheet as Sheet
from ws.report.summary import sheets as sheets
