"""Settings from files: JSON, YAML and TOML."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from decouple.config.base import to_builtins
from decouple.encoding import decoded
from decouple.errors import ConfigError


def read_file(path: Path) -> dict[str, Any]:
    """Settings from a .json, .yaml, .yml or .toml file, as nested dictionaries.

    A value is what is written: YAML's `no`, `010`, `1:30` and `2024-01-01` are texts, which no number takes, and `1e-3` is
    a number. Raises ConfigError: the file has an unknown type, is missing or does not parse, or a key is given twice."""
    decoders: dict[str, Callable[[str], Any]] = {
        ".json": _from_json,
        ".yaml": _from_yaml,
        ".yml": _from_yaml,
        ".toml": msgspec.toml.decode,
    }
    path = Path(path)
    decode = decoders.get(path.suffix.lower())
    if decode is None:
        raise ConfigError(f"configuration file {path}: the type '{path.suffix}' is not one of {', '.join(decoders)}")
    try:
        values = decode(decoded(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"configuration file {path} is not valid {path.suffix[1:].upper()}: {reason}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"configuration file {path} must hold a table of settings, not {type(values).__name__}")
    return values


def _from_json(text: str) -> Any:
    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_twice([(name, "") for name, _ in pairs])
        return dict(pairs)

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no number of JSON")

    return json.loads(text, object_pairs_hook=table, parse_constant=refuse)


class _Yaml(yaml.SafeLoader):
    """YAML in which a key is given once, and what is neither a number of JSON's kind nor true, false or null is a text."""

    yaml_implicit_resolvers: typing.ClassVar[dict[str, Any]] = {}

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # `<<` has not been followed yet: it may bring in a key that is given here
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _refuse_twice([(key.value, f" (the second time in line {key.start_mark.line + 1})") for key in keys])
        return node


_WHOLE = "[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)"
_NUMBER = r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
for _tag, _pattern in {
    "int": _WHOLE,
    "float": rf"{_NUMBER}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "bool": "true|True|TRUE|false|False|FALSE",
    "null": "~|null|Null|NULL|",
    "merge": "<<",
}.items():
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), None)


def _from_yaml(text: str) -> Any:
    try:
        return to_builtins(yaml.load(text, _Yaml))  # which has no end where an anchor holds itself
    except yaml.MarkedYAMLError as error:
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"{error.problem}{where}") from None


def _refuse_twice(keys: list[tuple[str, str]]) -> None:
    """Raise ValueError if of these keys, each with where it stands, one is given a second time: the first would be lost."""
    names = [name for name, _ in keys]
    for i, (name, where) in enumerate(keys):
        if name in names[:i]:
            raise ValueError(f"'{name}' is given twice{where}")
