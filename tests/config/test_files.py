"""Settings from files: what is written is what is read, and a mistake is named with the file."""

from pathlib import Path

import pytest

from decouple.config import RunConfig
from decouple.config.files import read_file
from decouple.errors import ConfigError
from decouple.presets import preset
from decouple.settings import from_builtins


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
    with pytest.raises(ConfigError, match=r"c.yaml: learn.epochs = '010': expected a whole number ≥ 1") as refused:
        from_builtins(read_file(tmp_path / "c.yaml"), RunConfig(), source=file)
    assert "--" not in refused.value.message, "what a file holds is mended in the file"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "c.toml",
            "[data]\nname = 2024-01-01\n",
            r"data.name = datetime.date\(2024, 1, 1\): expected a string that is not empty",
        ),
        ("c.toml", "[learn]\nlr = nan\n", "learn.lr = nan: expected a number > 0"),
        ("c.json", '{"learn": {"lr": 1e400}}', "learn.lr = inf: expected a number > 0 and ≤ 1000000"),
        ("c.yaml", "learn: {lr: .inf}", "learn.lr = inf: expected a number > 0 and ≤ 1000000"),
        ("c.yaml", "learn: {epochs: 1_000}", "learn.epochs = '1_000': expected a whole number"),
        ("c.yaml", "search: {target: no}", "search.target = 'no': expected a number > 0 and < 1 or none"),
        ("c.yaml", "data: {name: !!binary aGVq}", "data.name = b.*: expected a string"),
        ("c.yaml", "1: 2", r"unknown setting '1'; known: compare, data"),
    ],
)
def test_values_of_other_kinds_are_named_with_their_file(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"^{name}.*{message}"):
        from_builtins(read_file(tmp_path / name), source=name)


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
