"""The command line explains every option, and reads values as they are written."""

from pathlib import Path
from typing import Any

import pytest

from decouple import config
from decouple.cli import options
from decouple.cli.options import RunOptions
from decouple.cli.parsing import parse_options, parse_settings, peek
from decouple.config import RunConfig, Section
from decouple.config.base import hints
from decouple.errors import ConfigError

SHOWN = [name for name in hints(RunConfig) if name != "preset"]


def read(*argv: str) -> RunConfig:
    """As `decouple run` does."""
    peek(RunOptions(), list(argv))
    return parse_settings("run PRESET", list(argv), RunOptions(), RunConfig(), SHOWN)


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {kind for module in (config, options) for kind in vars(module).values() if isinstance(kind, type)}
    for kind in sorted((kind for kind in kinds if issubclass(kind, Section) and kind is not Section), key=str):
        with pytest.raises(SystemExit):
            parse_options("", ["--help"], kind())
        shown = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
        for name, hint in hints(kind).items():
            if isinstance(hint, type) and issubclass(hint, Section):
                continue
            (at,) = (i for i, line in enumerate(shown) if line.split(" ")[0] == f"--{name.replace('_', '-')}")
            assert any(word[0].islower() or word[0].isupper() for word in (shown[at] + shown[at + 1]).split()[2:]), (
                kind,
                name,
            )


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--learn.lr", "1e-3"], "learn.lr", 0.001),
        (["--learn.epochs=7"], "learn.epochs", 7),
        (["--learn.weight_decay", "-0"], "learn.weight_decay", 0.0),
        (["--data.train", "none"], "data.train", None),
        (["--data.name", "none"], "data.name", "none"),
        (["--search.points", "last"], "search.points", "last"),
        (["--search.points", "block1", "logits"], "search.points", ("block1", "logits")),
        (["--search.es.step", "0.1"], "search.es.step", 0.1),
        (["--search.es.step", "blocks", "0.1", "logits", "1"], "search.es.step", {"blocks": 0.1, "logits": 1.0}),
        (["--sgd.groups", "3"], "sgd.groups", (3,)),
        (["--sgd.groups", "1", "2"], "sgd.groups", (1, 2)),
        ([], "seed", 0),
    ],
)
def test_a_value_is_what_is_written(argv: list[str], name: str, value: Any) -> None:
    found: Any = read(*argv)
    for part in name.split("."):
        found = getattr(found, part)
    assert (found, type(found)) == (value, type(value))


def test_options_are_seen_before_the_settings_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    seen = peek(RunOptions(), ["--learn.lr", "3", "--quiet", "--out=~/runs", "--stray", "--workers", "2", "--help"])
    assert (seen.quiet, seen.resume, seen.out, seen.workers) == (True, False, Path("/home/me/runs"), 2)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--quiet", "yes"], "--quiet = 'yes': expected true or false"),
        (["--workers", "0"], "--workers = 0: expected a whole number ≥ 1"),
        (["--seed"], "--seed = []: expected a whole number ≥ 0"),
        (["--seed", "1", "2"], "--seed = ['1', '2']: expected a whole number ≥ 0"),
        (["--search.es.step", "blocks"], "--search.es.step = 'blocks': expected a number > 0"),
        (["--search.es.step", "blocks", "0.1", "logits"], "--search.es.step = ['blocks', '0.1', 'logits']: expected"),
        (["--search.dtype", "int8"], "--search.dtype = 'int8': expected one of float16, bfloat16, float32"),
        (["--learn.live.weight", "0", "--learn.target-weight", "0"], "--learn.live.weight = 0.0: expected above 0"),
    ],
)
def test_a_value_that_is_refused_is_named_by_its_option(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=r" = .*: expected ") as refused:
        read(*argv)
    assert message in refused.value.message
