"""Aligned answers of two personas to the same questions: the value, its file, and the checks it must pass.

Row i of both sides shares prompt, persona index and sample index. Nothing here knows a model: token counts come with the
rows. The checks print numbers; a check that fails says that no direction can be learnt from these pairs.
"""

from ws.pairs.checks import MENDS as MENDS
from ws.pairs.checks import auc as auc
from ws.pairs.checks import auc_interval as auc_interval
from ws.pairs.checks import by_question as by_question
from ws.pairs.checks import check_pairs as check_pairs
from ws.pairs.checks import consistency as consistency
from ws.pairs.checks import in_words as in_words
from ws.pairs.checks import kept as kept
from ws.pairs.checks import looping as looping
from ws.pairs.checks import refuse_failed as refuse_failed
from ws.pairs.checks import separability as separability
from ws.pairs.checks import unfit as unfit
from ws.pairs.file import file_mark as file_mark
from ws.pairs.file import load_pairs as load_pairs
from ws.pairs.file import pair_of as pair_of
from ws.pairs.file import save_pairs as save_pairs
from ws.pairs.file import with_topics as with_topics
from ws.pairs.outlook import FEW_PAIRS as FEW_PAIRS
from ws.pairs.outlook import because as because
from ws.pairs.outlook import caveats as caveats
from ws.pairs.outlook import counted as counted
from ws.pairs.outlook import others as others
from ws.pairs.outlook import outlook as outlook
from ws.pairs.outlook import share_of as share_of
from ws.pairs.pair import KINDS as KINDS
from ws.pairs.pair import Check as Check
from ws.pairs.pair import Pair as Pair
from ws.pairs.pair import Pairs as Pairs
from ws.pairs.questions import mark_of as mark_of
from ws.pairs.questions import marks_in as marks_in
from ws.pairs.questions import marks_of_text as marks_of_text
from ws.pairs.questions import normal_form as normal_form
from ws.pairs.questions import question_hashes as question_hashes
