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
from ws.cli.options import add_command
from ws.cli.out import say, typed
from ws.errors import ProcessLost, WsError
from ws.processes import several
from ws.version import __version__

INTERRUPTED = 130
GO_ON = "interrupted; the same command goes on from what is done"

log = logging.getLogger("ws")
app = typer.Typer(
    name="ws",
    help="Weight steering: turn a behavior into a direction in weight space, and the dial by it.\n\nStart with: ws replicate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=True,
)


def _register() -> None:
    stage = [Common, *stage_settings().values(), Served]
    mode = typer.Option("--mode", help="contrastive, tau+ (pos against base) or tau- (base against neg).")
    add_command(app, "replicate", verbs.replicate, [Common, Dialed, *stage[1:]])
    add_command(app, "data", verbs.data, stage)
    add_command(app, "train", verbs.train, [*stage, Across])
    named_sides = "a checkpoint (folder, hub id), BASE+ADAPTER, a run, a direction or a file of plain tensors"
    sides = {
        "left": (
            str | None,
            typer.Argument(
                help=f"Instead of a study: {named_sides}. Then --out is the file to write, and --rank cuts."
            ),
        ),
        "right": (
            str | None,
            typer.Argument(help="What to subtract, in the same forms; the base of LEFT if left out."),
        ),
    }
    bf16 = typer.Option("--upstream-bf16", help="Also print what the published way, in bf16, would have lost.")
    add_command(app, "diff", verbs.diff, stage, mode=(str | None, mode), upstream_bf16=(bool | None, bf16), **sides)
    check = typer.Option("--check", help="Print the plan and what of it is done already; run nothing.")
    status = typer.Option("--status", help="Show the sweeps below --out, running or not; run nothing.")
    add_command(
        app, "sweep", sweeping.sweep, [*sweep_settings(), Common, Dialed, *stage[1:]],
        check=(bool | None, check), status=(bool | None, status),
    )  # fmt: skip
    named = typer.Argument(
        help="sycophancy, dilemmas, airisk, tinymfv, foundations, perplexity, pairs, file (your own questions) or lm-eval."
    )
    add_command(app, "eval", measure.evaluate, [Common, Evaluated, Dialed, *stage[1:]], name=(str, named))
    adapter = typer.Option("--adapter", help="Adapter family of the study.")
    seed = typer.Option("--seed", help="Seed of the study, and of sampling where the temperature is above 0.")
    add_command(
        app, "generate", verbs.generate, [Generated, Common], adapter=(str | None, adapter), seed=(int | None, seed)
    )
    add_command(
        app, "calibrate", verbs.calibrate, [Calibrated, calibrate_settings(), Common],
        adapter=(str | None, adapter), seed=(int | None, seed),
    )  # fmt: skip
    add_command(app, "compare", comparing.compare, [Compared, calibrate_settings(), Common, *stage[1:]])
    run = typer.Argument(help="A run, by folder or by name.")
    add_command(app, "show", measure.show_items, [Shown], run=(str, run))
    places = typer.Argument(
        help="Runs, by folder or by name, or folders with runs; everything below --out when left out."
    )
    add_command(app, "table", measure.table, [Tabled], places=(list[str] | None, places))
    file = (str, typer.Argument(help="A direction.safetensors."))
    add_command(app, "inspect", verbs.inspect, [Common], file=file)
    add_command(app, "export", verbs.export, [Exported], file=file)
    folder = typer.Argument(help="A folder that `ws export` wrote.")
    add_command(app, "verify", verbs.verify, [], folder=(str, folder))
    add_command(app, "doctor", doctor, stage[:-1])
    add_command(app, "runs", verbs.runs, [Common], adapter=(str | None, adapter), seed=(int | None, seed))


@app.callback(invoke_without_command=True)
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
    if not app.registered_commands:
        _register()
    try:
        if several() and arguments[:1] != ["train"]:
            raise ValueError(
                "only `ws train` runs as several processes; run the other verbs as one, which find what it made"
            )
        code = app(arguments, prog_name="ws", standalone_mode=False)  # doors are words for a verb: its usage is shown
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
        if isinstance(e, ProcessLost) and together.OURS in os.environ:
            if os.environ.get("RANK") != "0":  # into the log that the process that started this one reads
                say(f"error: {e}")
            return together.LOST_CODE  # which says what happened
        say(f"error: {e}")
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
