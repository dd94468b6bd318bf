"""The paper's genetic algorithm.

Source: Vegesna and Dahal, arXiv 2509.10973: keep the k best as parents; explorers are children of parents with a
boosted mutation, refiners children of parents and explorers; the three together are the next population.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from decouple.config import PaperConfig, at
from decouple.search import operators
from decouple.search.algorithm import Fitness, SearchPoint
from decouple.seeds import generator


class PaperState(NamedTuple):
    point: SearchPoint
    seed: int
    generation: int
    population: Tensor
    """(B, P, …)"""
    fitness: Tensor
    """(B, P) of that population; −inf before it was scored."""


@dataclass(frozen=True)
class PaperSearch:
    """See the module's text. The first generation scores the initial population as it is."""

    config: PaperConfig = field(default_factory=PaperConfig)

    def generations(self, point: SearchPoint) -> int:
        return 1 + at(self.config.generations, point.index, point.count)

    def inputs(self, images: Tensor, seed: int) -> Tensor:
        stream = generator(seed, device=images.device)
        noise = torch.randn(len(images), self.config.population, *images.shape[1:], generator=stream, device=images.device)
        scale = self.config.alpha[0] * images.std((-2, -1), keepdim=True)
        return images.unsqueeze(1) + scale.unsqueeze(1) * noise

    def init(self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness) -> PaperState:
        if population is None:
            population = start.unsqueeze(1).expand(-1, self.config.population, *point.shape)
        # Normalised like its children, or no child would ever beat it.
        population = self._finish(population.float(), point)
        unscored = torch.full(population.shape[:2], -torch.inf, device=population.device)
        return PaperState(point, seed, 0, population, unscored)

    def ask(self, state: PaperState) -> tuple[Tensor, PaperState]:
        if state.generation == 0:
            return state.population, state
        config, point = self.config, state.point
        stream = generator(state.seed, state.generation, device=state.population.device)
        alpha = at(config.alpha, point.index, point.count)
        boost = at(config.boost, point.index, point.count)
        chosen = operators.masked(state.fitness).topk(config.parents, dim=1).indices
        parents = operators.gather(state.population, chosen)
        explorers = self._reproduce(parents, config.explorers, alpha * boost, point, stream)
        pool = torch.cat([parents, explorers], dim=1)
        refiners = self._reproduce(pool, config.population - pool.shape[1], alpha, point, stream)
        population = torch.cat([pool, refiners], dim=1)
        return population, state._replace(population=population)

    def tell(self, state: PaperState, candidates: Tensor, fitness: Tensor) -> PaperState:
        return state._replace(generation=state.generation + 1, population=candidates, fitness=fitness)

    def known(self, state: PaperState) -> Tensor | None:
        if state.generation == 0:
            return None
        return operators.masked(state.fitness).topk(self.config.parents, dim=1).values

    def best(self, state: PaperState) -> tuple[Tensor, Tensor]:
        fitness, chosen = operators.masked(state.fitness).max(1, keepdim=True)
        return operators.gather(state.population, chosen).squeeze(1), fitness.squeeze(1)

    def population(self, state: PaperState) -> Tensor:
        return state.population

    def _reproduce(
        self, parents: Tensor, count: int, strength: float, point: SearchPoint, stream: torch.Generator
    ) -> Tensor:
        """`count` children for each image of a pool of parents (B, K, …)."""
        pick = torch.randint(parents.shape[1], (2, len(parents), count), generator=stream, device=parents.device)
        scale = operators.noise_scale(parents, point)
        children = (operators.gather(parents, pick[0]) + operators.gather(parents, pick[1])) / 2
        sigma = (operators.gather(scale, pick[0]) + operators.gather(scale, pick[1])) / 2
        noise = strength * sigma * torch.randn(children.shape, generator=stream, device=parents.device)
        passes = at(self.config.blur, point.index, point.count)
        if self.config.smoothing == "map":
            children = operators.smooth(children + noise, passes, point)
        else:
            children = children + operators.smooth(noise, passes, point)
        return self._finish(children, point)

    def _finish(self, children: Tensor, point: SearchPoint) -> Tensor:
        if point.kind == "logits":
            return children - children.mean(-1, keepdim=True)
        return operators.normalise(children, point)
