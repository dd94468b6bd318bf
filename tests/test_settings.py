"""Settings from dictionaries are checked by name; differences and fingerprints."""

import dataclasses

import pytest

from decouple import settings
from decouple.config import RunConfig, TextConfig
from decouple.errors import ConfigError
from decouple.settings import from_builtins


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"serch": {}}, r"unknown setting 'serch'; did you mean 'search'\?"),
        (
            {"search": {"es": {"populaton": 3}}},
            r"unknown setting 'search.es.populaton'; did you mean 'search.es.population'\?",
        ),
        ({"search": {"batch": 0}}, r"search.batch = 0: expected a whole number ≥ 2"),
        (
            {"search": {"es": {"population": 7}}},
            r"search.es.population = 7: expected a whole number ≥ 2 and a multiple of 2",
        ),
        (
            {"search": {"es": {"generations": {"blocks": 4, "logits": -1}}}},
            r"search.es.generations = {'blocks': 4, 'logits': -1}: expected a whole number ≥ 0 or one or more names",
        ),
        (
            {"search": {"es": {"generations": [4, 1]}}},
            r"search.es.generations = \[4, 1\]: expected a whole number",
        ),
        ({"search": {"es": {"generations": {}}}}, r"search.es.generations = {}: expected"),
        (
            {"search": {"algorithm": "cma"}},
            r"search.algorithm = 'cma': expected one of es, paper, pgpe, cem, random, gradient",
        ),
        ({"search": {"paper": {"population": 10}}}, r"search.paper.population = 10: expected at least 120, for 20 parents"),
        (
            {"search": {"algorithm": "cem", "es": {"population": 2}}},
            r"search.es.population = 2: expected at least 4 for cem",
        ),
        ({"data": {"train": -5}}, r"data.train = -5: expected a whole number ≥ 1 or none"),
        ({"learn": {"lr": 0}}, r"learn.lr = 0: expected a number > 0"),
        ({"learn": {"lr": float("inf")}}, r"learn.lr = inf: expected a number > 0 and ≤ 1000000"),
        ({"learn": {"lr": float("nan")}}, r"learn.lr = nan: expected a number"),
        ({"network": {"eps": 1e300}}, r"network.eps = 1e\+300: expected a number > 0 and ≤ 1"),
        ({"learn": {"lr": "1e-3"}}, "learn.lr = '1e-3': expected a number"),
        ({"data": {"validation": 1}}, r"compare.images = 100: expected at most data.validation = 1"),
        ({"learn": {"momentum": 1.0}}, r"learn.momentum = 1.0: expected a number ≥ 0 and < 1"),
        ({"seed": "x"}, "seed = 'x': expected a whole number"),
        ({"network": 3}, r"'network' is a section of settings, not 3"),
        ({"compare": {"images": 400}}, r"compare.images = 400: expected at most data.validation = 150"),
        ({"sgd": {"groups": []}}, r"sgd.groups = \[\]: expected one or more values, each a whole number ≥ 1"),
        ({"q0": {"members": 9}}, r"q0.members = 9: expected at most 8, the snapshots of 2 × 4 cycles"),
        (
            {"learn": {"target_weight": 0, "live": {"weight": 0}}},
            r"learn.live.weight = 0.0: expected above 0, since",
        ),
        (
            {"learn": {"live": {"directions": 0}}},
            r"learn.live.directions = 0: expected a whole number ≥ 1",
        ),
        ([], r"must hold a table of settings, not list"),
    ],
)
def test_bad_settings_say_what_and_how(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_builtins(values)


def test_differences_name_the_fields() -> None:
    other = dataclasses.replace(RunConfig(), seed=4, data=dataclasses.replace(RunConfig().data, train=100))
    assert settings.differences(RunConfig(), other) == ["seed: 0 → 4", "data.train: None → 100"]
    assert settings.differences(RunConfig(), RunConfig()) == []


def test_settings_of_text_are_checked_by_name() -> None:
    with pytest.raises(ConfigError, match=r"q0.alpha = 2: expected a number ≥ 0 and ≤ 1"):
        from_builtins({"q0": {"alpha": 2}}, TextConfig())
    with pytest.raises(ConfigError, match=r"unknown setting 'corpus\.trian'; did you mean 'corpus\.train'"):
        from_builtins({"corpus": {"trian": 2}}, TextConfig())


def test_a_setting_outside_its_section_is_told_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'learn.lr'; it is a setting of the section 'learn'"):
        from_builtins({"learn.lr": 0.1})
    with pytest.raises(ConfigError, match=r"unknown setting 'search.es.radius'; .* section 'search.es': write it inside"):
        from_builtins({"search": {"es.radius": 0.1}})
