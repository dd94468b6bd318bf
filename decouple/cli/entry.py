"""The command line's beginning and end: usage, errors, interruptions, exit status."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from functools import partial
from typing import NoReturn

from decouple.cli.commands import commands
from decouple.cli.options import CODE, STAGE_SECTIONS, CompareOptions, StageOptions
from decouple.cli.signals import Interrupted, on_signal
from decouple.errors import OPTION, ConfigError, DecoupleError, did_you_mean, is_out_of_memory

USAGE = """usage: decouple COMMAND ...

Train networks by searching representations and learning them, and turn the solutions into an ensemble.

  decouple run PRESET          everything: search, learn, compare with SGD, q0 population, report;
                               --seeds 0 1 2 does it for each seed and ends with a table
  decouple table RUN_DIR ...   mean and deviation over seeds, and differences to SGD, of any runs
  decouple estimate PRESET     what that would cost, before anything runs
  decouple tune PRESET         SGD and learning, tuned with equally many trials on validation images
  decouple presets             the presets, a line each
  decouple points NETWORK      where a network of yours can be cut into search points

  decouple search RUN_DIR      one stage of a run directory, and what it needs; repeat it with other
  decouple learn RUN_DIR       settings, such as  decouple q0 runs/digits --q0.cycles 8
  decouple compare RUN_DIR     with several run directories: all their trajectories beside each other
  decouple q0 RUN_DIR
  decouple q0 text --data FILE  only q0, for next-token prediction on a text file
  decouple q0 plan --epochs E  the best population measured for a budget of epochs
  decouple q0 export RUN_DIR --out FILE
                               the run's population as one file, for decouple.Ensemble
  decouple report RUN_DIR      bring everything up to date and rebuild report.html

  decouple report --schema     JSON schema of results.json and curves.json
  decouple version

Begin with   decouple run digits   and see   decouple COMMAND --help   for every setting.
"""


def run_command(argv: list[str]) -> int:
    """Run the command line `argv`; returns the exit status: 0, 1 (failed), 2 (wrong input), 130 or 143 (interrupted)."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if argv else 2
    command, arguments = argv[0], argv[1:]
    known = commands()
    try:
        if command not in known:
            raise ConfigError(f"there is no command '{command}'{did_you_mean(command, known)}")
        with on_signal(partial(_stop_at_once, command=command, argv=arguments)):
            known[command](arguments)
    except ConfigError as error:
        return _fail(explained(error, command, arguments), 2)
    except DecoupleError as error:
        return _fail(explained(error, command, arguments), 1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        full = DecoupleError(
            f"out of memory ({(str(error).splitlines() or ['no more is known'])[0][:120]}); lower --search.batch, the population, "
            "--network.width or a batch; 'decouple estimate PRESET' tells what is needed. Finished work is kept"
        )
        return _fail(explained(full, command, arguments), 1)
    except Interrupted as interruption:
        return _stopped(interruption.number, command, arguments)
    return 0


def explained(error: DecoupleError, command: str, argv: list[str]) -> str:
    """An error's message, and where to give the options that it names if a stage's command lacks them."""
    if (
        command not in STAGE_SECTIONS
        or argv[:1] in (["text"], ["plan"], ["export"])
        or f"'decouple {command}'" in error.message
    ):
        return error.message
    own = {"help", "code", *STAGE_SECTIONS[command], *(entry.name for entry in dataclasses.fields(StageOptions))}
    own |= {entry.name for entry in dataclasses.fields(CompareOptions)} if command == "compare" else set()
    named = [found["name"] for found in OPTION.finditer(error.message) if found["name"]]
    named = [name for name in named if name not in CODE]  # they take it where it is asked for
    lacking = [f"--{name}" for name in dict.fromkeys(named) if name.partition(".")[0].replace("-", "_") not in own]
    if not lacking:
        return error.message
    return (
        f"{error.message} ('decouple {command}' does not take {', '.join(lacking)}; 'decouple run' with another --out does)"
    )


def _fail(message: str, status: int) -> int:
    print(f"decouple: {message}", file=sys.stderr)
    return status


def _stop_at_once(number: int, command: str, argv: list[str]) -> NoReturn:
    """Before a command has opened anything, and while it imports packages, which may swallow an exception."""
    os._exit(_stopped(number, command, argv))


def _stopped(number: int, command: str, argv: list[str]) -> int:
    print(f"\ndecouple: stopped{_how_to_continue(command, argv)}", file=sys.stderr, flush=True)
    return 128 + number


def _how_to_continue(command: str, argv: list[str]) -> str:
    if command not in ("run", "tune", *STAGE_SECTIONS):
        return ""
    if (command in ("run", "tune") or argv[:1] == ["text"]) and "--resume" not in argv:
        argv = [*argv, "--resume"]
    return "; finished work is kept: continue with  " + shlex.join(["decouple", command, *argv])
