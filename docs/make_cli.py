"""Writes docs/cli.md, and the catalogue that help reads, from the settings the options are made from.

python docs/make_cli.py [--check]
"""

import sys
from dataclasses import fields
from pathlib import Path

import ws
from ws.adapters import FAMILIES
from ws.behaviors import names as behavior_names
from ws.cli import catalogue
from ws.cli.catalogue import with_names
from ws.cli.commands import COMMANDS, GROUPS
from ws.cli.study import STUDY
from ws.data import DataSettings, default_data
from ws.eval import names as evaluation_names
from ws.extensions import extensions
from ws.methods import names as method_names
from ws.settings import field_docs
from ws.train import TrainSettings, default_train


def text() -> str:
    """The whole page."""
    verbs = {name: command.verb() for name, command in COMMANDS.items()}
    page = [
        "# The command line",
        "",
        "```sh",
        "ws --help",
        "```",
        "",
        "Made by `python docs/make_cli.py` from the settings themselves.",
        "",
    ]
    page += [
        "Results go to stdout (`--json` for programs), progress and logs to stderr. Exit code 0: done, 1: it failed,"
    ]
    page += [
        "2: you asked for something impossible, told in one sentence (`--debug` shows the traceback). `--config FILE` is a"
    ]
    page += [
        "YAML file whose keys are the option names; flags win. `ws VERB --help` shows the options people type, `--help-all` all",
        "of them. `ws completion bash` (or zsh, or fish) prints completion of verbs, options, runs and names for your shell.",
    ]
    for group, does in GROUPS.items():
        page += ["", f"## {group.capitalize()}: {does}", "", "| verb | does | its own options |", "|---|---|---|"]
        several = [name for name, command in COMMANDS.items() if command.group == group]
        for name in several:
            classes = [c for c in verbs[name].settings if c not in STUDY]
            own = dict.fromkeys(f.name for c in classes for f in fields(c))
            listed = ", ".join(f"`--{n.replace('_', '-')}`" for n in own)
            page.append(f"| `ws {name} {COMMANDS[name].words}".rstrip() + f"` | {COMMANDS[name].summary} | {listed} |")
        page += ["", "```sh", *(example for name in several for example in COMMANDS[name].examples), "```"]
    page += [
        "",
        "`data`, `train`, `diff`, `eval`, `compare`, `replicate` and `doctor` take all options of how pairs and adapters are made.",
    ]
    for cls in dict.fromkeys([*STUDY, *(c for verb in verbs.values() for c in verb.settings)]):
        page += ["", f"## {(cls.__doc__ or '').strip()}", "", "| option | default | |", "|---|---|---|"]
        for f in fields(cls):
            default = "" if f.default in (None, "", ()) else f"`{_text(f.default)}`"
            page.append(
                f"| `--{f.name.replace('_', '-')}` | {default} | {with_names(field_docs(cls).get(f.name, ''))} |"
            )
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


def catalogue_text() -> str:
    """What help and completion read."""
    there = {"adapters": FAMILIES, "behaviors": behavior_names(), "evaluations": evaluation_names()}
    there["methods"] = method_names()
    added = {kind: extensions(group, frozenset()) for kind, group in catalogue.GROUPS.items()}
    shipped = {kind: [name for name in names if name not in added[kind]] for kind, names in there.items()}
    return catalogue.written({name: command.verb() for name, command in COMMANDS.items()}, shipped)


if __name__ == "__main__":
    for path, content in ((catalogue.FILE, catalogue_text()), (Path(__file__).parent / "cli.md", text())):
        if "--check" not in sys.argv:
            path.write_text(content, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != content:
            sys.exit(f"{path.name} is not current: run python docs/make_cli.py")
