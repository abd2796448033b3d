"""Writes docs/cli.md from the settings the options are made from: python docs/make_cli.py [--check]."""

import sys
from dataclasses import fields
from pathlib import Path

import ws
from ws.cli.commands import COMMANDS
from ws.cli.options import helps
from ws.cli.study import STUDY
from ws.data import DataSettings, default_data
from ws.train import TrainSettings, default_train

WORDS = {
    "eval": " NAME [RUN]",
    "generate": " [RUN] [QUESTION]",
    "calibrate": " [RUN]",
    "chat": " [RUN or FILE ...]",
    "show": " RUN",
    "table": " [RUN or FOLDER ...]",
    "inspect": " RUN",
    "export": " RUN",
    "verify": " DIR",
}


def text() -> str:
    """The whole page."""
    verbs = {name: command.verb() for name, command in COMMANDS.items()}
    page = ["# The command line", "", "Made by `python docs/make_cli.py` from the settings themselves.", ""]
    page += [
        "Results go to stdout (`--json` for programs), progress and logs to stderr. Exit code 0: done, 1: it failed,"
    ]
    page += [
        "2: you asked for something impossible, told in one sentence (`--debug` shows the traceback). `--config FILE` is a"
    ]
    page += [
        "YAML file whose keys are the option names; flags win.",
        "",
        "| verb | does | its own options |",
        "|---|---|---|",
    ]
    for name, verb in verbs.items():
        classes = [c for c in verb.settings if c not in STUDY]
        names = dict.fromkeys(f.name for c in classes for f in fields(c))
        own = ", ".join(f"`--{name.replace('_', '-')}`" for name in names)
        page.append(f"| `ws {name}{WORDS.get(name, '')}` | {COMMANDS[name].summary} | {own} |")
    page += [
        "",
        "`data`, `train`, `diff`, `eval`, `compare`, `replicate` and `doctor` take all options of how pairs and adapters are made.",
    ]
    for cls in dict.fromkeys([*STUDY, *(c for verb in verbs.values() for c in verb.settings)]):
        page += ["", f"## {(cls.__doc__ or '').strip()}", "", "| option | default | |", "|---|---|---|"]
        for f in fields(cls):
            default = "" if f.default in (None, "", ()) else f"`{_text(f.default)}`"
            page.append(f"| `--{f.name.replace('_', '-')}` | {default} | {helps(cls).get(f.name, '')} |")
    page += [
        "",
        "On `tiny` the defaults of data and training are its own (it is small: more questions, larger steps); the",
    ]
    page += ["record of every stage holds the values that were used:", "", "| option | on `tiny` |", "|---|---|"]
    base = ws.load("tiny")
    for mine, usual in ((default_data(base), DataSettings()), (default_train(base, "lora"), TrainSettings())):
        for f in fields(mine):
            value = getattr(mine, f.name)
            if value != getattr(usual, f.name):
                page.append(f"| `--{f.name.replace('_', '-')}` | `{_text(value)}` |")
    page.append("")
    return "\n".join(page)


def _text(value: object) -> object:
    return ",".join(f"{x:g}" for x in value) if isinstance(value, tuple) else value


if __name__ == "__main__":
    path = Path(__file__).parent / "cli.md"
    if "--check" in sys.argv:
        sys.exit(0 if path.read_text() == text() else "docs/cli.md is not current: run python docs/make_cli.py")
    path.write_text(text())
