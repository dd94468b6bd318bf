"""From the command line to options and settings, with errors in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from pathlib import Path
from typing import Any, TypeVar

import tyro

from decouple import settings
from decouple.cli.options import (
    STAGE_SECTIONS,
    CompareArguments,
    ExportOptions,
    PlanOptions,
    RunArguments,
    RunOptions,
    StageArguments,
    StageOptions,
    TextArguments,
)
from decouple.config import RunConfig, TextConfig
from decouple.config.files import read_file
from decouple.errors import OPTION, ConfigError, DecoupleError, did_you_mean
from decouple.presets import PRESETS, preset

Arguments = TypeVar("Arguments", RunArguments, StageArguments, CompareArguments, TextArguments, PlanOptions, ExportOptions)
Settings = TypeVar("Settings", RunConfig, TextConfig)


def base_settings(command: str, argv: list[str]) -> RunConfig:
    """The settings before the command line's own: the preset's, with a --config file's over them."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        raise ConfigError(
            f"'decouple {command}' needs a preset first: decouple {command} digits; known: {', '.join(PRESETS)}"
        )
    if argv[0].startswith("-"):
        parse(f"{command} PRESET", argv, RunArguments(RunOptions(), RunConfig()))
    return with_file(preset(argv[0]), argv)


def with_file(base: Settings, argv: list[str]) -> Settings:
    """A preset's settings, with a --config file's over them."""
    file = value_of("--config", argv)
    if file is None:
        return base
    values = read_file(Path(file))
    values.pop("preset", None)
    return settings.from_builtins(values, base, source=file)


def value_of(option: str, argv: list[str]) -> str | None:
    """The value of an option that must be known before the others are parsed."""
    _refuse_lost_values(argv)
    for i, argument in enumerate(argv):
        if argument == option and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith(option + "="):
            return argument.partition("=")[2]
    return None


def parse(usage: str, argv: list[str], defaults: Arguments) -> Arguments:
    """Parse options over `defaults`, with errors in one line where tyro draws a box."""
    _refuse_lost_values(argv)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            parsed, unknown = tyro.cli(
                type(defaults),
                args=argv,
                default=defaults,
                prog=f"decouple {usage}",
                description=_described(usage, defaults),
                return_unknown_args=True,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ConfigError(_unboxed(box.getvalue())) from None
    if unknown:
        option = unknown[0]
        if not option.startswith("-"):
            form = "settings are given as --section.name value" if hasattr(defaults, "settings") else "see --help"
            raise ConfigError(f"unexpected argument '{option}': {form}")
        known = _options(defaults)
        if within := [name for name in known if name.startswith(f"{option}.")]:
            raise ConfigError(f"'{option}' is a section of settings: give {', '.join(within)}")
        hint = did_you_mean(option.partition("=")[0].replace("_", "-"), known)
        raise ConfigError(f"unknown option '{option}'{hint or '; see --help'}")
    return parsed


def _refuse_lost_values(argv: list[str]) -> None:
    """Raise ConfigError if an option is given twice, as the first would be lost, or is empty, as it would be the current folder."""
    given: set[str] = set()
    for before, argument in zip(["", *argv], argv, strict=False):
        name = argument.partition("=")[0]
        if argument == "--":
            raise ConfigError("unexpected argument '--': settings are given as --section.name value")
        if not argument or (name.startswith("--") and argument == f"{name}="):
            raise ConfigError(f"{name or before or 'an argument'} is empty: give it a value, or leave it out")
        if not name.startswith("--"):
            continue
        option = _ALIASES.get(name, name.replace("_", "-"))
        if option in given:
            raise ConfigError(f"{name} is given twice: give one value")
        given.add(option)


_ALIASES = {"--rounds": "--rounds.count"}


def explained(error: DecoupleError, command: str, argv: list[str]) -> str:
    """An error's message, and where to give the options that it names if a stage's command lacks them."""
    if (
        command not in STAGE_SECTIONS
        or argv[:1] in (["text"], ["plan"], ["export"])
        or f"'decouple {command}'" in error.message
    ):
        return error.message
    own = {"help", *STAGE_SECTIONS[command], *(entry.name for entry in dataclasses.fields(StageOptions))}
    named = [found["name"] for found in OPTION.finditer(error.message) if found["name"]]
    named = [name for name in named if name != "search.algorithm"]  # they take it where it is asked for
    lacking = [f"--{name}" for name in dict.fromkeys(named) if name.partition(".")[0].replace("-", "_") not in own]
    if not lacking:
        return error.message
    return (
        f"{error.message} ('decouple {command}' does not take {', '.join(lacking)}; 'decouple run' with another --out does)"
    )


def _described(usage: str, defaults: Any) -> str:
    if not hasattr(defaults, "settings"):
        return "Every option, with its default."
    return f"Every setting, with its value in {'this run' if 'RUN_DIR' in usage else 'this preset'}."


def _options(arguments: Any, prefix: str = "") -> list[str]:
    """Every option's name."""
    found = []
    for entry in dataclasses.fields(arguments):
        if entry.name == "preset" or tyro.conf.Suppress in getattr(entry.type, "__metadata__", ()):
            continue  # given by its place, or not to be given
        value = getattr(arguments, entry.name)
        name = prefix if entry.name in ("options", "settings") else f"{prefix}{entry.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            found += _options(value, f"{name}." if name else "")
        else:
            found.append(f"--{name}")
    return found


_PLAIN = {
    r"invalid literal for int\(\) with base 10: (\S+)": r"expected a whole number, got \1",
    r"could not convert string to float: (\S+)": r"expected a number, got \1",
    r"no type matching (.+?) could be instantiated from \[(.*?)\]\..*": r"expected \1, got \2",
}
"""What Python and tyro say of a value, for people."""


def _unboxed(text: str) -> str:
    """The message of one of tyro's boxes, on one line, without the help that follows it."""
    lines = [line.strip("│ ").strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    message = []
    for line in lines:
        if line.startswith("──"):
            break
        if line and not line.startswith(("╭", "╰")):
            message.append(line)
    text = " ".join(message).removeprefix("Error parsing ")
    for python, plain in _PLAIN.items():
        text = re.sub(python, plain, text)
    return f"{text} (see --help)" if text else "the options cannot be parsed; see --help"
