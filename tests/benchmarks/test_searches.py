"""The search benchmarks, at their smallest: what they compute is what they say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import algorithms, diversity_scaling, fitness_scaling, matching
from benchmarks.common import (
    Common,
    Parts,
    Problem,
    Size,
    displacement,
    evolved,
    falls,
    problem_of,
    searched,
    settings_for,
    starts_of,
)
from decouple.config import NetworkConfig
from decouple.search import search_batch
from decouple.search.solutions import algorithm_of
from decouple.seeds import derive

SMALL = Size(data=("digits",), images=8, batch=4, seeds=(0, 1), network=NetworkConfig(width=8), dtype="float32")


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problem_of(Common(device="cpu"), SMALL, "digits", 0)


def settings(algorithm: str, updates: tuple[int, ...] = (4,)) -> Any:
    config = settings_for(algorithm, "digits", population=12, updates=updates)
    assert config.paper.parents == 1
    assert config.paper.explorers == 5
    return algorithm_of(config, 0)


@pytest.mark.parametrize("algorithm", ["paper", "es", "pgpe"])
def test_a_block_evolved_alone_leaves_the_others_as_the_network_has_them(
    problem: Problem, algorithm: str, tmp_path: Path
) -> None:
    config = replace(settings_for(algorithm, "digits", population=12, updates=(4,)), points=("block1",))
    (store,) = searched(problem, config, str(tmp_path), solutions=[0])
    targets, found = store.rows(torch.arange(8)), store.diagnostics()
    starts = starts_of(problem, targets)
    own = [
        torch.cat(parts) for parts in zip(*(problem.network.activations(i) for _, _, i, _ in problem.batches()), strict=True)
    ]
    assert store.first_searched == 1
    assert all(torch.allclose(starts[block], own[block], atol=1e-6) for block in (0, 1))
    assert (displacement(targets[0], starts[1]).flatten(1).norm(dim=1) > 1e-3).all()
    assert found["after"][1].mean() < found["before"][1].mean()
    assert torch.allclose(found["before"][2], found["after"][1], atol=1e-5), "nothing is evolved behind it"


@pytest.mark.parametrize("algorithm", ["paper", "es", "pgpe"])
def test_what_is_noted_is_scored_as_it_will_be_used(problem: Problem, algorithm: str) -> None:
    notes, evaluations = evolved(problem, settings(algorithm), problem.points[1], seed=0)
    assert list(notes) == [0, 1, 2, 3, 4]
    after, counts = [], []
    for number, (_, _, images, labels) in enumerate(problem.batches()):
        result = search_batch(problem.judge, images, labels, settings(algorithm), seed=derive(0, number), points=("block1",))
        after.append(result.after[1])
        counts.append(result.evaluations)
    assert notes[4] == pytest.approx(float(torch.cat(after).mean()), abs=1e-5)
    assert set(counts) == {evaluations}


def test_more_updates_go_on_from_fewer(problem: Problem) -> None:
    for algorithm in ("paper", "es"):
        short, long = (evolved(problem, settings(algorithm, (n,)), problem.points[0], seed=0)[0] for n in (2, 4))
        # In its last generation es scores its centre alone, so that what is best there may be another.
        marks = [mark for mark in short if mark < max(short)]
        assert marks
        assert all(short[mark] == long[mark] for mark in marks)


def test_displacement_does_not_see_scale_and_shift() -> None:
    start = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert displacement(3 * start + 1, start).abs().max() < 1e-5


def test_falls_allows_what_the_seeds_do_not_agree_on() -> None:
    assert falls([[3.0, 2.0, 1.0], [30.0, 20.0, 10.0]])["strictly"]
    wavering = falls([[3.0, 2.0, 2.4], [3.0, 2.0, 1.8]])
    assert not wavering["strictly"]
    assert wavering["within_spread"]
    assert not falls([[3.0, 2.0, 2.1], [4.0, 3.0, 3.1]])["within_spread"], "a rise that all seeds show"


def test_identical_solutions_count_as_one_and_orthogonal_ones_all() -> None:
    same, orthogonal = torch.ones(3, 2, 3), torch.eye(3)[:, None].expand(3, 2, 3)
    every = torch.ones(3, 2, dtype=torch.bool)
    count = diversity_scaling.number_of_solutions
    assert [entry["n_eff"] for entry in count(same, every, [1, 2, 3])] == pytest.approx([1, 1, 1])
    assert [entry["n_eff"] for entry in count(orthogonal, every, [1, 2, 3])] == pytest.approx([1, 2, 3])
    kept = torch.tensor([[True, False], [False, False], [True, False]])
    assert count(orthogonal, kept, [3]) == [{"n_eff": pytest.approx(2), "std": 0, "kept": 2, "images": 1}]
    assert count(orthogonal, ~every, [3]) == [{"n_eff": None, "std": None, "kept": None, "images": 0}]
    assert algorithms.n_eff(same) == pytest.approx(1)
    assert algorithms.n_eff(orthogonal) == pytest.approx(3)
    assert algorithms.n_eff(torch.zeros(2, 2, 3)) == 1


def test_searches_are_charged_what_the_engine_counts(problem: Problem) -> None:
    size = replace(matching.SCALES["tiny"], full=settings("paper").config)
    for point in problem.points:
        _, evaluations = evolved(problem, settings("paper", (4, 4, 4)), point, seed=0)
        assert matching.paper_curve(problem, size, point).evaluations[-1] == evaluations
        config = settings_for("es", "digits", population=size.population, updates=[0] * point.index + [3])
        _, evaluations = evolved(problem, algorithm_of(config, 0), point, seed=0)
        assert matching.es_curve(problem, size, point, 3).evaluations[-1] == evaluations


def test_what_is_not_reached_has_no_ratio() -> None:
    curve = matching.Curve([10, 20, 30], [2.0, 1.0, 0.5])
    reached, missed = curve.against(1.0, 100), curve.against(0.1, 100)
    assert (reached["es_evaluations"], reached["ratio"]) == (20, 0.2)
    assert (missed["es_evaluations"], missed["ratio"]) == (None, None)
    assert matching.summary([missed])["ratio"] is None
    assert matching.summary([reached, missed])["reached"] == "1 of 2"


def test_finished_parts_are_not_made_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise AssertionError("made again")

    parts = Parts(tmp_path, "some", SMALL)
    assert parts.get("one", lambda: [1.5]) == [1.5]
    assert Parts(tmp_path, "some", SMALL).get("one", fail) == [1.5]
    assert Parts(tmp_path, "some", replace(SMALL, images=9)).get("one", lambda: 2) == 2
    assert Parts(None, "some", SMALL).get("one", lambda: 3) == 3


@pytest.mark.parametrize("benchmark", [fitness_scaling, diversity_scaling, algorithms, matching])
def test_a_benchmark_leaves_receipt_and_pictures(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = replace(benchmark.SCALES["tiny"], images=8, batch=4, seeds=(0, 1), network=NetworkConfig(width=8))
    monkeypatch.setitem(benchmark.SCALES, "tiny", size)
    arguments = benchmark.Arguments(scale="tiny", device="cpu", figures=tmp_path)
    if benchmark is algorithms:
        arguments = replace(arguments, algorithms=("es", "paper"))
    benchmark.main(arguments)
    receipt = json.loads((tmp_path / f"{benchmark.NAME}-tiny.json").read_text())
    assert receipt["settings"]["seeds"] == [0, 1]
    assert {"commit", "versions", "threads"} <= set(receipt["made"])
    kinds = {algorithms: ["md"], matching: ["json"]}.get(benchmark, ["png", "svg"])
    assert all((tmp_path / f"{benchmark.NAME}-tiny.{kind}").stat().st_size > 100 for kind in kinds)
    assert "digits" in capsys.readouterr().out
