"""Settings are checked wherever they come from, and say how to mend them."""

import dataclasses
import json
from pathlib import Path

import pytest

from decouple import settings
from decouple.config import EsConfig, LearnConfig, LiveConfig, PaperConfig, RunConfig, SearchConfig, TextConfig
from decouple.errors import ConfigError
from decouple.presets import PRESETS, TEXT_PRESETS, preset, text_preset
from decouple.settings import check, from_builtins, read_file


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name: str) -> None:
    config = check(preset(name))
    assert config.preset == name
    assert from_builtins(json.loads(json.dumps(settings.to_builtins(config)))) == config


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'mnist-smal'; did you mean 'mnist-small'\?"):
        preset("mnist-smal")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"serch": {}}, r"unknown setting 'serch'; did you mean 'search'\?"),
        (
            {"search": {"es": {"populaton": 3}}},
            r"unknown setting 'search.es.populaton'; did you mean 'search.es.population'\?",
        ),
        ({"search": {"batch": 0}}, r"search.batch = 0: expected int >= 2; give --search.batch another value"),
        ({"search": {"es": {"population": 7}}}, r"search.es.population = 7: expected int that's a multiple of 2"),
        ({"search": {"es": {"generations": [4, -1]}}}, r"search.es.generations = \[4, -1\]: expected int >= 0"),
        ({"search": {"es": {"generations": []}}}, r"search.es.generations is empty"),
        (
            {"search": {"algorithm": "cma"}},
            r'search.algorithm = "cma": expected one of es, paper, pgpe, cem, random, gradient',
        ),
        ({"search": {"paper": {"population": 10}}}, r"search.paper.population = 10 is too small for 20 parents"),
        ({"search": {"algorithm": "cem", "es": {"population": 2}}}, r"search.es.population = 2 is too small for cem"),
        ({"data": {"train": -5}}, r"data.train = -5: expected int >= 1"),
        ({"learn": {"lr": 0}}, r"learn.lr = 0: expected float > 0"),
        ({"learn": {"lr": float("inf")}}, r"learn.lr = Infinity: expected float <= 1000000.0"),
        ({"learn": {"lr": float("nan")}}, r"learn.lr = NaN: expected float > 0.0"),
        ({"network": {"eps": 1e300}}, r"network.eps = 1e\+300: expected float <= 1"),
        ({"learn": {"lr": "1e-3"}}, r'learn.lr = "1e-3": expected float, got str \(YAML needs a point: 1.0e-3\)'),
        ({"data": {"validation": 1}}, r"data.validation = 1: expected at least 4"),
        ({"learn": {"momentum": 1.0}}, r"learn.momentum = 1.0: expected float < 1"),
        ({"seed": "x"}, r'seed = "x": expected int, got str'),
        ({"network": 3}, r"'network' is a section of settings, not 3"),
        ({"compare": {"images": 400}}, r"compare.images = 400 exceeds data.validation = 150"),
        ({"sgd": {"groups": []}}, r"sgd.groups is empty"),
        ({"q0": {"members": 9}}, r"q0.members = 9: expected at most 8, the snapshots of 2 × 4 cycles"),
        ({"learn": {"target_weight": 0, "live": {"weight": 0}}}, r"are both 0, which leaves the body nothing to learn"),
        (
            {"learn": {"live": {"directions": 0}}},
            r"learn.live.directions = 0: expected int >= 1; give --learn.live.directions",
        ),
        ([], r"must hold a table of settings, not list"),
    ],
)
def test_bad_settings_say_what_and_how(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_builtins(values)


def test_check_covers_what_python_code_passes() -> None:
    bad = dataclasses.replace(RunConfig(), search=SearchConfig(es=EsConfig(radius=-1.0)))
    with pytest.raises(ConfigError, match=r"search.es.radius = -1.0: expected float > 0"):
        check(bad)
    with pytest.raises(ConfigError, match="must be above 40"):
        check(RunConfig(search=SearchConfig(paper=PaperConfig(population=30, parents=40))))


def test_sections_are_checked_alone() -> None:
    assert settings.check_section(SearchConfig()) == SearchConfig()
    with pytest.raises(ConfigError, match=r"batch = 0: expected int >= 2; give SearchConfig's batch another value"):
        settings.check_section(SearchConfig(batch=0))
    with pytest.raises(ConfigError, match="are both 0, which leaves the body nothing to learn"):
        settings.check_section(LearnConfig(target_weight=0, live=LiveConfig(weight=0)))
    assert settings.check_section(LearnConfig(target_weight=0)).target_weight == 0
    with pytest.raises(ConfigError, match=r'schedule = "x": expected one of triangle, constant; give LearnConfig'):
        settings.check_section(LearnConfig(schedule="x"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"seed": 3, "search": {"es": {"radius": 0.2}}}'),
        ("c.yaml", "seed: 3\nsearch:\n  es: {radius: 0.2}\n"),
        ("c.toml", "seed = 3\n[search.es]\nradius = 0.2\n"),
    ],
)
def test_files_override_their_base(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    config = from_builtins(read_file(tmp_path / name), preset("mnist-small"))
    assert (config.seed, config.search.es.radius, config.data.train) == (3, 0.2, 10_000)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.ini", "", r"type '.ini' is not one of .json, .yaml, .yml, .toml"),
        ("c.json", "{", r"c.json is not valid JSON"),
        ("c.toml", "= 3", r"c.toml is not valid TOML"),
        ("c.yaml", "- 1\n- 2\n", r"c.yaml must hold a table of settings, not list"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_file(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.json cannot be read: No such file"):
        read_file(tmp_path / "nowhere.json")


def test_differences_name_the_fields() -> None:
    other = dataclasses.replace(RunConfig(), seed=4, data=dataclasses.replace(RunConfig().data, train=100))
    assert settings.differences(RunConfig(), other) == ["seed: 0 → 4", "data.train: None → 100"]
    assert settings.differences(RunConfig(), RunConfig()) == []


@pytest.mark.parametrize("name", TEXT_PRESETS)
def test_the_presets_of_text_pass_their_own_checks(name: str) -> None:
    config = settings.check(text_preset(name))
    assert config.preset == name
    assert from_builtins(settings.to_builtins(config), TextConfig()) == config


def test_settings_of_text_are_checked_by_name() -> None:
    with pytest.raises(ConfigError, match=r"q0\.alpha = 2: expected float <= 1\.0; give --q0\.alpha"):
        from_builtins({"q0": {"alpha": 2}}, TextConfig())
    with pytest.raises(ConfigError, match=r"unknown setting 'corpus\.trian'; did you mean 'corpus\.train'"):
        from_builtins({"corpus": {"trian": 2}}, TextConfig())
