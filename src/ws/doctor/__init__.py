"""Checks that this machine, this installation and this model can do what `ws` will ask of them.

    for check in examine():
        print(check.name, check.state, check.found, check.do)

Three parts, each a file: the machine, a model (its chat template, its answers, its memory), and one small study from
questions to a steered answer. Nothing here changes anything, and no weights are loaded but those of `tiny`.
"""

from ws.doctor.check import Finding as Finding
from ws.doctor.extensions import examine_extensions as examine_extensions
from ws.doctor.machine import examine as examine
from ws.doctor.memory import MemoryPlan as MemoryPlan
from ws.doctor.memory import memory_plan as memory_plan
from ws.doctor.model import Opened as Opened
from ws.doctor.model import examine_model as examine_model
from ws.doctor.model import opened as opened
from ws.doctor.selftest import self_test as self_test
