"""From the command line to options and settings: tyro finds the options and prints the help, sections check the values."""

from __future__ import annotations

import ast
import inspect
import itertools
import os
import types
import typing
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from decouple.cli.options import ABOUT, STAGE_SECTIONS
from decouple.config import RunConfig, Section
from decouple.config.base import hints
from decouple.errors import ConfigError, SettingError, did_you_mean
from decouple.settings import Config, flattened, from_builtins, with_values

Options = TypeVar("Options", bound=Section)


SHORT = {"--network": "--network.name", "--search.network": "--search.network.name"}
"""Settings that have a short name."""


def spelled_out(argv: list[str]) -> list[str]:
    """The arguments without short names."""
    parts = [argument.partition("=") for argument in argv]
    return [SHORT.get(name, name) + equals + value for name, equals, value in parts]


def peek(options: Options, argv: list[str]) -> Options:
    """The options that the defaults of the others depend on; whatever else is given is left for `parse_settings`."""
    return _with_given(options, _given(spelled_out(argv), _fields(options), add_help=False)[0])


def parse_options(usage: str, argv: list[str], options: Options) -> Options:
    """The options of a command that has no settings.

    Raises:
        ConfigError: an option is unknown, is given twice or has a wrong value.
    """
    values, unknown = _given(spelled_out(argv), _fields(options), usage=usage, about=ABOUT.get(usage, ""))
    _refuse_unknown(unknown, _names(options), form="see --help")
    return _with_given(options, values)


def parse_settings(usage: str, argv: list[str], options: Section, base: Config, shown: Collection[str]) -> Config:
    """The settings of a command, beside its options.

    Args:
        base: holds the settings that are not given.
        shown: the fields of `base` that the command takes.

    Raises:
        ConfigError: an option is unknown, is given twice or has a wrong value.
    """
    about = f"{ABOUT.get(usage, '')} Defaults are the values of {'the run' if 'RUN_DIR' in usage else 'the preset'}."
    values, unknown = _given(spelled_out(argv), [*_fields(options), *_fields(base, shown)], usage=usage, about=about)
    kept = [name for name in _names(base, set(hints(type(base))) - set(shown)) if name != "--preset"]
    if unknown and (option := _option(unknown[0])) in kept:
        section, own = option[2:].partition(".")[0], usage.partition(" ")[0]
        stage = next((stage for stage, sections in STAGE_SECTIONS.items() if section in sections), None)
        other = f"'decouple {stage} RUN_DIR {option} …'" if stage else "'decouple run' with another --out"
        raise ConfigError(f"'decouple {own}' does not change {option}, which the run keeps; {other} does")
    _refuse_unknown(unknown, [*_names(options), *_names(base, shown)], form="settings are given as --section.name value")
    with _named_as_options():
        config = from_builtins({name: values[name] for name in hints(type(base)) if name in shown}, base)
    given = {_option(argument) for argument in spelled_out(argv)}
    if isinstance(config, RunConfig) and (idle := [name for name in config.idle if _option(f"--{name}") in given]):
        raise ConfigError(
            f"{_option(f'--{idle[0]}')} is of the paper's network, and --network is {config.network.name}: leave it out; arguments of "
            "other networks are given as --network.args NAME=VALUE"
        )
    return config


def _with_given(options: Options, values: dict[str, Any]) -> Options:
    with _named_as_options():
        return with_values(options, values)


@contextmanager
def _named_as_options() -> Iterator[None]:
    """A setting that is refused is named as its option."""
    try:
        yield
    except SettingError as error:
        raise SettingError(_option(f"--{error.name}"), error.reason) from None


def _option(argument: str) -> str:
    """The name of an option, as it is printed."""
    return argument.partition("=")[0].replace("_", "-")


def _names(section: Section, shown: Collection[str] | None = None) -> list[str]:
    """The options of a section."""
    return [_option(f"--{name}") for name in flattened(section) if shown is None or name.partition(".")[0] in shown]


def _refuse_unknown(unknown: list[str], known: list[str], *, form: str) -> None:
    if not unknown:
        return
    option = _option(unknown[0])
    if not option.startswith("--"):
        raise ConfigError(f"unexpected argument '{unknown[0]}': {form}")
    if within := [name for name in known if name.rpartition(".")[0] == option]:
        raise ConfigError(f"'{option}' is a section of settings: give {', '.join(within)}")
    raise ConfigError(f"unknown option '{option}'{did_you_mean(option, known) or '; see --help'}")


class _Arguments:
    """What a command takes."""


def _given(
    argv: list[str], fields: Iterable[StructFieldSpec], *, usage: str = "", about: str = "", add_help: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """The values of the fields, given or not, as nested dictionaries; and the arguments that are none of theirs."""
    if "--" in argv:
        raise ConfigError("unexpected argument '--': settings are given as --section.name value")
    options = [_option(argument) for argument in argv if argument.startswith("--")]
    for option in options:
        if options.count(option) > 1:
            raise ConfigError(f"{option} is given twice: give one value")
    fields, registry = tuple(fields), ConstructorRegistry()

    @registry.struct_rule
    def dictionary(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type is _Arguments:
            return StructConstructorSpec(dict, fields)
        if isinstance(info.type, type) and issubclass(info.type, Section):
            return StructConstructorSpec(_dictionary_for(info.type), tuple(_fields(info.default)))
        return None

    with registry:
        values, unknown = tyro.cli(
            _Arguments,
            args=argv,
            prog=f"decouple {usage}",
            description=about,
            add_help=add_help,
            return_unknown_args=True,
        )
    return typing.cast(dict[str, Any], values), unknown


def _dictionary_for(kind: type[Section]) -> Any:
    """A constructor of dictionaries that tyro describes as it would describe the section."""

    def dictionary(**values: Any) -> dict[str, Any]:
        return values

    automatic = f"{kind.__name__}("
    dictionary.__doc__ = None if (kind.__doc__ or automatic).startswith(automatic) else kind.__doc__
    return dictionary


def _fields(section: Section, shown: Collection[str] | None = None) -> Iterator[StructFieldSpec]:
    for name, hint in hints(type(section)).items():
        if shown is None or name in shown:
            value, text = getattr(section, name), partial(_description, type(section), name)
            kind = hint if isinstance(value, Section) else _option_of(hint)
            yield StructFieldSpec(name, typing.cast(type, kind), value, helptext=text)


def _description(kind: type[Section], name: str) -> str | None:
    return _descriptions(kind).get(name)  # type: ignore[arg-type]  # mypy looks at the hash of its instances


@cache
def _descriptions(kind: Any) -> dict[str, str]:
    """The text below each field in the source; a field that only changes its default keeps the inherited one."""
    found = {}
    for base in reversed(kind.__mro__[: kind.__mro__.index(Section)]):
        (definition,) = ast.parse(inspect.getsource(base)).body
        for field, text in itertools.pairwise(typing.cast(ast.ClassDef, definition).body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[typing.cast(ast.Name, field.target).id] = " ".join(str(text.value.value).split())
    return found


def _option_of(hint: Any) -> Any:
    """How a field is written on the command line. Whatever is written is taken: the section refuses it, in its own words."""
    kinds = _kinds(hint)
    several = any(typing.get_origin(kind) is tuple for kind in kinds)
    option = PrimitiveConstructorSpec(
        nargs="*",
        metavar=" | ".join(_metavar(kind) for kind in kinds if not (several and kind is str)),
        instance_from_str=partial(_value, kinds),
        is_instance=lambda value: True,
        str_from_instance=_written,
    )
    return Annotated[Any, option, tyro.conf.arg(help_behavior_hint="" if bool in kinds else None)]


def _kinds(hint: Any) -> list[Any]:
    """The types that a field may have, without their ranges."""
    if typing.get_origin(hint) is Annotated:
        return _kinds(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [kind for each in typing.get_args(hint) for kind in _kinds(each)]
    return [hint]


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    if typing.get_origin(kind) is tuple:
        (one,) = map(_metavar, _kinds(typing.get_args(kind)[0]))
        return f"{one} [{one} ...]"
    if typing.get_origin(kind) is dict:
        if typing.get_origin(typing.get_args(kind)[1]) is tuple:
            return "NAME=VALUE,VALUE [NAME=VALUE,VALUE ...]"
        if bool in _kinds(typing.get_args(kind)[1]):
            return "NAME=VALUE [NAME=VALUE ...]"
        pair = "POINT " + "".join(map(_metavar, _kinds(typing.get_args(kind)[1])))
        return f"{pair} [{pair} ...]"
    return {int: "INT", float: "FLOAT", Path: "PATH", str: "TEXT", bool: "", type(None): "none"}[kind]


def _value(kinds: list[Any], words: list[str]) -> Any:
    """The value that the words after an option stand for; the words, if it can have none such."""
    origins = [typing.get_origin(kind) for kind in kinds]
    if origins == [dict] and all("=" in word for word in words):
        several = typing.get_origin(typing.get_args(kinds[0])[1]) is tuple
        pairs = [word.partition("=")[::2] for word in words]
        return {name: [_number(one) for one in value.split(",")] if several else _argument(value) for name, value in pairs}
    if dict in origins and len(words) > 1 and len(words) % 2 == 0:
        return {name: _number(word) for name, word in zip(words[::2], words[1::2], strict=True)}
    sequence = next((kind for kind in kinds if typing.get_origin(kind) is tuple), None)
    if sequence is not None and (len(words) != 1 or str not in kinds) and words != ["none"]:
        return [_number(word) if int in _kinds(typing.get_args(sequence)[0]) else word for word in words]
    if bool in kinds and words in ([], ["true"], ["false"]):
        return words != ["false"]
    if len(words) != 1:
        return words
    (word,) = words
    if type(None) in kinds and word.lower() == "none":
        return None
    if Path in kinds:
        return os.path.expanduser(word)  # in --out=~/runs the shell has not done it
    return _number(word) if int in kinds or float in kinds else word


def _argument(word: str) -> int | float | str | bool:
    """The value of an argument that code is called with."""
    return {"true": True, "false": False}.get(word.lower(), _number(word))


def _number(word: str) -> int | float | str:
    """The number that is written; the word, if it is none."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _written(value: Any) -> list[str]:
    if isinstance(value, dict) and any(isinstance(each, str | bool) for each in value.values()):
        return [f"{name}={each}" for name, each in value.items()]
    if isinstance(value, dict):
        return [str(word) for pair in value.items() for word in pair]
    if isinstance(value, str) and not value.isprintable():
        return [value.encode("unicode_escape").decode()]
    return [str(each) for each in value] if isinstance(value, tuple) else ["none" if value is None else str(value)]
