"""Names for values that many modules hand on.

The classes of heavy libraries are named here for readers and type checkers. While the program runs nothing is imported
for their sake: the library is loaded where it is first needed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker as Tracker
    from peft import PeftConfig
    from transformers import PreTrainedConfig as Config
    from transformers import PreTrainedModel as Network
    from transformers import PreTrainedTokenizerBase as Tokenizer
    from transformers.cache_utils import Cache
    from transformers.cache_utils import CacheLayerMixin as CacheLayer
else:
    Cache = CacheLayer = Config = Network = PeftConfig = Tokenizer = Tracker = object

Json = dict[str, Any]
"""A JSON object that was read or will be written; who reads a value of it says what it has to be."""

Fields = Mapping[str, Any]
"""The same where it is only read: a record, or a row of a table."""

__all__ = ["Cache", "CacheLayer", "Config", "Fields", "Json", "Network", "PeftConfig", "Tokenizer", "Tracker"]
