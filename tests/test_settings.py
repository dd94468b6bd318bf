"""Settings are checked wherever they come from, and say how to mend them."""

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from decouple import settings
from decouple.config import (
    DataConfig,
    EsConfig,
    LearnConfig,
    LiveConfig,
    PaperConfig,
    RunConfig,
    SearchConfig,
    SgdConfig,
    TextConfig,
)
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
        (
            {"search": {"es": {"generations": {"blocks": 4, "logits": -1}}}},
            r'search.es.generations = {"blocks": 4, "logits": -1}: expected int >= 0',
        ),
        (
            {"search": {"es": {"generations": [4, 1]}}},
            r"search.es.generations = \[4, 1\]: expected int, or a mapping from search points to such",
        ),
        ({"search": {"es": {"generations": {}}}}, r"search.es.generations is empty"),
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
        ({"learn": {"lr": "1e-3"}}, r'learn.lr = "1e-3": expected float, got str \(write it without quotes\)'),
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
    with pytest.raises(ConfigError, match=message.replace("--", "")) as refused:
        from_builtins(values)
    assert re.search(message, refused.value.message), "the command line names options"


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
        ("c.yaml", "", r"c.yaml must hold a table of settings, not NoneType"),
        ("c.yaml", "learn:\n\tlr: 1\n", r"c.yaml is not valid YAML: found character .* \(line 2\)$"),
        ("c.yaml", "search: {es: {generations: &x [*x]}}", r"c.yaml is not valid YAML: maximum recursion depth"),
        ("c.yaml", "learn: !!python/name:os.system {}", r"could not determine a constructor for the tag .* \(line 1\)$"),
        ("c.json", "[" * 100_000, r"c.json is not valid JSON: maximum recursion depth"),
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
    with pytest.raises(ConfigError, match=r"q0\.alpha = 2: expected float <= 1\.0; give q0\.alpha"):
        from_builtins({"q0": {"alpha": 2}}, TextConfig())
    with pytest.raises(ConfigError, match=r"unknown setting 'corpus\.trian'; did you mean 'corpus\.train'"):
        from_builtins({"corpus": {"trian": 2}}, TextConfig())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "learn: {lr: 0.1}\nlearn: {epochs: 3}\n", r"'learn' is given twice \(the second time in line 2\)"),
        (
            "c.yaml",
            "search:\n  es:\n    radius: 0.1\n    step: [1.0]\n    radius: 0.2\n",
            r"'radius' is given twice .*line 5",
        ),
        ("c.yaml", "learn: {lr: 0.1, 'lr': 0.2}\n", "'lr' is given twice"),
        ("c.json", '{"learn": {"lr": 0.1}, "learn": {"epochs": 3}}', "'learn' is given twice"),
        ("c.json", '{"search": {"es": {"radius": 0.1, "radius": 0.2}}}', "'radius' is given twice"),
        ("c.toml", "[learn]\nlr = 0.1\n[learn]\nepochs = 3\n", r"Cannot declare \('learn',\) twice"),
        ("c.json", '{"learn": {"lr": NaN}}', "NaN is no number of JSON"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"{name} is not valid [A-Z]+: .*{message}"):
        read_file(tmp_path / name)


def test_merge_keys_of_yaml_are_no_repetition(tmp_path: Path) -> None:
    text = "learn: &base {lr: 0.1, epochs: 5}\nsgd: &more {<<: *base, epochs: 7}\nq0: {<<: *more, lr: 0.3}\n"
    (tmp_path / "c.yaml").write_text(text)
    assert read_file(tmp_path / "c.yaml") == {
        "learn": {"lr": 0.1, "epochs": 5},
        "sgd": {"lr": 0.1, "epochs": 7},
        "q0": {"lr": 0.3, "epochs": 7},
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *[
            (text, text)
            for text in ("010", "1:30", "1_000", "yes", "no", "on", "Off", "2024-01-01", "0b1", "0o7", "1.2.3", "=")
        ],
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-0", 0),
        ("0x10", 16),
        (".5", 0.5),
        ("true", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("none", "none"),
    ],
)
def test_a_word_of_yaml_is_what_is_written(tmp_path: Path, written: str, value: object) -> None:
    (tmp_path / "c.yaml").write_text(f"a: {written}\n")
    found = read_file(tmp_path / "c.yaml")["a"]
    assert (found, type(found)) == (value, type(value))


def test_what_was_written_is_named_where_a_number_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("learn: {epochs: 010}\n")
    file = str(tmp_path / "c.yaml")
    with pytest.raises(
        ConfigError, match=r'c.yaml: learn.epochs = "010": expected int, got str \(write it in plain'
    ) as refused:
        from_builtins(read_file(tmp_path / "c.yaml"), RunConfig(), source=file)
    assert "--" not in refused.value.message, "what a file holds is mended in the file"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.toml", "[data]\nname = 2024-01-01\n", r'data.name = "2024-01-01": expected str, got date'),
        ("c.toml", "[learn]\nlr = nan\n", r"learn.lr = NaN: expected float > 0.0"),
        ("c.json", '{"learn": {"lr": 1e400}}', r"learn.lr = Infinity: expected float <= 1000000.0"),
        ("c.yaml", "learn: {lr: .inf}", r"learn.lr = Infinity: expected float <= 1000000.0"),
        ("c.yaml", "learn: {epochs: 1_000}", r'learn.epochs = "1_000": expected int, got str \(write it in plain decimal'),
        ("c.yaml", "search: {target: no}", r'search.target = "no": expected float \| null, got str'),
        ("c.yaml", "data: {name: !!binary aGVq}", r"data.name = .*: expected str, got bytes"),
        ("c.yaml", "1: 2", r"unknown setting '1'; known: compare, data"),
    ],
)
def test_values_of_other_kinds_are_named_with_their_file(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"^{name}.*{message}"):
        from_builtins(read_file(tmp_path / name), source=name)


def test_a_setting_outside_its_section_is_told_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'learn.lr'; it is a setting of the section 'learn'"):
        from_builtins({"learn.lr": 0.1})
    with pytest.raises(ConfigError, match=r"unknown setting 'search.es.radius'; .* section 'search.es': write it inside"):
        from_builtins({"search": {"es.radius": 0.1}})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"learn":\n{"lr": 0.1}, "data": {"name": "folder:é"}}'),
        ("c.yaml", "learn:\n  lr: 0.1\ndata: {name: folder:é}\n"),
        ("c.toml", '[learn]\nlr = 0.1\n[data]\nname = "folder:é"\n'),
    ],
)
def test_files_of_other_editors_are_read(tmp_path: Path, name: str, text: str, encoding: str, ends: str) -> None:
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    (tmp_path / name).write_bytes((mark + text.replace("\n", ends)).encode(encoding))
    assert read_file(tmp_path / name) == {"learn": {"lr": 0.1}, "data": {"name": "folder:é"}}


def test_files_in_no_known_encoding_are_named(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes('{"data": {"name": "é"}}'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"c.json is not valid JSON: 'utf-8' codec can't decode byte 0xe9"):
        read_file(tmp_path / "c.json")


NUMBERS = [np.float16, np.float32, np.float64, torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
@pytest.mark.parametrize("value", [0.1, 0.25, 3.0, 1e-3, 0.7, 1 / 3])
def test_a_float_of_numpy_or_torch_is_its_shortest_decimal(kind: Any, value: float) -> None:
    scalar = torch.tensor(value, dtype=kind) if isinstance(kind, torch.dtype) else kind(value)
    again = torch.tensor if isinstance(kind, torch.dtype) else np.array
    found = settings.to_builtins(scalar)
    assert type(found) is float
    assert again(found, dtype=kind) == scalar
    assert found == value or value == 1 / 3


def test_scalars_arrays_and_paths_are_taken() -> None:
    config = RunConfig(
        seed=np.int64(3),  # type: ignore[arg-type]
        data=DataConfig(name=Path("folder:x"), train=np.uint8(100)),  # type: ignore[arg-type]
        search=SearchConfig(
            es=EsConfig(
                step={"blocks": np.float32(0.1), "logits": 0.5},
                generations={"blocks": np.int32(4), "logits": torch.tensor(5)},
            )  # type: ignore[arg-type]
        ),
        learn=LearnConfig(epochs=torch.tensor(7), lr=np.float32(0.1), live=LiveConfig(guided=torch.tensor(0.3))),  # type: ignore[arg-type]
        sgd=SgdConfig(groups=torch.tensor([1, 2]), lr=1, weight_decay=-0.0),  # type: ignore[arg-type]
    )
    plain = RunConfig(
        seed=3,
        data=DataConfig(name="folder:x", train=100),
        search=SearchConfig(es=EsConfig(step={"blocks": 0.1, "logits": 0.5}, generations={"blocks": 4, "logits": 5})),
        learn=LearnConfig(epochs=7, lr=0.1, live=LiveConfig(guided=0.3)),
        sgd=SgdConfig(groups=(1, 2), lr=1.0, weight_decay=0.0),
    )
    checked = check(config)
    assert repr(checked) == repr(plain)
    assert settings.fingerprint(checked) == settings.fingerprint(plain)
    assert settings.differences(config, plain) == []
    assert repr(settings.check_section(config.search)) == repr(plain.search)
    assert repr(from_builtins({"learn": {"lr": np.float32(0.1)}}).learn.lr) == "0.1"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (SgdConfig(epochs=torch.tensor([2, 3])), r"epochs = \[2, 3\]: expected int, got array"),  # type: ignore[arg-type]
        (SgdConfig(epochs=np.float64(2.0)), r"epochs = 2.0: expected int, got float"),  # type: ignore[arg-type]
        (SgdConfig(epochs=np.bool_(True)), r"epochs = true: expected int, got bool"),  # type: ignore[arg-type]
        (SgdConfig(lr=np.float32("nan")), r"lr = NaN: expected float > 0.0"),  # type: ignore[arg-type]
        (SgdConfig(lr=True), r"lr = true: expected float, got bool"),
        (SgdConfig(lr="0.1"), r'lr = "0.1": expected float, got str \(write it without quotes\)'),  # type: ignore[arg-type]
        (SgdConfig(epochs=object()), r'epochs = "<object object.*expected int, got object'),  # type: ignore[arg-type]
        (SgdConfig(epochs=2**63), r"epochs = 9223372036854775808: expected int <= 9223372036854775807"),
        (SearchConfig(es=PaperConfig()), r"unknown setting 'es.parents'"),  # type: ignore[arg-type]
    ],
)
def test_values_that_only_look_right_are_refused(section: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings.check_section(section)


def test_a_section_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'search\.population'"):
        check(RunConfig(search=EsConfig(population=8)))  # type: ignore[arg-type]


POINTS = ("block0", "block1", "blocks", "logits")
"""In settings by search point."""


def _fields(values: dict[str, Any], kind: type, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of the fields that hold a value of this type, alone or in a list."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _fields(value, kind, (*prefix, name))
        elif type(value[0] if isinstance(value, list) and value else value) is kind:
            found.append((*prefix, name))
    return found


@pytest.mark.parametrize("base", [RunConfig(), TextConfig()], ids=["run", "text"])
def test_no_field_takes_what_is_no_number(base: Any) -> None:
    known = settings.to_builtins(base)
    cases = [(path, bad) for path in _fields(known, float) for bad in (float("nan"), float("inf"), True, "1", 10**400)]
    cases += [(path, bad) for path in _fields(known, int) for bad in (True, 2.5, "1", 2**64, -(2**64), float("nan"))]
    assert len(cases) > 100
    for path, bad in cases:
        value: Any = [bad] if isinstance(functools.reduce(lambda table, name: table[name], path, known), list) else bad
        for name in reversed(path):
            value = {name: value}
        named = [name for name in path if name not in POINTS]
        with pytest.raises(ConfigError, match=re.escape(".".join(named))):
            from_builtins(value, base)


def test_a_negative_zero_is_zero() -> None:
    for zero in (-0.0, np.float32(-0.0), torch.tensor(-0.0)):
        negative = check(RunConfig(learn=LearnConfig(weight_decay=zero, clip=zero)))  # type: ignore[arg-type]
        assert settings.fingerprint(negative) == settings.fingerprint(
            RunConfig(learn=LearnConfig(weight_decay=0.0, clip=0.0))
        )
        assert settings.fingerprint(SgdConfig(clip=zero)) == settings.fingerprint(SgdConfig(clip=0.0))  # type: ignore[arg-type]
