"""Judges as instruments: one interface for rules, servers and models, and how far each may be trusted.

    case = Case("q1", question="What is 3 x 4?", answer="It is 12.", gold=("12",))
    [verdict] = rule("math_correct")([case])          # Verdict(value=1.0, label="YES", by="rule:math_correct/1")
    [verdict] = judge_named("http://localhost:8000/v1", "math_correct", out=Path("out"))([case])

`case` holds the three values, `rubrics` the ten questions to a judge, `rules` the judges that need no model, `asking` those
that are one, `pair_filter` the pairs that one keeps, and `writers` who writes their replies and where these are kept.
"""

from ws.judge.asking import NO_REPLY as NO_REPLY
from ws.judge.asking import Bill as Bill
from ws.judge.asking import Estimate as Estimate
from ws.judge.asking import JudgeSettings as JudgeSettings
from ws.judge.asking import ModelJudge as ModelJudge
from ws.judge.asking import judge_named as judge_named
from ws.judge.asking import refuse_nobody as refuse_nobody
from ws.judge.case import Case as Case
from ws.judge.case import Judge as Judge
from ws.judge.case import Verdict as Verdict
from ws.judge.pair_filter import PairJudge as PairJudge
from ws.judge.pair_filter import sifted as sifted
from ws.judge.rubrics import MALFORMED as MALFORMED
from ws.judge.rubrics import NAMES as NAMES
from ws.judge.rubrics import Rubric as Rubric
from ws.judge.rubrics import rubric as rubric
from ws.judge.rules import NO_OPTION as NO_OPTION
from ws.judge.rules import RULES as RULES
from ws.judge.rules import Rule as Rule
from ws.judge.rules import coherent as coherent
from ws.judge.rules import last_integer as last_integer
from ws.judge.rules import last_number as last_number
from ws.judge.rules import names_right as names_right
from ws.judge.rules import option_letter as option_letter
from ws.judge.rules import refuses as refuses
from ws.judge.rules import rule as rule
