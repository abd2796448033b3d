"""The small tables that an evaluation adds below its main one."""

from ws.eval.protocol import Panel
from ws.results.sheet import Sheet


def sheet(panel: Panel) -> Sheet:
    """A panel as a table: the first column holds words, the others numbers."""
    columns = tuple(dict.fromkeys(c for line in panel.lines for c in line))
    lines = tuple(tuple(line.get(c, "") for c in columns) for line in panel.lines)
    return Sheet(
        panel.title, "", columns, lines, tuple(panel.records), (panel.note,) if panel.note else (), columns[:1]
    )
