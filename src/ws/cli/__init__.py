"""The command line: parse, call one function, print.

Options are made from the settings dataclasses, so nothing is declared twice. Results go to stdout, progress and logs to
stderr. Exit 0: done. 1: it failed. 2: you asked for something impossible, told in one sentence.
"""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ws.cli import comparing, measure, sweeping, together, verbs
from ws.cli.doctor import doctor
from ws.cli.flags import (
    Across,
    Calibrated,
    Common,
    Compared,
    Dialed,
    Evaluated,
    Exported,
    Generated,
    Served,
    Shown,
    Tabled,
    calibrate_settings,
    stage_settings,
    sweep_settings,
)
from ws.cli.options import Command, add_command, option_names, with_flags
from ws.cli.out import say, typed
from ws.errors import ProcessLost, WsError
from ws.version import __version__

INTERRUPTED = 130
GO_ON = "interrupted; the same command goes on from what is done"

log = logging.getLogger("ws")


def _study() -> list[type]:
    return [Common, *stage_settings().values(), Served]


_ADAPTER = (str | None, typer.Option("--adapter", help="Adapter family of the study."))
_SEED = (
    int | None,
    typer.Option("--seed", help="Seed of the study, and of sampling where the temperature is above 0."),
)
_STUDY_NAME = {"adapter": _ADAPTER, "seed": _SEED}
_FILE = {"file": (str, typer.Argument(help="A direction.safetensors."))}
_SIDES = "a checkpoint (folder, hub id), BASE+ADAPTER, a run, a direction or a file of plain tensors"
_DIFF = {
    "mode": (
        str | None,
        typer.Option("--mode", help="contrastive, tau+ (pos against base) or tau- (base against neg)."),
    ),
    "upstream_bf16": (
        bool | None,
        typer.Option("--upstream-bf16", help="Also print what the published way, in bf16, would have lost."),
    ),
    "left": (
        str | None,
        typer.Argument(help=f"Instead of a study: {_SIDES}. Then --out is the file to write, and --rank cuts."),
    ),
    "right": (
        str | None,
        typer.Argument(help="What to subtract, in the same forms; the base of LEFT if left out."),
    ),
}
_SWEEP = {
    "check": (
        bool | None,
        typer.Option("--check", help="Print the plan and what of it is done already; run nothing."),
    ),
    "status": (bool | None, typer.Option("--status", help="Show the sweeps below --out, running or not; run nothing.")),
}
_NAMED = typer.Argument(
    help="{evaluations}, or lm-eval (any task of lm-evaluation-harness); file asks your own questions."
)
_PLACES = typer.Argument(help="Runs, by folder or by name, or folders with runs; everything below --out when left out.")

COMMANDS = {
    "replicate": Command(verbs.replicate, lambda: [Common, Dialed, *_study()[1:]]),
    "data": Command(verbs.data, _study),
    "train": Command(verbs.train, lambda: [*_study(), Across]),
    "diff": Command(verbs.diff, _study, _DIFF),
    "sweep": Command(sweeping.sweep, lambda: [*sweep_settings(), Common, Dialed, *_study()[1:]], _SWEEP),
    "eval": Command(measure.evaluate, lambda: [Common, Evaluated, Dialed, *_study()[1:]], {"name": (str, _NAMED)}),
    "generate": Command(verbs.generate, lambda: [Generated, Common], _STUDY_NAME),
    "calibrate": Command(verbs.calibrate, lambda: [Calibrated, calibrate_settings(), Common], _STUDY_NAME),
    "compare": Command(comparing.compare, lambda: [Compared, calibrate_settings(), Common, *_study()[1:]]),
    "show": Command(
        measure.show_items, lambda: [Shown], {"run": (str, typer.Argument(help="A run, by folder or by name."))}
    ),
    "table": Command(measure.table, lambda: [Tabled], {"places": (list[str] | None, _PLACES)}),
    "inspect": Command(verbs.inspect, lambda: [Common], _FILE),
    "export": Command(verbs.export, lambda: [Exported], _FILE),
    "verify": Command(verbs.verify, own={"folder": (str, typer.Argument(help="A folder that `ws export` wrote."))}),
    "doctor": Command(doctor, lambda: _study()[:-1]),
    "runs": Command(verbs.runs, lambda: [Common], _STUDY_NAME),
}


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The command line. The verb that is called has its options; the others only their names, which need no torch."""
    app = typer.Typer(
        name="ws",
        help="Weight steering: turn a behavior into a direction in weight space, and the dial by it.\n\nStart with: ws replicate",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        add_completion=True,
    )
    app.callback(invoke_without_command=True)(_top)
    called = _verb(arguments)
    completes = "_WS_COMPLETE" in os.environ  # the shell then says elsewhere which verb it asks about
    for name, command in COMMANDS.items():
        add_command(app, name, command, options=completes or name == called)
    return app


def _verb(arguments: Sequence[str]) -> str | None:
    """The verb that is called, if any."""
    return next((a for a in arguments if not a.startswith("-")), None)


def _options_of(arguments: Sequence[str]) -> set[str]:
    """The fields that the called verb has options for."""
    command = COMMANDS.get(_verb(arguments) or "")
    return option_names(command) if command else set()


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
    arguments = list(sys.argv[1:] if argv is None else argv)
    typed[:] = arguments
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    together.arguments[:] = arguments
    together.started.clear()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # 2026-11: peft 0.21.2 reads what transformers 5.23 has renamed; nothing a user of ours can do about it
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    try:
        if arguments[:1] != ["train"]:
            together.refuse_several()
        code = app_for(arguments)(
            arguments, prog_name="ws", standalone_mode=False
        )  # doors are words for a verb: its usage is shown
        code = code if isinstance(code, int) else 0
        if code == INTERRUPTED and not together.started:  # typer turns Ctrl-C into this
            say(_stopped(arguments))
        return code
    except typer.Exit as e:
        return e.exit_code
    except _USAGE as e:
        e.show()
        return 2
    except (typer.Abort, KeyboardInterrupt):
        say(_stopped(arguments))
        return INTERRUPTED
    except (WsError, ValueError) as e:
        if "--debug" in arguments:
            raise
        message = with_flags(str(e), _options_of(arguments))
        if isinstance(e, ProcessLost) and together.OURS in os.environ:
            if os.environ.get("RANK") != "0":  # into the log that the process that started this one reads
                say(f"error: {message}")
            return together.LOST_CODE  # which says what happened
        say(f"error: {message}")
        return getattr(e, "exit_code", 2)
    except OSError as e:
        from ws.records import is_disk_full

        if "--debug" in arguments or not is_disk_full(e):
            raise
        say(f"error: there is no room left on the disk, or under its quota ({e}). What is done is kept.")
        return 1


def _stopped(arguments: list[str]) -> str:
    """What an interrupted command left: stages go on, everything else starts again."""
    if arguments[:1] == ["sweep"]:
        return f"interrupted; go on with: {sweeping.command()}"
    staged = arguments[:1] and arguments[0] in ("replicate", "data", "train", "diff", "eval", "compare")
    named = arguments[:1] == ["diff"] and len(arguments) > 1 and not arguments[1].startswith("-")
    return GO_ON if staged and not named else "interrupted; nothing was written."


if __name__ == "__main__":
    sys.exit(main())
