"""The search in EvoTorch's object form, for those who know it: a `Problem`, and a `SearchAlgorithm` with status and loggers.

Importing this module imports EvoTorch, which takes seconds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from decouple.data.images import as_float
from decouple.errors import ConfigError, did_you_mean
from decouple.search import operators
from decouple.search.algorithm import Algorithm
from decouple.search.evotorch_names import Problem, SearchAlgorithm, SolutionBatch, finite
from decouple.search.judge import Judge


class ActivationProblem(Problem):
    """Maximise log p(true class) over the activations of B images at one search point.

    The decision vector is the B activations, flattened; its fitness is the mean over the images. With one image this is
    what any algorithm of EvoTorch can search.

    Args:
        judge: scores candidates. With statistics="batch" they are those of all B images' candidates; for a single image
            "frozen" is the better choice.
        images: (B, C, H, W).
        labels: (B,) int64.
        point: name of the search point; None: the first.
        spread: initial solutions lie up to so many σ (see `operators.noise_scale`) from the network's own activations.
        seed: of EvoTorch's generator; None: a random one.

    Raises:
        ConfigError: the network has no such search point.
    """

    def __init__(
        self,
        judge: Judge,
        images: Tensor,
        labels: Tensor,
        *,
        point: str | None = None,
        spread: float = 0.1,
        seed: int | None = None,
    ) -> None:
        names = list(judge.network.names)
        if point is not None and point not in names:
            raise ConfigError(
                f"the network has no search point '{point}'{did_you_mean(point, names)}; it has {', '.join(names)}"
            )
        self.judge, self.labels = judge, labels
        with torch.no_grad():
            values = as_float(images)
            self.point = judge.points(values[:2])[0 if point is None else names.index(point)]
            for index in range(self.point.index + 1):
                values = judge.advance(index, values)
        self.start = values
        """(B, …) the network's own activations."""
        self._reach = spread * operators.noise_scale(values.float(), self.point, "sample").expand_as(values).flatten()
        super().__init__("max", solution_length=values.numel(), dtype=torch.float32, device=values.device, seed=seed)

    def activations(self, values: Tensor) -> Tensor:
        """Decision vectors (P, B·D) as candidates (B, P, …)."""
        return values.unflatten(1, self.start.shape).transpose(0, 1)

    def score(self, candidates: Tensor) -> Tensor:
        """log p(true class), (B, P), of candidates (B, P, …); −inf for what is not finite."""
        return operators.masked(self.judge.fitness(self.point, candidates.to(self.start.dtype), self.labels))

    def _fill(self, values: Tensor) -> None:
        center = self.start.float().flatten()
        self.make_uniform(out=values, lb=center - self._reach, ub=center + self._reach)

    def _evaluate_batch(self, solutions: SolutionBatch) -> None:
        with torch.no_grad():
            evals = self.score(self.activations(solutions.values)).mean(0)
        solutions.set_evals(finite(evals))


class ActivationSearch(SearchAlgorithm):
    """One of our algorithms in EvoTorch's form: `step`, `run`, `status` and loggers; every image has its own search.

    `status` holds `iter`, `best` (B, …), `best_eval` and `best_evals` (their mean, and each), `pop_best_eval` and `mean_eval`
    (of the last generation, mean over the images), and `evaluations` (candidates scored for an image).

    Args:
        problem: what to search.
        algorithm: such as `EvolutionStrategy()`; it decides nothing about the number of generations here, `run` does, and
            what its last update makes is not scored.
        seed: decides the result.
    """

    def __init__(self, problem: ActivationProblem, algorithm: Algorithm, *, seed: int = 0) -> None:
        self._algorithm, self._evaluations = algorithm, 0
        self._state: Any = algorithm.init(problem.start, problem.point, seed, None, problem.score)
        self._fitness = problem.start.new_empty(len(problem.start), 0)
        super().__init__(
            problem,
            best=lambda: self._algorithm.best(self._state)[0],
            best_evals=lambda: self._algorithm.best(self._state)[1],
            best_eval=lambda: float(self._algorithm.best(self._state)[1].mean()),
            pop_best_eval=lambda: float(self._fitness.amax(1).mean()),
            mean_eval=lambda: float(self._fitness[torch.isfinite(self._fitness)].mean()),
            evaluations=lambda: self._evaluations,
        )

    @torch.no_grad()
    def _step(self) -> None:
        candidates, state = self._algorithm.ask(self._state)
        self._fitness = self.problem.score(candidates)
        self._evaluations += candidates.shape[1]
        self._state = self._algorithm.tell(state, candidates, self._fitness)
