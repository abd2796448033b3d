"""What a finished evaluation tells a person around its table: what was asked, what was left out, panels, the axis."""

from collections.abc import Mapping, Sequence
from typing import Any

from ws.cli.out import plain, show


def known_axis(name: str, axis: str) -> None:
    """Refuse an axis that this evaluation does not have."""
    from ws.eval.foundations import AXES

    if name != "foundations":
        raise ValueError(f"--axis belongs to foundations; {name} has none")
    if axis not in AXES:
        raise ValueError(f"--axis is one of {', '.join(AXES)}; got {axis!r}")


def units(n: int | None) -> str:
    """So many units."""
    return f"{n} unit{'' if n == 1 else 's'}"


def few_units(rows: Sequence[Mapping[str, Any]], said: Sequence[str]) -> list[str]:
    """One sentence where intervals undercover, unless a reading has said so already."""
    if any("undercover" in line for line in said) or not any(r.get("few_units") for r in rows):
        return []
    least = min((r for r in rows if r.get("few_units")), key=lambda r: r["fewest"])
    group = (
        ""
        if least["fewest"] == least["n"]
        else f" (those of the smallest group of {least['metric']}, unequal ones counting as fewer)"
    )
    return [f"only {units(least['fewest'])}{group}: below 30 an interval undercovers."]


def with_axis(name: str, axis: str, behavior: str | None, intent: Mapping[str, int]) -> dict[str, int]:
    """The claims of a behavior with another axis in place of its own."""
    from ws.eval.foundations import AXES, checked_axis

    if name != "foundations":
        raise ValueError(f"--axis belongs to foundations; {name} has none")
    checked_axis(axis, behavior, intent)
    return {m: s for m, s in intent.items() if m not in {f"axis_{a}" for a in AXES}} | {f"axis_{axis}": 1}


def show_note(note: Mapping[str, Any]) -> None:
    """What was asked, what was left out, and what could not be scored."""
    if "answers" in note:
        a = note["answers"]
        show(
            f"[dim]answer tokens: {plain(str(a['yes']))} against {plain(str(a['no']))}, after {plain(repr(note['anchor']))}[/]"
        )
    if note.get("source"):
        labels = ", ".join(f"{n} labeled {label}" for label, n in note.get("labels", {}).items())
        of = f" of {note['n_pairs']}" if "n_pairs" in note else ""
        show(
            f"[dim]asked: {units(note['n_units'])}, {note['n_items']}{of} prompts, from {plain(note['source'])}{f' ({labels})' if labels else ''}[/]"
        )
    for why, rows in note.get("left_out", {}).items():
        show(f"• left out {rows['n']}: {plain(why)} (e.g. {plain(', '.join(rows['rows'][:3]))})")
    if unknown := note.get("values_without_class"):
        show(f"• {len(unknown)} values have no class, e.g. {plain(', '.join(unknown[:3]))}")
    if missing := note.get("unscored", {}).get("n", 0):
        rows = note["unscored"]["rows"]
        show(f"• {missing} of {note['unscored']['of']} rows have no score, e.g. {plain(', '.join(rows[:3]))}")
    if forced := note.get("forced_share"):
        by_alpha = ", ".join(f"{100 * share:.0f} % at alpha {a}" for a, share in forced.items())
        decides = "; above half, the budget of thought decides the result" if max(forced.values()) > 0.5 else ""
        show(f"• thoughts that had to be closed: {by_alpha}{decides}")
    low = {a: share for a, share in note.get("low_pmass_share", {}).items() if share}
    if low:
        by_alpha = ", ".join(f"{100 * share:.0f} % at alpha {a}" for a, share in low.items())
        show(f"• rows where another token is 100 times likelier than the answers: {by_alpha}")


def show_panels(panels: Sequence[Any]) -> None:
    """The small tables below the main one."""
    from ws.results.tables import panel_table

    for p in panels:
        show(f"\n[bold]{plain(p.title)}[/]")
        show(panel_table(p.lines))
