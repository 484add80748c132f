"""The command line: ``centerclip COMMAND ...`` or ``python -m centerclip_pl COMMAND ...``.

A user's mistake ends in one message and exit status 2; anything else that goes wrong keeps its traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from centerclip_pl.cli.parse_errors import find_mistake, plain_message, unreadable_options
from centerclip_pl.cli.system_errors import system_message
from centerclip_pl.errors import CenterCLIPError
from centerclip_pl.launch import is_first_process

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("centerclip_pl.cli.experiment:train", "train on a dataset by name, then test the chosen checkpoint"),
    "eval": ("centerclip_pl.cli.experiment:evaluate", "test a checkpoint, or a backbone as it is (zero-shot)"),
    "fit": ("centerclip_pl.cli.lightning:fit", "train with --config files and options (LightningCLI)"),
    "validate": ("centerclip_pl.cli.lightning:validate", "metrics on the validation split"),
    "test": ("centerclip_pl.cli.lightning:test", "metrics, cost and results.json on the test split"),
    "predict": ("centerclip_pl.cli.lightning:predict", "write embeddings of videos and captions"),
    "memory": ("centerclip_pl.cli.memory:memory_command", "predict the memory of a training step, and what fits where"),
    "show-tokens": ("centerclip_pl.cli.show_tokens:show_tokens_command", "draw which tokens of a video are kept"),
    "import-checkpoint": (
        "centerclip_pl.cli.import_checkpoint:import_checkpoint_command",
        "make a checkpoint or a backbone of published weights",
    ),
    "data": ("centerclip_pl.cli.data:data_command", "download, prepare, verify, stats, cache: before the training"),
    "sweep": ("centerclip_pl.cli.sweep:sweep_command", "run a W&B sweep file, in W&B or on this machine alone"),
    "runs": ("centerclip_pl.cli.runs:runs_command", "list what all runs found: a table, Markdown or CSV"),
    "reproduce": ("centerclip_pl.cli.reproduce:reproduce_command", "train a row of a paper's table, and compare"),
    "compare": ("centerclip_pl.cli.compare:compare_command", "which of two settings is better, and how sure that is"),
    "cost": ("centerclip_pl.cli.cost:cost_command", "measure the time of finished runs again, one at a time"),
    "report": ("centerclip_pl.cli.report:report_command", "write one HTML page about runs, which opens offline"),
    "notebooks": ("centerclip_pl.cli.notebooks:notebooks_command", "execute the notebooks on runs; figures and copies"),
    "demo-data": ("centerclip_pl.cli.demo_data:demo_data_command", "generate the demo dataset"),
}


def main(args: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process with its status where that is not 0.

    Args:
        args: the words behind the program's name; default: ``sys.argv[1:]``.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        _run(words)
    except CenterCLIPError as error:
        _fail(str(error))
    except ArgumentError as error:
        mistake = find_mistake(error)
        if mistake is not None:
            _fail(mistake)
        lists = {"train": "fit", "eval": "test"}.get(words[0], words[0])
        lists = " ".join(words[:2]) if lists == "data" else lists
        _fail(f"{plain_message(error)}\n  -> `centerclip {lists} --help` lists the options")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)  # as the shell says it of a program that Ctrl-C has ended
    except BrokenPipeError:  # `centerclip ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        mistake = find_mistake(error) or system_message(error) or unreadable_options(words)
        if mistake is None:
            raise
        _fail(mistake)
    finally:
        _finish_wandb()


def _finish_wandb() -> None:
    # Left to the end of the process, W&B prints a footer of its own, whatever its settings say.
    if getattr(sys.modules.get("wandb"), "run", None) is not None:
        from centerclip_pl.training.loggers import finish_wandb

        finish_wandb(exit_code=0 if sys.exc_info()[0] is None else 1)


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return
    if words[0] in ("--version", "version"):
        from centerclip_pl import __version__

        print(__version__)
        return
    if words[0] not in COMMANDS:
        near = get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"the commands are {', '.join(COMMANDS)}"
        raise CenterCLIPError(f"there is no command {words[0]!r}", hint)
    module, _, name = COMMANDS[words[0]][0].partition(":")
    command: Callable[[list[str]], None] = getattr(importlib.import_module(module), name)
    command(words[1:])


def overview() -> str:
    """The text of ``centerclip --help``."""
    lines = [f"  {name:<17} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: centerclip COMMAND [OPTIONS]", "", "commands:", *lines, "", "`centerclip COMMAND --help` says more."]
    )


_TURN = 3.0  # seconds


def _fail(message: str) -> None:
    if not is_first_process():
        # The first process of the launch has most likely met the same, has said it, and its launcher ends all others.
        time.sleep(_TURN)
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)
