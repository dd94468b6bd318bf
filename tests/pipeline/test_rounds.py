"""Rounds after the first: searched again by the learned network, which learns on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from decouple.config import RunConfig
from decouple.data import as_float
from decouple.pipeline import RunDirectory, open_run, run, run_stages
from decouple.pipeline.learning import networks_of
from decouple.settings import from_builtins

ROUNDS = {"rounds": {"count": 2, "es": {"population": 4, "generations": 2}}, "sgd": {"groups": [1]}}


@pytest.fixture
def config(tiny: RunConfig) -> RunConfig:
    return from_builtins(ROUNDS, tiny)


def go_on(config: RunConfig, folder: Path) -> None:
    """Bring a run up to date with other settings, as `decouple learn RUN --rounds R` does."""
    with RunDirectory.open(folder) as directory:
        directory.write_config(config)
        with open_run(directory, config) as opened:
            run_stages(opened)


@pytest.mark.usefixtures("no_report")
def test_each_round_goes_on_from_the_network_before_it(config: RunConfig, tmp_path: Path) -> None:
    found = run(config, tmp_path / "run")
    names = [name for name in found.networks if name.startswith("search-0")]
    assert names == ["search-0-before-1", "search-0-before-2", "search-0"]
    assert [found.networks[name].kind for name in names] == ["earlier", "earlier", "search"]
    assert found.networks["search-0-before-1"].test_accuracy is None, "only what the rounds end with is tested"
    assert len(found.test_accuracy.search) == config.search.solutions
    with RunDirectory.open(tmp_path / "run") as directory, open_run(directory, config) as opened:
        last = next(trained for trained in networks_of(opened) if trained.name == "search-0")
        assert last.after is not None
        probe = opened.data.validation.images[: config.compare.images]
        with torch.no_grad():
            expected = last.after.network(opened).activations(as_float(probe))
        recorded = last.recording().at(0)
    assert torch.equal(recorded["block0"].half(), expected[0].half()), "it begins with the best weights of the round before"
    assert not list((tmp_path / "run").glob("learn/*/*/targets")), "targets of later rounds go when they are learned"


@pytest.mark.usefixtures("no_report")
def test_what_the_rounds_search_is_in_the_cost(config: RunConfig, tiny: RunConfig, tmp_path: Path) -> None:
    once = run(replace(config, rounds=replace(config.rounds, count=0)), tmp_path / "once")
    twice = run(replace(config, rounds=replace(config.rounds, count=1)), tmp_path / "twice")
    solutions, images = config.search.solutions, twice.images["train"]
    blocks = len(once.search.points)
    # One generation of 4 + the centre, and the last generation's centre, at each search point; and live search.
    scored = blocks * (5 + 1) + config.rounds.learning(config.learn).evaluations(blocks - 1)
    assert twice.cost.search_evaluations - once.cost.search_evaluations == solutions * images * scored
    assert twice.cost.gradient_steps > once.cost.gradient_steps


def test_rounds_have_a_learning_rate_and_decay_of_their_own(config: RunConfig) -> None:
    rounds = replace(config.rounds, lr=0.05, weight_decay=0.003)
    assert rounds.learning(config.learn) == replace(config.learn, lr=0.05, weight_decay=0.003)
    assert replace(rounds, lr=None, weight_decay=None).learning(config.learn) == config.learn


@pytest.mark.usefixtures("no_report")
def test_without_rounds_nothing_is_done_again(config: RunConfig, tmp_path: Path) -> None:
    run(replace(config, rounds=replace(config.rounds, count=0)), tmp_path / "run")
    networks = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("learn/*/*/network.safetensors")}
    go_on(config, tmp_path / "run")
    assert all(path.stat().st_mtime_ns == written for path, written in networks.items())


def test_a_run_killed_between_rounds_gives_the_same(config: RunConfig, tmp_path: Path) -> None:
    run(config, tmp_path / "whole")
    run(replace(config, rounds=replace(config.rounds, count=1)), tmp_path / "parts")
    go_on(config, tmp_path / "parts")
    whole, parts = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "parts"))
    assert whole == parts
