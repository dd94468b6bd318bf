"""EvoTorch's object form."""

import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from evotorch.algorithms import SNES
    from evotorch.logging import PandasLogger

from decouple.config import EsConfig
from decouple.data import ImageData
from decouple.errors import ConfigError
from decouple.networks import Stages
from decouple.search import EvolutionStrategy, Judge, search_batch
from decouple.search.gradient import GradientAscent
from decouple.search.problem import ActivationProblem, ActivationSearch
from decouple.seeds import derive


def test_a_solution_is_scored_as_the_judge_scores_it(network: Stages, data: ImageData) -> None:
    judge = Judge(network)
    problem = ActivationProblem(judge, data.train.images[:3], data.train.labels[:3], point="block1", seed=1)
    batch = problem.generate_batch(5)
    problem.evaluate(batch)
    candidates = problem.activations(batch.values)
    assert candidates.shape == (3, 5, *problem.point.shape)
    expected = judge.fitness(problem.point, candidates, data.train.labels[:3]).mean(0)
    assert torch.allclose(batch.evals[:, 0], expected)
    center = judge.advance(1, judge.advance(0, data.train.images[:3]))
    assert torch.allclose(problem.start, center)
    assert ((candidates.transpose(0, 1) - center).abs() <= 0.11 * center.flatten(1).std(1).max() + 1e-5).all()


def test_a_stock_algorithm_searches_one_image(network: Stages, data: ImageData) -> None:
    judge = Judge(network, statistics="frozen", pilot=data.train.images[:32])
    problem = ActivationProblem(judge, data.train.images[:1], data.train.labels[:1], seed=1)
    searcher = SNES(problem, stdev_init=0.1, popsize=20)
    searcher.run(1)
    first = float(searcher.status["mean_eval"])
    searcher.run(30)
    assert float(searcher.status["mean_eval"]) > first


def test_our_algorithm_in_object_form_is_the_engines(network: Stages, data: ImageData) -> None:
    images, labels = data.train.images[:6], data.train.labels[:6]
    algorithm = EvolutionStrategy(EsConfig(population=8, generations=7, moments="own"))  # begins at the start
    expected = search_batch(Judge(network), images, labels, algorithm, seed=3)
    problem = ActivationProblem(Judge(network), images, labels)
    searcher = ActivationSearch(problem, algorithm, seed=derive(3, problem.point.name))
    log = PandasLogger(searcher)
    searcher.run(6)
    assert searcher.status["evaluations"] == 6 * 9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about EvoTorch's use of it
        rows = log.to_dataframe()
    assert len(rows) == 6
    assert rows["best_eval"].is_monotonic_increasing
    # The engine scores in the end what the last update made; before, both do the same.
    assert rows["best_eval"].iloc[-1] == pytest.approx(-float(expected.curves[0][-2]), abs=1e-5)
    assert (rows["mean_eval"] <= rows["pop_best_eval"] + 1e-6).all()


def test_a_search_point_that_is_not_there_is_named(network: Stages, data: ImageData) -> None:
    with pytest.raises(ConfigError, match="no search point 'blok1'; did you mean 'block1'"):
        ActivationProblem(Judge(network), data.train.images[:1], data.train.labels[:1], point="blok1")


def test_what_failed_is_the_worst_that_evotorch_can_count(network: Stages, data: ImageData) -> None:
    problem = ActivationProblem(Judge(network), data.train.images[:3], data.train.labels[:3], seed=1)
    batch = problem.generate_batch(2)
    batch.set_values(torch.full_like(batch.values, torch.nan))
    problem.evaluate(batch)
    assert (batch.evals == torch.finfo(torch.float32).min).all()


def test_every_algorithm_of_ours_runs_in_object_form(network: Stages, data: ImageData) -> None:
    problem = ActivationProblem(Judge(network), data.train.images[:6], data.train.labels[:6])
    searcher = ActivationSearch(problem, GradientAscent(EsConfig(generations=3)))
    searcher.run(3)
    assert float(searcher.status["best_eval"]) > float(problem.score(problem.start.unsqueeze(1)).mean())
