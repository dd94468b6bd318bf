"""Errors name what helps the one who reads them, and hints lead somewhere."""

import pickle

import pytest

from decouple.errors import ConfigError, did_you_mean


@pytest.mark.parametrize(
    ("message", "python"),
    [
        ("give --q0.lr-floor 0.1 or --search.batch", "give q0.lr_floor 0.1 or search.batch"),
        ("choose another --out (--data-root).", "choose another out (data_root)."),
        ("'decouple q0 text --data FILE --resume' goes on", "'decouple q0 text --data FILE --resume' goes on"),
        ("no layer '--odd' in a--b or /tmp/--c", "no layer '--odd' in a--b or /tmp/--c"),
        ("no option", "no option"),
    ],
)
def test_options_are_for_the_command_line(message: str, python: str) -> None:
    error = ConfigError(message)
    assert (error.message, str(error)) == (message, python)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (as worker processes send it)
    assert (again.message, str(again)) == (message, python)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("--network.module", ["--network.eps", "--network.width"], "; known: --network.eps, --network.width"),
        ("--serch.batch", ["--search.batch", "--learn.batch"], "; did you mean '--search.batch'?"),
        ("--search.es.populaton", ["--search.es.population"], "; did you mean '--search.es.population'?"),
        ("--out", ["--quiet", "--device"], "; known: --device, --quiet"),
        ("--foo", [*(f"--x{i}" for i in range(12)), "--out"], ""),
        ("stage3", ["stages.3", "stages.2"], "; known: stages.2, stages.3"),
        ("stages.3.conv", ["stages.3", "stages.3.conv1"], "; did you mean 'stages.3.conv1'?"),
        ("x", [f"layer{i}" for i in range(13)], ""),
        ("a.x", [*(f"layer{i}" for i in range(13)), "a.beta"], "; known: a.beta"),
        ("x", [], ""),
    ],
)
def test_hints_are_near_or_few(name: str, known: list[str], hint: str) -> None:
    assert did_you_mean(name, known) == hint
