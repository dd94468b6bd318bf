"""EvoTorch's own functional PGPE, batched over images: a reference, and a pattern for plugging in its other algorithms.

It samples unsmoothed noise for every image apart, which costs about ten times the forward passes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from decouple.config import EsConfig, at
from decouple.search import operators
from decouple.search.algorithm import Fitness, SearchPoint
from decouple.seeds import derive

with warnings.catch_warnings():  # EvoTorch 0.6 scripts a function at import, which torch now deprecates
    warnings.simplefilter("ignore")
    from evotorch.algorithms.functional import pgpe, pgpe_ask, pgpe_tell


class PgpeState(NamedTuple):
    point: SearchPoint
    seed: int
    generation: int
    inner: Any
    best: Tensor
    """(B, D), flattened."""
    best_fitness: Tensor


@dataclass(frozen=True)
class Pgpe:
    """`evotorch.algorithms.functional.pgpe` with the radius, steps and population of `EsConfig`.

    The centre enters every generation as one more candidate, so that what is kept has been scored.
    """

    config: EsConfig = field(default_factory=EsConfig)

    def generations(self, point: SearchPoint) -> int:
        return at(self.config.generations, point.index, point.count)

    def inputs(self, images: Tensor, seed: int) -> None:
        return None

    def init(self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness) -> PgpeState:
        center = start.float().flatten(1)
        scale = operators.noise_scale(start.float(), point).expand(-1, *point.shape).flatten(1)
        step = at(self.config.step, point.index, point.count)
        inner = pgpe(
            center_init=center,
            # ClipUp, PGPE's default optimiser, moves by a norm: that of one es step along a random direction.
            center_learning_rate=step * scale.square().sum(1).sqrt(),
            stdev_learning_rate=0.0,
            stdev_init=self.config.radius * scale.clamp_min(1e-6),
            objective_sense="max",
            ranking_method="centered",
        )
        failed = torch.full((len(start),), -torch.inf, device=start.device)
        return PgpeState(point, seed, 0, inner, center, failed)

    def ask(self, state: PgpeState) -> tuple[Tensor, PgpeState]:
        center = state.inner.optimizer_state.center
        with _global_generator(derive(state.seed, state.generation), center.device):
            candidates = pgpe_ask(state.inner, popsize=self.config.population)
        candidates = torch.cat([center.unsqueeze(1), candidates], dim=1)
        return candidates.unflatten(-1, state.point.shape), state

    def tell(self, state: PgpeState, candidates: Tensor, fitness: Tensor) -> PgpeState:
        flat = candidates.flatten(2)
        better = fitness[:, 0] > state.best_fitness
        # PGPE ranks: give what failed the worst finite fitness of its image, and a neutral one where all failed.
        finite = torch.isfinite(fitness)
        worst = torch.where(finite, fitness, torch.inf).amin(1, keepdim=True)
        ranked = torch.where(finite, fitness, torch.where(torch.isfinite(worst), worst, 0.0))
        return state._replace(
            generation=state.generation + 1,
            inner=pgpe_tell(state.inner, flat[:, 1:], ranked[:, 1:]),
            best=torch.where(better[:, None], flat[:, 0], state.best),
            best_fitness=torch.where(better, fitness[:, 0], state.best_fitness),
        )

    def known(self, state: PgpeState) -> None:
        return None

    def best(self, state: PgpeState) -> tuple[Tensor, Tensor]:
        return state.best.unflatten(-1, state.point.shape), state.best_fitness

    def population(self, state: PgpeState) -> None:
        return None


@contextmanager
def _global_generator(seed: int, device: torch.device) -> Iterator[None]:
    """EvoTorch's functional algorithms draw from the global generator: seed it, and put it back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
