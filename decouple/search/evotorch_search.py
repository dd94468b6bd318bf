"""Any of EvoTorch's search algorithms in its object form, for comparison: a searcher of its own for each image.

EvoTorch asks for fitness in the middle of a step, so a step is made twice: `ask` stops it where candidates are to be scored, and
`tell` makes it again, from the same state and with the same random numbers, and answers. Importing this module imports EvoTorch,
which takes seconds.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from decouple.config import SearchConfig
from decouple.errors import ConfigError, did_you_mean
from decouple.registry import EVOTORCH
from decouple.search import operators
from decouple.search.algorithm import EsAlgorithm, Fitness, SearchPoint
from decouple.search.evotorch_names import Problem, SearchAlgorithm, SolutionBatch, algorithms, finite
from decouple.seeds import derive
from decouple.torch_state import seeded

logging.getLogger("evotorch").setLevel(logging.WARNING)  # it reports every problem, of which there is one for each image


class _Asked(Exception):
    """A searcher wants the fitness of candidates (P, D)."""

    def __init__(self, candidates: Tensor) -> None:
        self.candidates = candidates


class _Image(Problem):
    """Maximise the fitness of one image, which comes from outside: `answer` (P,), or None."""

    def __init__(self, start: Tensor, reach: float, seed: int) -> None:
        self._start, self._reach = start, reach
        self.answer: Tensor | None = None
        super().__init__("max", solution_length=start.numel(), dtype=torch.float32, device=start.device, seed=seed)

    def _fill(self, values: Tensor) -> None:
        self.make_uniform(out=values, lb=self._start - self._reach, ub=self._start + self._reach)

    def _evaluate_batch(self, solutions: SolutionBatch) -> None:
        answer, self.answer = self.answer, None
        if answer is None:
            raise _Asked(solutions.values.clone())
        solutions.set_evals(finite(answer))


class EvoTorchState(NamedTuple):
    point: SearchPoint
    seed: int
    generation: int
    searchers: list[SearchAlgorithm]
    """One for each image; a step is made on a copy."""
    best: operators.Best


@dataclass(frozen=True)
class EvoTorchSearch(EsAlgorithm):
    """`evotorch.algorithms.<kind>`, with population, radius and generations of `EsConfig` and its own settings otherwise.

    Raises:
        ConfigError: EvoTorch has no such algorithm, or it has settings without a default that a search does not know.
    """

    kind: str = "SNES"

    def __post_init__(self) -> None:
        names = [
            name
            for name, found in vars(algorithms).items()
            if inspect.isclass(found) and issubclass(found, SearchAlgorithm) and found is not SearchAlgorithm
        ]
        if self.kind not in names:
            raise ConfigError(f"EvoTorch has no algorithm '{self.kind}'{did_you_mean(self.kind, names)}")
        required = {name for name, value in self._parameters().items() if value.default is value.empty}
        if hasattr(getattr(algorithms, self.kind), "use"):
            required.add("operators")
        if lacking := required - set(self._settings(1.0, torch.empty(0))):
            raise ConfigError(
                f"evotorch:{self.kind} cannot search here: it has no default for {', '.join(sorted(lacking))}; derive an algorithm of "
                "your own from decouple.search.Algorithm, or use another of EvoTorch's"
            )

    @classmethod
    def create(cls, config: SearchConfig, seed: int, solution: int) -> EvoTorchSearch:
        return cls(config.es, kind=config.algorithm.removeprefix(EVOTORCH))

    def candidates(self, point: SearchPoint) -> int:
        return self.config.population

    def init(
        self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness
    ) -> EvoTorchState:
        center = start.float()
        scale = operators.noise_scale(center, point, self.config.scale).flatten(1).mean(1) * self.config.radius
        searchers = []
        with seeded(derive(seed, "begin"), start.device), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CMAES copies its centre in a way that torch advises against
            for image, (own, reach) in enumerate(zip(center.flatten(1), scale.clamp_min(1e-6).tolist(), strict=True)):
                problem = _Image(own, reach, derive(seed, image) % 2**32)
                wanted = {k: v for k, v in self._settings(reach, own).items() if k in self._given()}
                searchers.append(getattr(algorithms, self.kind)(problem, **wanted))
        return EvoTorchState(point, seed, 0, searchers, operators.Best.none(center))

    def ask(self, state: EvoTorchState) -> tuple[Tensor, EvoTorchState]:
        found = []
        for image in range(len(state.searchers)):
            try:
                self._step(state, image, None)
            except _Asked as asked:
                found.append(asked.candidates)
        if len(found) < len(state.searchers) or len({len(candidates) for candidates in found}) > 1:
            raise ConfigError(
                f"evotorch:{self.kind} cannot search here: a step does not ask for as many candidates of each image"
            )
        return torch.stack(found).unflatten(-1, state.point.shape), state

    def tell(self, state: EvoTorchState, candidates: Tensor, fitness: Tensor) -> EvoTorchState:
        try:
            searchers = [self._step(state, image, answer) for image, answer in enumerate(fitness)]
        except _Asked:
            raise ConfigError(f"evotorch:{self.kind} cannot search here: a step asks for fitness more than once") from None
        best = state.best.or_better(*operators.best_of(candidates, fitness))
        return state._replace(generation=state.generation + 1, searchers=searchers, best=best)

    def _step(self, state: EvoTorchState, image: int, answer: Tensor | None) -> SearchAlgorithm:
        """The searcher of an image after a step."""
        searcher = copy.deepcopy(state.searchers[image])
        searcher.problem.answer = answer
        with seeded(derive(state.seed, state.generation, image), state.best.values.device):
            searcher.step()
        return searcher

    def _settings(self, reach: float, center: Tensor) -> dict[str, Any]:
        """What a search knows of the settings that EvoTorch's algorithms take."""
        known = {"popsize": self.config.population, "stdev_init": reach, "center_init": center, "parenthood_ratio": 0.5}
        return known | {"center_learning_rate": 0.1, "stdev_learning_rate": 0.1, "cma_options": {"verbose": -9}}

    def _given(self) -> set[str]:
        """What is given: what has no default, and where and how widely to begin."""
        parameters = self._parameters()
        required = {name for name, value in parameters.items() if value.default is value.empty}
        return required | ({"popsize", "stdev_init", "center_init", "cma_options"} & set(parameters))

    def _parameters(self) -> dict[str, inspect.Parameter]:
        parameters = inspect.signature(getattr(algorithms, self.kind).__init__).parameters
        return {name: value for name, value in parameters.items() if name not in ("self", "problem")}
