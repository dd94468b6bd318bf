"""Settings checked, read from files, compared and named: what is done with a `decouple.config`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from decouple import registry
from decouple.config import (
    DataConfig,
    LearnConfig,
    NetworkConfig,
    Q0Config,
    RunConfig,
    SearchConfig,
    SgdConfig,
    TextConfig,
    TrainConfig,
)
from decouple.encoding import decoded
from decouple.errors import ConfigError, did_you_mean

_ANYWHERE = "the configuration"
"""The source of settings that come from no file."""

Config = TypeVar("Config", RunConfig, TextConfig)
"""All settings of a command."""


def check(config: Config) -> Config:
    """`config`, if every value has its type and lies in its range.

    Raises:
        ConfigError: names the field, the value, what is allowed and the option that mends it.
    """
    return from_builtins(to_builtins(config), type(config)())


Section = TypeVar("Section", bound=DataConfig | NetworkConfig | SearchConfig | LearnConfig | SgdConfig | Q0Config)


def check_section(section: Section) -> Section:
    """One section's settings with every value in the type of its field, for functions that take only this section.

    Raises:
        ConfigError: names the field, the value and what is allowed.
    """
    values = to_builtins(section)
    _refuse_unknown(values, type(section)(), type(section).__name__)
    checked = _converted(values, type(section))
    if isinstance(checked, TrainConfig):
        _check_training(checked)
    if isinstance(checked, SearchConfig):
        _check_search(checked)
    return checked


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
        config = _converted(_merge(base, to_builtins(values)), type(base))
        _check_across(config)
    except ConfigError as error:
        raise (error if source == _ANYWHERE else ConfigError(f"{source}: {error}")) from None
    return config


def _converted(values: dict[str, Any], kind: type[Any]) -> Any:
    """Settings of this kind from what JSON holds, if each value has its type and lies in its range."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), values, kind)) from None


def located(config: RunConfig, data_root: Path | str | None) -> RunConfig:
    """`config` with the places of a folder of images, and of an algorithm's file, made absolute: the run resumes from anywhere."""
    config = dataclasses.replace(
        config, search=dataclasses.replace(config.search, algorithm=registry.located(config.search.algorithm))
    )
    kind, _, path = config.data.name.partition(":")
    if kind != "folder" or not path:
        return config
    name = f"folder:{os.path.realpath(os.path.join(data_root or '.', os.path.expanduser(path)))}"
    return dataclasses.replace(config, data=dataclasses.replace(config.data, name=name))


def differences(one: Any, other: Any) -> list[str]:
    """The fields in which two configurations differ, as "section.field: a → b"."""
    flat_one, flat_other = _flatten(one), _flatten(other)
    return [f"{name}: {flat_one[name]!r} → {flat_other[name]!r}" for name in flat_one if flat_one[name] != flat_other[name]]


def fingerprint(*parts: Any) -> str:
    """Eight hexadecimal digits that name a stage's settings: other settings, another folder."""
    text = json.dumps(parts, sort_keys=True, default=to_builtins)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def read_file(path: Path) -> dict[str, Any]:
    """Settings from a .json, .yaml, .yml or .toml file, as nested dictionaries.

    A value is what is written: YAML's `no`, `010`, `1:30` and `2024-01-01` are texts, which no number takes, and `1e-3` is a number.

    Raises:
        ConfigError: another kind of file, a missing one, one that does not parse, or a key that is given twice.
    """
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
        node = super().compose_mapping_node(
            anchor
        )  # `<<` has not been followed yet: it may bring in a key that is given here
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


def _check_across(config: RunConfig | TextConfig) -> None:
    """Rules that tie several fields together."""
    _check_cycles(config.q0)
    if isinstance(config, TextConfig):
        if config.q0.init != "random" or config.q0.augment != "none" or config.q0.trajectories is None:
            raise ConfigError(
                f"q0.init = {config.q0.init}, q0.augment = {config.q0.augment}, q0.trajectories = {config.q0.trajectories}: on text "
                "every trajectory is new and nothing is augmented; expected random, none and a number"
            )
        check_member_count(config.q0, config.q0.trajectories)
        return
    _check_search(config.search)
    _check_training(config.learn)
    _check_training(config.sgd)
    if not config.sgd.groups:
        raise ConfigError("sgd.groups is empty: give at least one number of ConvGroups, such as --sgd.groups 1 2")
    check_member_count(config.q0, config.q0.trajectories or config.search.solutions)
    if config.data.validation < 4:
        raise ConfigError(
            f"data.validation = {config.data.validation}: expected at least 4; give --data.validation another value"
        )
    if config.compare.images > config.data.validation:
        raise ConfigError(
            f"compare.images = {config.compare.images} exceeds data.validation = {config.data.validation}, "
            f"from which these images come; give --compare.images {config.data.validation}"
        )


def _check_cycles(q0: Q0Config) -> None:
    if q0.warmup + q0.warmdown > 1:
        raise ConfigError(
            f"q0.warmup = {q0.warmup} and q0.warmdown = {q0.warmdown} are shares of one cycle: expected a sum of at most 1; give "
            "--q0.warmup or --q0.warmdown another value"
        )
    if q0.perturb and q0.restart == "new":
        raise ConfigError(
            f"q0.perturb = {q0.perturb}: noise on the weights wants cycles that go on from them, and with q0.restart = new each "
            "begins with a new network; give --q0.restart continue, or --q0.perturb 0"
        )


def _check_search(search: SearchConfig) -> None:
    registry.check(search.algorithm)
    if not search.points:
        raise ConfigError("search.points is empty: give last, all or names of search points")
    for section in ("es", "paper"):
        for name, value in vars(getattr(search, section)).items():
            if value == {}:
                raise ConfigError(
                    f"search.{section}.{name} is empty: give one value, or values by search point, such as blocks and logits"
                )
    paper = search.paper
    if paper.population <= paper.parents or paper.population < paper.parents + paper.explorers:
        raise ConfigError(
            f"search.paper.population = {paper.population} is too small for {paper.parents} parents and {paper.explorers} "
            f"explorers: it must be above {paper.parents} and at least {paper.parents + paper.explorers}; give "
            "--search.paper.population, --search.paper.parents or --search.paper.explorers another value"
        )
    if search.algorithm == "cem" and search.es.population < 4:
        raise ConfigError(
            f"search.es.population = {search.es.population} is too small for cem: half of it are parents, and one alone "
            "has no deviation; give --search.es.population at least 4"
        )


def check_member_count(q0: Q0Config, trajectories: int) -> None:
    """Raise ConfigError if more members are asked for than so many trajectories leave snapshots."""
    if q0.members is not None and q0.members > (made := trajectories * q0.cycles):
        raise ConfigError(
            f"q0.members = {q0.members}: expected at most {made}, the snapshots of {trajectories} × {q0.cycles} cycles; give "
            "q0.members another value, or more q0.cycles"
        )


def _check_training(section: TrainConfig) -> None:
    if section.optimizer != "sgd" and section.lr_unit == "airbench":
        raise ConfigError(
            f"optimizer = {section.optimizer} with lr_unit = airbench: that unit is defined for sgd alone; use lr_unit = step, and "
            "an lr in torch's unit"
        )
    if isinstance(section, LearnConfig) and section.target_weight == section.live.weight == 0:
        raise ConfigError(
            "learn.target_weight and learn.live.weight are both 0, which leaves the body nothing to learn: expected one of them "
            "above 0; give --learn.live.weight 1, say"
        )


def _refuse_unknown(values: dict[str, Any], known: Any, source: str, prefix: str = "") -> None:
    """Raise ConfigError if a name is no setting of the section `known`."""
    for name, value in values.items():
        if name not in vars(known):
            inside = f"{prefix}{name}"
            if inside in _flatten(known, prefix):
                hint = f"; it is a setting of the section '{inside.rpartition('.')[0]}': write it inside that section"
            else:
                hint = did_you_mean(inside, [prefix + other for other in vars(known)])
            raise ConfigError(f"{source} has an unknown setting '{inside}'{hint}")
        if dataclasses.is_dataclass(section := getattr(known, name)):
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: '{prefix}{name}' is a section of settings, not {value!r}")
            _refuse_unknown(value, section, source, f"{prefix}{name}.")


def _merge(base: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a section, with others over them; a value by search point takes the place of the whole."""
    merged = to_builtins(base)
    for name, value in values.items():
        section = getattr(base, name)
        merged[name] = _merge(section, value) if dataclasses.is_dataclass(section) else value
    return merged


def _flatten(section: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting by its whole name, as what JSON holds."""
    flat: dict[str, Any] = {}
    for name, value in vars(section).items():
        flat |= (
            _flatten(value, f"{prefix}{name}.") if dataclasses.is_dataclass(value) else {prefix + name: to_builtins(value)}
        )
    return flat


def _explain(message: str, values: dict[str, Any], kind: type = RunConfig) -> str:
    """msgspec's "Expected `int` >= 1 - at `$.search.batch`", with the value and the option."""
    match = re.fullmatch(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?", message, re.DOTALL)
    where = (match and match["where"]) or ""
    if match is None or not where:
        return message
    name = re.sub(r"\[.*", "", where)
    value: Any = values
    for part in name.split("."):
        value = value[part]
    what = match["what"].replace("`", "").replace(" | object", ", or a mapping from search points to such")
    if (
        re.match("Expected (int|float), got str", what)
        and isinstance(value, str)
        and re.fullmatch(r"[-+]?\d[-+\d._:eExo]*", value)
    ):
        what += f" (write it {'without quotes' if re.fullmatch(_NUMBER, value) else 'in plain decimal digits'})"
    if what.lower().startswith("invalid enum"):
        what = "expected one of " + ", ".join(map(str, _choices(name, kind)))
    option = "--" + name.replace("_", "-") if kind in (RunConfig, TextConfig) else f"{kind.__name__}'s {name}"
    return f"{name} = {json.dumps(value, default=str)}: {what[0].lower() + what[1:]}; give {option} another value"


def _choices(name: str, kind: type) -> tuple[Any, ...]:
    """The values that the Literal field called "section.field" allows."""
    hint: Any = kind
    for part in name.split("."):
        hint = typing.get_type_hints(hint)[part]
    return typing.get_args(hint)
