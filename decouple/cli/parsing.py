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
    CompareArguments,
    ExportOptions,
    PlanOptions,
    RunArguments,
    RunOptions,
    StageArguments,
    TextArguments,
)
from decouple.config import RunConfig, TextConfig
from decouple.errors import ConfigError, did_you_mean
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
    values = settings.read_file(Path(file))
    values.pop("preset", None)
    return settings.from_builtins(values, base, source=file)


def value_of(option: str, argv: list[str]) -> str | None:
    """The value of an option that must be known before the others are parsed."""
    for i, argument in enumerate(argv):
        if argument == option and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith(option + "="):
            return argument.partition("=")[2]
    return None


def parse(usage: str, argv: list[str], defaults: Arguments) -> Arguments:
    """Parse options over `defaults`, with errors in one line where tyro draws a box."""
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
            raise ConfigError(f"unexpected argument '{option}': settings are given as --section.name value")
        known = _options(defaults)
        if within := [name for name in known if name.startswith(f"{option}.")]:
            raise ConfigError(f"'{option}' is a section of settings: give {', '.join(within)}")
        raise ConfigError(f"unknown option '{option}'{did_you_mean(option.partition('=')[0].replace('_', '-'), known)}")
    return parsed


def _described(usage: str, defaults: Any) -> str:
    if not hasattr(defaults, "settings"):
        return "Every option, with its default."
    return f"Every setting, with its value in {'this run' if 'RUN_DIR' in usage else 'this preset'}."


def _options(arguments: Any, prefix: str = "") -> list[str]:
    """Every option's name."""
    found = []
    for entry in dataclasses.fields(arguments):
        if entry.name == "preset":  # given by its place
            continue
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
    r"no type matching (\S+) could be instantiated from \[(\S+)\]\..*": r"expected \1, got \2",
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
