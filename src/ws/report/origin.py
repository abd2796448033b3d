"""Where it came from: the card of the direction, settings, versions, and the commands that make it again."""

import shlex
from collections.abc import Mapping

from ws.direction.card import facts as facts_of
from ws.numbers import NO, alpha_of, finite, signed
from ws.report.study import Study
from ws.results.measured import Measured
from ws.results.page import Html, commands, facts, folded, paragraph, section, tag
from ws.types import Json


def part(study: Study) -> Html:
    """Everything that is needed to make it again, or to doubt it."""
    t = study.train
    base, report = t["base"], t["report"]
    revision = f"@{base['revision']}" if base["revision"] else ""
    made: list[tuple[object, object]] = [
        ("model", f"{base['id']}{revision}, weights {str(base.get('weights_hash'))[:12]}"),
        ("run", study.folder.name),
        (
            "trained",
            f"{t['finished']}, {t['seconds']:.0f} s on {t['device']} in {t['inputs']['dtype']}, best step {report['step']}",
        ),
        *(_of_task(t) if "tasks" in t else _of_sides(t)),
    ]
    direction = study.direction
    if direction is not None:
        made.append(("direction", f"content {direction.content_hash[:12]}"))
        made += facts_of(direction)
    return section(
        "How it was made",
        facts(made),
        tag("h3", "The same again"),
        commands(_commands(study)),
        paragraph("Settings that stand in no command are the defaults of this version.", faint=True),
        _folded("Settings of the training", t["settings"]),
        _folded("Versions", t["versions"]),
        _folded("Inputs, by their hashes", t["inputs"]),
        name="origin",
    )


def _of_sides(t: Json) -> list[tuple[object, object]]:
    """What two sides were trained on, and how they lie to each other."""
    report, shape = t["report"], t["geometry"]
    norms = " and ".join(_size(shape[f"norm_{side}"]) for side in ("pos", "neg"))
    return [
        ("pairs", f"{report['n_train']} to learn from, {report['n_val']} to choose by, {report['n_test']} held out"),
        ("both sides", f"norms {norms}, of their difference {_size(shape['norm'])}, cosine {signed(shape['cos_tau'])}"),
    ]


def _of_task(t: Json) -> list[tuple[object, object]]:
    """What a fine-tune was trained on."""
    report = t["report"]
    learnt = " and ".join(f"{task['rows']} rows of {task['source']}" for task in t["tasks"])
    return [("learnt", f"{learnt}: {report['n_train']} a pass, {report['n_val']} to choose by")]


def _folded(title: str, values: Mapping[str, object]) -> Html:
    return folded(title, facts((k, _text(v)) for k, v in sorted(values.items())))


def _size(x: float | None) -> str:
    return f"{x:.4g}" if x is not None and finite(x) else NO


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return "–" if value is None else str(value)


def _commands(study: Study) -> list[str]:
    """What to type, in the order in which it was made."""
    made = study.direction.card.get("command") if study.direction is not None else None
    lines = [made] if made else []
    lines += [_evaluation(study, m) for m in study.evaluations if m.budget is None]
    for s in study.searches:
        n = [f"--n-{k} {v}" for k, v in (("calib", s.settings.n_calib), ("audit", s.settings.n_audit)) if v]
        lines.append(" ".join(["ws calibrate", study.folder.name, f"--budget {s.settings.budget:g}", *n]))
    return [*dict.fromkeys(lines), f"ws report {study.folder.name}"]


def _evaluation(study: Study, m: Measured) -> str:
    """The command of an evaluation; one on other questions or another model has more to it than is known here."""
    settings = m.manifest["settings"]
    strengths = ",".join(alpha_of(a) for a in m.alphas)
    words = [
        "ws eval",
        m.protocol.eval,
        shlex.quote(study.folder.name),
        f"--protocol {shlex.quote(m.protocol.id)}",
        f"--alphas={strengths}",
    ]
    if settings["limit"] is not None:
        words.append(f"--limit {settings['limit']}")
    return " ".join(words)
