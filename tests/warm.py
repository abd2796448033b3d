"""What every command imports in the end, imported once by the server that `forks` starts commands from."""

import peft  # noqa: F401
import transformers.models.auto.modeling_auto  # noqa: F401

import ws.cli.commands  # noqa: F401
from ws.models import load

load("tiny")  # imports the classes of its model and tokenizer
