"""Settings from dictionaries and files, compared and named: what is done with a `decouple.config`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from decouple import own_code
from decouple.config import RunConfig, Section, TextConfig, identity
from decouple.config.base import inside, to_builtins
from decouple.config.images import PLACES
from decouple.errors import ConfigError, SettingError, did_you_mean

_ANYWHERE = "the configuration"
"""The source of settings that come from no file."""

Config = TypeVar("Config", RunConfig, TextConfig)
"""All settings of a command."""


@typing.overload
def from_builtins(values: Any, base: None = None, *, source: str = ...) -> RunConfig: ...


@typing.overload
def from_builtins(values: Any, base: Config, *, source: str = ...) -> Config: ...


def from_builtins(values: Any, base: Any = None, *, source: str = _ANYWHERE) -> Any:
    """A checked configuration from nested dictionaries; what they leave out comes from `base`.

    Args:
        values: as `to_builtins` gives or takes them.
        base: a whole configuration; None: the default one.
        source: the file that they are from, if any, which a refusal names: the mistake is mended there.

    Raises:
        ConfigError: an unknown key (with near matches), a wrong type or a value out of range.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold a table of settings, not {type(values).__name__}")
    base = base or RunConfig()
    _refuse_unknown(values, base, source)
    try:
        return with_values(base, values)
    except SettingError as error:
        raise SettingError(error.name, error.reason, "" if source == _ANYWHERE else source) from None


def with_values(section: Any, values: dict[str, Any]) -> Any:
    """The section with other values; a value by search point takes the place of the whole."""
    new = {}
    for name, value in values.items():
        if isinstance(own := getattr(section, name), Section):
            with inside(name):
                value = with_values(own, value)
        new[name] = value
    return dataclasses.replace(section, **new)


def located(config: RunConfig, data_root: Path | str | None) -> RunConfig:
    """`config` with the places of data and of the user's own code made absolute: the run resumes from anywhere."""
    root = os.path.expanduser(data_root or ".")
    kind, _, path = config.data.name.partition(":")
    data = own_code.located(config.data.name) if config.data.is_code else config.data.name
    if data.startswith(PLACES) and path:
        data = f"{kind}:{os.path.realpath(os.path.join(root, os.path.expanduser(path)))}"
    elif data.startswith("hf:") and os.path.isdir(os.path.expanduser(path)):  # or else it is a name on the hub
        data = f"hf:{os.path.realpath(os.path.expanduser(path))}"
    return with_values(
        config,
        {
            "search": {
                "algorithm": own_code.located(config.search.algorithm),
                "network": {"name": own_code.located(config.search.network.name)},
            },
            "network": {"name": own_code.located(config.network.name)},
            "data": {"name": data},
        },
    )


def differences(one: Any, other: Any) -> list[str]:
    """The fields in which two configurations differ, as "section.field: a → b"."""
    flat_one, flat_other = flattened(one), flattened(other)
    return [f"{name}: {flat_one[name]!r} → {flat_other[name]!r}" for name in flat_one if flat_one[name] != flat_other[name]]


def fingerprint(*parts: Any) -> str:
    """Eight hexadecimal digits that name what a stage's unit depends on; of settings, those that decide it (`identity`)."""

    def plain(value: Any) -> Any:
        return identity(value) if isinstance(value, Section) else to_builtins(value)

    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _refuse_unknown(values: dict[str, Any], known: Any, source: str, prefix: str = "") -> None:
    """Raise ConfigError if a name is no setting of the section `known`."""
    for name, value in values.items():
        if name not in vars(known):
            whole = f"{prefix}{name}"
            if whole in flattened(known, prefix):
                hint = f"; it is a setting of the section '{whole.rpartition('.')[0]}': write it inside that section"
            else:
                hint = did_you_mean(whole, [f"{prefix}{field}" for field in vars(known)])
            raise ConfigError(f"{source} has an unknown setting '{whole}'{hint}")
        if isinstance(section := getattr(known, name), Section):
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: '{prefix}{name}' is a section of settings, not {value!r}")
            _refuse_unknown(value, section, source, f"{prefix}{name}.")


def flattened(section: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting by its whole name, as what JSON holds."""
    flat: dict[str, Any] = {}
    for name, value in vars(section).items():
        inner = isinstance(value, Section)
        flat |= flattened(value, f"{prefix}{name}.") if inner else {prefix + name: to_builtins(value)}
    return flat


def unflattened(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their whole names as nested dictionaries.

    >>> unflattened({"learn.lr": 0.1, "learn.live.weight": 1.0})
    {'learn': {'lr': 0.1, 'live': {'weight': 1.0}}}
    """
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, field = name.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[field] = value
    return nested
