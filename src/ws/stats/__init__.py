"""Numbers with intervals: `estimates` for means and contrasts, `bootstrap` for anything made of totals over units,
`seeds` for several seeds on the same units."""

from ws.stats.bootstrap import RESAMPLES as RESAMPLES
from ws.stats.bootstrap import Draws as Draws
from ws.stats.bootstrap import Interval as Interval
from ws.stats.bootstrap import Statistic as Statistic
from ws.stats.bootstrap import draw as draw
from ws.stats.bootstrap import interval as interval
from ws.stats.estimates import FEW_UNITS as FEW_UNITS
from ws.stats.estimates import Estimate as Estimate
from ws.stats.estimates import Means as Means
from ws.stats.estimates import Sample as Sample
from ws.stats.estimates import change as change
from ws.stats.estimates import combined as combined
from ws.stats.estimates import effective_units as effective_units
from ws.stats.estimates import estimate as estimate
from ws.stats.estimates import means as means
from ws.stats.estimates import paired as paired
from ws.stats.estimates import quotient as quotient
from ws.stats.seeds import OverSeeds as OverSeeds
from ws.stats.seeds import over_seeds as over_seeds
