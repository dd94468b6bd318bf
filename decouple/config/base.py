"""What all settings share: a section checks its values when it is made, wherever they come from."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec

from decouple.errors import SettingError, expect
from decouple.formats import html_table

_MOST = 2**63 - 1
"""The largest whole number that torch takes."""

NO_IDENTITY = "does not decide a result"
"""Marks a field, in `Annotated`, that no unit of a stage depends on: how many there are, or what is only done with them."""
OFF_AT_ZERO = "off at 0, and then as if it did not exist"
"""Marks a field that is left out of the identity while it is 0, so that what was made before it existed goes on."""


def at_least(least: int, most: int = _MOST, multiple_of: int | None = None) -> msgspec.Meta:
    """The range of a whole number."""
    return msgspec.Meta(ge=least, le=most, multiple_of=multiple_of)


Positive = Annotated[int, at_least(1)]
Batch = Annotated[int, at_least(2)]
Count = Annotated[int, at_least(0)]
Seed = Annotated[int, at_least(0)]
Name = Annotated[str, msgspec.Meta(min_length=1)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
NonNegative = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
BelowOne = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Section:
    """Base of all settings, which are frozen dataclasses: one with a wrong value cannot be made.

    Numbers of numpy and torch, arrays and paths are taken, and become what `to_builtins` makes of them. Raises
    SettingError: a value has the wrong type or is out of range, or fields contradict each other."""

    def __post_init__(self) -> None:
        for name, hint in hints(type(self)).items():
            value = getattr(self, name)
            if isinstance(hint, type) and issubclass(hint, Section):
                expect(value, hint, f"{type(self).__name__}: {name}")
                continue
            try:
                value = msgspec.convert(to_builtins(value), hint, dec_hook=_path)
            except msgspec.ValidationError:
                self._refuse(name, _expected(hint, value))
            object.__setattr__(self, name, value)
        self._check()

    def _repr_html_(self) -> str:
        return html_table(self._named())

    def _named(self) -> Iterator[tuple[str, str]]:
        """Every field's name, "section.field" of one of a section, with its value."""
        for name in hints(type(self)):
            value = getattr(self, name)
            if isinstance(value, Section):
                yield from ((f"{name}.{inner}", shown) for inner, shown in value._named())
            else:
                yield name, str(value)

    def _check(self) -> None:
        """Refuse fields that contradict each other."""

    def _refuse(self, name: str, expected: str) -> NoReturn:
        """Raise SettingError for the field `name`, "section.field" for one of a section."""
        value: Any = self
        for part in name.split("."):
            value = getattr(value, part)
        raise SettingError(name, f" = {repr(to_builtins(value))[:200]}: expected {expected}", type(self).__name__)


@contextmanager
def inside(section: str) -> Iterator[None]:
    """A refusal of this section names its field as section.field."""
    try:
        yield
    except SettingError as error:
        raise SettingError(f"{section}.{error.name}", error.reason) from None


def hints(kind: type[Section]) -> dict[str, Any]:
    """The types of a section's fields, with their ranges."""
    return _hints(kind)  # type: ignore[arg-type]  # mypy looks at the hash of its instances


@cache
def _hints(kind: Any) -> dict[str, Any]:
    resolved = typing.get_type_hints(kind, include_extras=True)
    return {field.name: resolved[field.name] for field in dataclasses.fields(kind)}


def identity(section: Section) -> dict[str, Any]:
    """The settings that decide a result, as what JSON holds: all but those that are marked `NO_IDENTITY`, and options that are off."""
    found = {}
    for name, hint in hints(type(section)).items():
        value, marks = getattr(section, name), getattr(hint, "__metadata__", ())
        if NO_IDENTITY not in marks and not (OFF_AT_ZERO in marks and not value):
            found[name] = identity(value) if isinstance(value, Section) else to_builtins(value)
    return found


def to_builtins(config: Any) -> Any:
    """The configuration as what JSON holds, so that equal settings have equal fingerprints.

    Numbers of numpy and torch become Python's, a float of 32 bits the shortest decimal that stands for it; -0.0 becomes 0.0,
    arrays and tuples become lists, paths texts. What no file can hold stays, for the check to name it.

    >>> import numpy as np
    >>> to_builtins({"lr": np.float32(0.1), "groups": np.array([1, 2]), "clip": -0.0})
    {'lr': 0.1, 'groups': [1, 2], 'clip': 0.0}
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_builtins(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {name: to_builtins(value) for name, value in config.items()}
    if isinstance(config, os.PathLike):
        return os.fspath(config)
    if hasattr(config, "shape") and hasattr(config, "item"):  # of numpy or torch, neither of which is imported here
        return _number(config) if len(config.shape) == 0 else [to_builtins(value) for value in config]
    if isinstance(config, list | tuple):
        return [to_builtins(value) for value in config]
    if isinstance(config, float):
        return config + 0.0  # not -0.0
    return config


def _number(scalar: Any) -> Any:
    """The Python value of an array without dimensions."""
    value = scalar.item()
    if not isinstance(value, float):
        return value
    of_its_type = scalar.new_tensor if hasattr(scalar, "new_tensor") else scalar.dtype.type
    written = (float(f"{value:.{digits}g}") for digits in range(1, 18))
    return next((number for number in written if of_its_type(number) == scalar), value) + 0.0


def _path(kind: type, text: Any) -> Path:
    if kind is not Path or not text:  # the empty path would be the current folder
        raise ValueError
    return Path(text)


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    Path: "a path",
    type(None): "none",
}


def _expected(hint: Any, value: Any = None) -> str:
    """A type and its range in words.

    >>> _expected(Positive | None)
    'a whole number ≥ 1 or none'
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = [bound for meta in arguments[1:] if isinstance(meta, msgspec.Meta) for bound in _bounds(meta, value)]
        if bounds == [] and arguments[0] is str:
            bounds = ["that is not empty"]
        return " ".join([_expected(arguments[0], value), " and ".join(bounds)]).strip()
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_expected(argument, value) for argument in arguments)
    if origin is tuple:
        return f"one or more values, each {_expected(arguments[0])}"
    if origin is dict and typing.get_origin(arguments[1]) is tuple:
        return "one or more names with their values, NAME=VALUE,VALUE"
    if origin is dict:
        return f"one or more names with a value each, {_expected(arguments[1])}"
    return _WORDS[hint]


def _bounds(meta: msgspec.Meta, value: Any) -> list[str]:
    """What is demanded of a number; that it fits 64 bits only of one that does not."""
    bounds = {"≥": meta.ge, ">": meta.gt, "≤": meta.le, "<": meta.lt, "a multiple of": meta.multiple_of}
    too_large = isinstance(value, int) and value > _MOST
    stated = {sign: bound for sign, bound in bounds.items() if bound is not None and (bound != _MOST or too_large)}
    return [f"{sign} {bound:.12g}" if isinstance(bound, float) else f"{sign} {bound}" for sign, bound in stated.items()]
