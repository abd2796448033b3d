"""The command line: parse, call one verb, print its result.

| file          | holds                                                                       |
|---------------|-----------------------------------------------------------------------------|
| `commands.py` | every verb's name, address and summary                                      |
| `options.py`  | options made from settings, and what was typed, read back as these settings |
| `result.py`   | what a verb hands back, and the one place that asks for `--json`            |
| `fields.py`   | fields, which the library names, as flags                                   |
| `screen.py`   | printing                                                                    |
| `study.py`    | what the verbs of a study share                                             |
| `catalogue.py`| words and options of all verbs, from a file that needs no torch             |
| `help.py`     | help, short or whole                                                        |
| `mistakes.py` | what cannot be read, in one sentence                                        |
| `VERB.py`     | one verb                                                                    |

Results go to stdout, progress and logs to stderr. Exit 0: done. 1: it failed. 2: you asked for something impossible,
which one sentence says.
"""

import io
import json
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any

import typer

from ws.cli.commands import COMMANDS, Command
from ws.cli.ending import no_interrupt_lost
from ws.cli.exits import INTERRUPTED, LOST_CODE, STARTED_HERE
from ws.cli.fields import with_flags
from ws.cli.help import WHOLE, asks_for_help, show_verb, show_verbs
from ws.cli.mistakes import misread, no_such_verb
from ws.cli.result import deliver
from ws.cli.screen import Screen, complain
from ws.errors import ProcessLost, WsError
from ws.extensions import tolerated
from ws.progress import no_bars_in_files, silence
from ws.records import is_disk_full
from ws.version import __version__

log = logging.getLogger("ws")


def app_for(words: Sequence[str]) -> typer.Typer:
    """The command line. The verb that is called has its options; the others only their names, which need no torch.

    Help is not typer's: `help.py` shows it.
    """
    app = typer.Typer(
        name="ws",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        add_completion=False,
    )
    app.callback(invoke_without_command=True)(_top)
    name = _name(words)
    for each, command in COMMANDS.items():
        run = _runner(command, words) if each == name else lambda: None
        app.command(each, help=command.summary)(run)
    return app


def _dashed(words: Sequence[str]) -> list[str]:
    """The words with names of options as they are here: other tools spell `--n_topics`, and so do settings in Python."""
    return [re.sub(r"^--\w+", lambda name: name[0].replace("_", "-"), word) for word in words]


def _name(words: Sequence[str]) -> str | None:
    """The verb that is called, if any."""
    return next((w for w in words if not w.startswith("-")), None)


def _runner(command: Command, words: Sequence[str]) -> Callable[..., int]:
    """What typer calls: the verb on what was typed, its result printed; the exit code."""
    with tolerated():  # the names in a help text are no reason to refuse
        verb = command.verb()
        signature = verb.signature()

    def run(**typed: Any) -> int:
        try:
            with ExitStack() as around:
                around.enter_context(no_interrupt_lost())
                if command.examines:
                    around.enter_context(tolerated())
                with _answered_in_json(words):
                    options = verb.options(typed, words)
                    around.enter_context(_quiet(options.quiet))
                    result = verb.run(options)
                deliver(result, Screen(options.flags), as_json=options.json)
        except KeyboardInterrupt:  # typer would end without a word
            complain(_stopped(words))
            return INTERRUPTED
        return 0

    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


@contextmanager
def _answered_in_json(words: Sequence[str]) -> Iterator[None]:
    """With --json a refusal is an object too; one that follows on a result, which is an object already, is not."""
    try:
        yield
    except (WsError, ValueError) as e:
        if not _others_speak(e):
            _print_error(_sentence(e, words), words)
        raise


def _print_error(sentence: str, words: Sequence[str]) -> None:
    if "--json" in words:
        print(json.dumps({"error": sentence}))


@contextmanager
def _quiet(asked: bool) -> Iterator[None]:
    """Where silence was asked for: neither progress nor notes, here and in what other libraries show."""
    level = log.level
    with silence(asked):
        if asked:
            log.setLevel(max(level, logging.WARNING))
        no_bars_in_files()
        try:
            yield
        finally:
            log.setLevel(level)


def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit()


# typer brings its own click since 0.26, so the base of its errors is found from one it exports
_USAGE: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    words = _dashed(sys.argv[1:] if argv is None else argv)
    if sys.stdin is None:  # where a shell has closed it, Python has None
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± is shown a ?, and not an error
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # a terminal that does not know its width says 0, and rich would print nothing
    if not os.environ.get("COLUMNS", "").strip("0"):
        os.environ.pop("COLUMNS", None)
    # 2026-11: peft 0.21.2 reads what transformers 5.23 has renamed; nothing a user of ours can do about it
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    if words[:1] == ["help"]:
        return _help(words[1:] or ["--help"])
    if not words or asks_for_help(words):
        return _help(words)
    try:
        _refuse_nowhere()
        _refuse_several(words)
        code = app_for(words)(
            words, prog_name="ws", standalone_mode=False
        )  # usage of a verb, also from a door of its own
        return code if isinstance(code, int) else 0
    except typer.Exit as e:
        return e.exit_code
    except _USAGE as e:
        sentence = misread(e, _name(words))
        _print_error(sentence, words)
        complain(f"error: {sentence}")
        return 2
    except (typer.Abort, KeyboardInterrupt):
        complain(_stopped(words))
        return INTERRUPTED
    except (WsError, ValueError) as e:
        if "--debug" in words:
            raise
        return _refuse(e, words)
    except OSError as e:
        if "--debug" in words or not is_disk_full(e):
            raise
        complain(f"error: there is no room left on the disk, or under its quota ({e}). What is done is kept.")
        return 1


def _help(words: Sequence[str]) -> int:
    """Show the help of a verb, or the list of verbs; the exit code, which is not 0 where nothing was typed."""
    name = _name(words)
    if name is None:
        show_verbs()
    elif name in COMMANDS:
        show_verb(name, everything=WHOLE in words)
    else:
        complain(f"error: {no_such_verb(name)}")
    return 0 if words and (name is None or name in COMMANDS) else 2


def _refuse(error: Exception, words: Sequence[str]) -> int:
    """Say in one line what is wrong; the exit code."""
    line = f"error: {_sentence(error, words)}"
    if _others_speak(error):
        if os.environ.get("RANK") != "0":  # into the log that the process that started this one reads
            complain(line)
        return LOST_CODE
    complain(line)
    return getattr(error, "exit_code", 2)


def _others_speak(error: Exception) -> bool:
    """Whether the process that started this one says what happened, as it knows which of several was the first."""
    return isinstance(error, ProcessLost) and STARTED_HERE in os.environ


def _sentence(error: Exception, words: Sequence[str]) -> str:
    """What is wrong, fields as flags of the verb."""
    command = COMMANDS.get(_name(words) or "")
    return with_flags(str(error), command.verb().flags if command else ())


def _refuse_nowhere() -> None:
    """Stop where the folder that this was started in is gone: libraries end there in words of their own, or without any."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ValueError("the folder that you are in is gone; cd into another one") from None


def _refuse_several(words: Sequence[str]) -> None:
    """Stop a verb that runs as one process where a launcher has started several."""
    if words[:1] == ["train"] or os.environ.get("WORLD_SIZE") in (None, "", "1"):
        return
    from ws.train.processes import several  # torch is not imported only to say so

    if several():
        raise ValueError(
            "only `ws train` runs as several processes; run the other verbs as one, which find what it made"
        )


def _stopped(words: Sequence[str]) -> str:
    """What an interrupted command left: stages go on, everything else starts again."""
    name = _name(words)
    if name == "sweep":
        return f"interrupted; go on with: {shlex.join(['ws', *words])}"
    two_models = name == "diff" and len(words) > 1 and not words[1].startswith("-")
    if name in COMMANDS and COMMANDS[name].resumes and not two_models:
        return "interrupted; the same command goes on from what is done"
    return "interrupted; nothing was written."


if __name__ == "__main__":
    sys.exit(main())
