"""Exit codes that have a meaning of their own, and the mark of a process that we started."""

INTERRUPTED = 130
LOST_CODE = 75  # a process that ended because another one did, and has nothing of its own to say
STARTED_HERE = "WS_PROCESSES"  # set in the environment of the processes of one training that `ws train` starts itself
