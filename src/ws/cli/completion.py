"""`ws completion`: what a shell needs to complete `ws`, and what may stand in the place of a word that is half typed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ws.cli.catalogue import entry, names
from ws.cli.commands import COMMANDS
from ws.cli.help import ASKED
from ws.cli.options import Declared, Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen
from ws.records import run_folders

SCRIPTS = {
    "bash": """\
# ws completion: put this line into ~/.bashrc:  source <(ws completion bash)
_ws_complete() {
    local IFS=$'\\n'
    COMPREPLY=($(ws completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _ws_complete ws
""",
    "zsh": """\
#compdef ws
# ws completion: put this line into ~/.zshrc, below compinit:  source <(ws completion zsh)
_ws() {
    local -a candidates
    candidates=("${(@f)$(ws completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$candidates" ]]; then compadd -- $candidates; else _files; fi
}
compdef _ws ws
""",
    "fish": """\
# ws completion: ws completion fish > ~/.config/fish/completions/ws.fish
function __ws_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    ws completion fish -- $words[2..-1] "$last" 2>/dev/null
end
complete -c ws -a '(__ws_complete)'
""",
}
SHELL: Declared = (str, typer.Argument(help=f"One of {', '.join(SCRIPTS)}."))
WORDS: Declared = (
    list[str] | None,
    typer.Argument(
        metavar="[-- WORDS]",
        help="After --, the words of a command, the last one half typed: prints what it may become.",
    ),
)
CHOICES: Mapping[str, Sequence[str]] = {
    "model": ("tiny", "smollm2"),
    "preset": ("ws", "pub", "paper"),
    "thinking": ("off", "on", "forced"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "dtype": ("auto", "float32", "bfloat16", "float16", "float64"),
    "quantize": ("int8", "nf4"),
    "to": ("peft", "merged", "gguf-lora", "mergekit"),
    "stop": ("shared", "per_branch", "none"),
}
RUNS = ("run", "direction")
KINDS = {
    "behavior": "behaviors",
    "behaviors": "behaviors",
    "adapter": "adapters",
    "adapters": "adapters",
    "eval": "evaluations",
    "evals": "evaluations",
    "method": "methods",
    "methods": "methods",
    "reference": "methods",
    "like": "methods",
}


@dataclass(frozen=True, eq=False)
class Completion(VerbResult):
    """Lines for a shell to read."""

    lines: Sequence[str]

    def as_json(self) -> Mapping[str, object]:
        return {"lines": self.lines}

    def show(self, screen: Screen) -> None:
        for line in self.lines:
            print(line)


@verb(shell=SHELL, words=WORDS)
def completion(options: Options) -> VerbResult:
    """The script of a shell, or what a word may become."""
    shell = options.text("shell") or ""
    if shell not in SCRIPTS:
        raise ValueError(f"there is completion for {', '.join(SCRIPTS)}; got {shell!r}")
    words = options.texts("words")
    return Completion(candidates(words) if words else SCRIPTS[shell].splitlines())


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of these words may become; the first of them follows `ws`."""
    *before, last = words
    if not before:
        return [name for name in COMMANDS if name.startswith(last)]
    if before[0] not in COMMANDS:
        return []
    if last == "=":  # bash cuts words at it
        before, last = list(words), ""
    if before[-1] == "=":
        before = before[:-1]
    elif last.startswith("--") and "=" in last:
        flag, _, value = last.partition("=")
        return [f"{flag}={text}" for text in _values(flag, value, words)]
    elif last.startswith("-"):
        known = [*(flag.flag for flag in entry(before[0]).flags), *ASKED]
        return [flag for flag in known if flag.startswith(last)]
    if before[-1].startswith("--") and _takes_value(before[0], before[-1]):
        return _values(before[-1], last, words)
    return _begin_with(last, _of_words(before[0], words))


def _takes_value(name: str, flag: str) -> bool:
    return any(f.flag == flag and f.value for f in entry(name).flags)


def _values(flag: str, text: str, words: Sequence[str]) -> list[str]:
    """What an option may hold; of several values, the last."""
    field = flag.removeprefix("--").replace("-", "_")
    first, comma, last = text.rpartition(",")
    if field in RUNS:
        there = _runs(words)
    elif field in KINDS:
        there = names(KINDS[field])
    else:
        there = list(CHOICES.get(field, ()))
    return [f"{first}{comma}{value}" for value in _begin_with(last, there)]


def _of_words(name: str, words: Sequence[str]) -> list[str]:
    """What may stand without a flag."""
    ways: Mapping[str, Callable[[], list[str]]] = {
        "NAME": lambda: names("evaluations"),
        "RUN": lambda: _runs(words),
        "DIRECTION": lambda: _runs(words),
        "SHELL": lambda: list(SCRIPTS),
    }
    return [value for mark, way in ways.items() if mark in COMMANDS[name].words for value in way()]


def _runs(words: Sequence[str]) -> list[str]:
    """Runs below the output folder, by behavior and family, or by their names where one of these is typed."""
    texts = " ".join(words).replace("=", " ").split()
    out = Path(texts[texts.index("--out") + 1] if "--out" in texts[:-1] else "out")
    folders = run_folders(out)
    paths = [folder.relative_to(out).as_posix() for folder in folders]
    return paths if _begin_with(words[-1].rpartition("=")[2], paths) else [folder.name for folder in folders]


def _begin_with(text: str, there: Sequence[str]) -> list[str]:
    return [value for value in there if value.startswith(text)]
