"""The version and the name of the package, in one place: its metadata, records and errors read them from here."""

__version__ = "0.1.0"


def how_to_add(extra: str) -> str:
    """How somebody who has a clone, as everybody has, adds an extra."""
    return f"pip install -e '.[{extra}]' in the clone of weight-steering"
