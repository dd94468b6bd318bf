"""Construction refuses what a file and the command line refuse: for every field, at the edges of its range, and across fields."""

import dataclasses
import math
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from decouple.cli.parsing import _kinds, _value, _written
from decouple.config import Q0Config, RunConfig, Section, TextConfig
from decouple.config.base import hints
from decouple.errors import ConfigError, SettingError
from decouple.settings import from_builtins

BASES: dict[str, Any] = {"run": RunConfig(), "text": TextConfig()}
Values = dict[str, Any]
"""By the whole names of settings."""


def settings_of(section: Section, prefix: str = "") -> Values:
    found: Values = {}
    for name in hints(type(section)):
        value = getattr(section, name)
        found |= settings_of(value, f"{prefix}{name}.") if isinstance(value, Section) else {prefix + name: value}
    return found


def hint_of(kind: Any, name: str) -> Any:
    first, _, rest = name.partition(".")
    return hint_of(hints(kind)[first], rest) if rest else hints(kind)[first]


def edges(hint: Any) -> tuple[list[Any], list[Any]]:
    """Values that a field takes, and values that it does not."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _bounded(*edges(arguments[0]), [meta for meta in arguments[1:] if isinstance(meta, msgspec.Meta)])
    if origin is typing.Literal:
        return list(arguments), ["", "x", None, 1, arguments[0].upper()]
    if type(None) in arguments:
        good, bad = edges(arguments[0])
        return [*good, None], [value for value in bad if value is not None]
    if len(arguments) > 1 and origin not in (dict, tuple):  # one value, or several
        (one, bad), (several, worse) = map(edges, arguments)
        return one + several, [value for value in bad if value not in several] + [
            value for value in worse if value not in one
        ]
    if origin is dict:
        good, bad = edges(arguments[1])
        return [{"blocks": good[0], "logits": good[-1]}], [{"blocks": value} for value in bad] + [{}, {1: good[0]}]
    if origin is tuple:
        good, bad = edges(arguments[0])
        return [[*good, *good]], [[value] for value in bad] + [[]]
    return {
        int: ([1, 2, 300], [None, "1", 1.5, True, math.nan, [1]]),
        float: ([0.5, 1], [None, "0.5", True, math.nan, math.inf, [0.5]]),
        str: (["x"], [None, 3, 0.5, True, ["x", 3]]),
        bool: ([True, False], [None, 1, "true"]),
    }[hint]


def _bounded(good: list[Any], bad: list[Any], metas: list[msgspec.Meta]) -> tuple[list[Any], list[Any]]:
    for meta in metas:
        if meta.min_length:
            bad = [*bad, ""] if isinstance(good[0], str) else bad
            continue
        step = 1 if good == [1, 2, 300] else 1e-9  # whole numbers, or others
        least, most = meta.ge if meta.ge is not None else meta.gt, meta.le if meta.le is not None else meta.lt
        assert least is not None
        assert most is not None
        inside = [least if meta.gt is None else least + step, most if meta.lt is None else most - step]
        if meta.multiple_of:
            inside[1] -= inside[1] % meta.multiple_of
        outside = [least - step if meta.gt is None else least, most if meta.lt is not None else most * 2]
        good, bad = inside, bad + outside + ([3] if meta.multiple_of else [])
    return good, bad


def contradictions(values: Values) -> bool:
    """The rules across fields, once more."""
    given, trajectories = values.__getitem__, values["q0.trajectories"]
    rules = [
        given("q0.warmup") + given("q0.warmdown") > 1,
        given("q0.warmdown") > 0 and given("q0.lr_floor") == 0,
        given("q0.perturb") > 0 and given("q0.restart") == "new",
    ]
    if "corpus.seed" in values:
        rules += [
            given("q0.init") == "searched",
            given("q0.augment") != "none",
            trajectories is None,
            given("network.width") % (2 * given("network.heads")) != 0,
        ]
    else:
        trajectories = trajectories or given("search.solutions")
        parents, explorers = given("search.paper.parents"), given("search.paper.explorers")
        rules += [
            given("search.paper.population") <= parents,
            given("search.paper.population") < parents + explorers,
            given("search.algorithm") == "cem" and given("search.es.population") == 2,
            given("learn.target_weight") == 0 and given("learn.live.weight") == 0,
            bool(given("learn.heads") or given("learn.similarity")) and given("learn.live.weight") == 0,
            given("search.similarity") > 0 and given("search.target") is not None,
            given("compare.images") > given("data.validation"),
            given("network.name") == "paper" and bool(given("network.args") or given("network.points")),
            given("search.network.name") in ("paper", "learned")
            and bool(given("search.network.args") or given("search.network.points")),
        ]
    if trajectories and given("q0.members") is not None:
        rules.append(given("q0.members") > trajectories * given("q0.cycles"))
    return any(rules)


def pool(base: Section, name: str) -> tuple[list[Any], list[Any]]:
    if name == "search.algorithm":
        return ["es", "cem", "evotorch:SNES", "mine.py:Mine"], ["cma", "", None, 3]
    named = ["paper", "torchvision:resnet18", "timm:vit", "mine.py:net", "package.module:Net"]
    if name == "network.name" and isinstance(base, RunConfig):
        return named, ["resnet18", "learned", "", None, 3]
    if name == "search.network.name":
        return [*named, "learned"], ["resnet18", "", None, 3]
    if name.endswith("network.args"):
        return [{}, {"width": 3, "rate": 0.5, "kind": "a", "bias": True}], [None, 3, {"a": None}, {"a": [1]}, {1: 2}]
    if name.endswith("network.points"):
        return [[], ["a", "b"]], [None, 3, "a", [3], [""]]
    return edges(hint_of(type(base), name))


def nested(values: Values) -> Values:
    table: Values = {}
    for name, value in values.items():
        *path, last = name.split(".")
        inner = table
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return table


def built(kind: Any, table: Values) -> Any:
    """By the constructors, from the inside out."""
    sections = {name: hint for name, hint in hints(kind).items() if dataclasses.is_dataclass(hint)}
    return kind(**{name: built(sections[name], value) if name in sections else value for name, value in table.items()})


def outcome(make: Any) -> Any:
    try:
        return make()
    except ConfigError:
        return "refused"


def check(base: Section, changes: dict[str, tuple[Any, bool]]) -> None:
    """`changes`: values by name, with whether the field takes them."""
    before = settings_of(base)
    values = before | {name: value for name, (value, _) in changes.items()}
    wrong = not all(good for _, good in changes.values()) or contradictions(values)
    made = outcome(lambda: built(type(base), nested(values)))
    assert (made == "refused") == wrong, changes
    assert outcome(lambda: from_builtins(nested({name: value for name, (value, _) in changes.items()}), base)) == made


@pytest.mark.parametrize("kind", BASES)
def test_every_field_at_its_edges(kind: str) -> None:
    base = BASES[kind]
    for name in settings_of(base):
        good, bad = pool(base, name)
        for value in good:
            check(base, {name: (value, True)})
        for value in bad:
            check(base, {name: (value, False)})


@given(st.data(), st.sampled_from(sorted(BASES)))
def test_several_fields_at_once(data: st.DataObject, kind: str) -> None:
    base = BASES[kind]
    names = data.draw(st.lists(st.sampled_from(sorted(settings_of(base))), min_size=2, max_size=6, unique=True))
    changes = {}
    for name in names:
        good, bad = pool(base, name)
        is_good = data.draw(st.integers(0, 9)) > 0
        changes[name] = (data.draw(st.sampled_from(good if is_good else bad)), is_good)
    check(base, changes)


@pytest.mark.parametrize("kind", BASES)
def test_the_command_line_gives_the_values_that_are_written(kind: str) -> None:
    """So that the constructors judge them."""
    base = BASES[kind]
    for name in settings_of(base):
        hint = hint_of(type(base), name)
        for value in pool(base, name)[0]:
            words = _written(tuple(value) if isinstance(value, list) else value)
            expected = outcome(lambda name=name, value=value: from_builtins(nested({name: value}), base))
            read = _value(_kinds(hint), [word.lower() if isinstance(value, bool) else word for word in words])
            assert outcome(lambda name=name, read=read: from_builtins(nested({name: read}), base)) == expected, (name, words)


def test_q0_has_no_airbench_unit_because_it_always_decays_decoupled() -> None:
    with pytest.raises(SettingError, match="optimizer = 'airbench': expected one of sgd, adamw, muon"):
        Q0Config(optimizer="airbench")  # type: ignore[arg-type]


def test_a_warm_down_needs_a_floor_to_fall_from() -> None:
    with pytest.raises(
        SettingError, match=r"warmdown = 0\.2: expected 0 with lr_floor = 0, from which the learning rate cannot"
    ):
        Q0Config(warmdown=0.2)
    assert Q0Config(warmdown=0.2, lr_floor=0.08).warmdown == 0.2
