"""How annotations are checked while the tests run: an int where a float is promised is fine (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
