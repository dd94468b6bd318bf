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

Train neural networks by searching for representations and then learning them; combine the solutions into an ensemble.

Whole runs:
  decouple run PRESET          search, learn, compare with SGD, train the q0 population and write a report;
                               --seeds 0 1 2 makes one run per seed and a table of them
  decouple table RUN_DIR ...   compare finished runs: mean and standard deviation over seeds, difference from SGD
  decouple estimate PRESET     predict the time, memory and disk space of a run
  decouple tune PRESET         tune SGD and learning with equally many trials, on validation images
  decouple presets             list the presets
  decouple points NETWORK      list the layers at which a network can be cut into search points

Stages of a run. Each first does the stages that it needs; repeat one with other settings, such as --q0.cycles 8:
  decouple search RUN_DIR      search targets for the training images
  decouple learn RUN_DIR       train networks on the targets, and the SGD baselines
  decouple compare RUN_DIR     compare the trajectories of the networks, also of several runs (RUN_DIR RUN_DIR ...)
  decouple q0 RUN_DIR          train the population, fit its weights and evaluate the ensemble
  decouple report RUN_DIR      do all stages, and rebuild results and report.html

  decouple export RUN_DIR --to FILE
                               write the ensemble, or one network, to a file
  decouple q0 text --data FILE  train a population of small GPTs on a text file
  decouple q0 plan --epochs E  show the best measured way to spend E epochs
  decouple report --schema     print the JSON schema of results.json and curves.json
  decouple version             print the versions of decouple and of the packages that decide results

Start with 'decouple run digits'. 'decouple COMMAND --help' lists all options of a command.
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
    if command not in STAGE_SECTIONS or argv[:1] in (["text"], ["plan"]) or f"'decouple {command}'" in error.message:
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
