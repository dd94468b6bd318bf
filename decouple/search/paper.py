"""The paper's genetic algorithm.

Source: Vegesna and Dahal, arXiv 2509.10973: keep the k best as parents; explorers are children of parents with a
boosted mutation, refiners children of parents and explorers; the three together are the next population.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from decouple.config import PaperConfig, SearchConfig
from decouple.search import operators
from decouple.search.algorithm import Algorithm, Fitness, SearchPoint
from decouple.seeds import generator


class PaperState(NamedTuple):
    point: SearchPoint
    seed: int
    generation: int
    population: Tensor
    """(B, P, …) in the judge's type."""
    fitness: Tensor
    """(B, P) of that population; −inf before it was scored."""


_ROOM = {"cpu": 2**22}
"""Bytes of children made at once, by device: what the processor's caches hold."""


@dataclass(frozen=True)
class PaperSearch(Algorithm):
    """See the module's text. The first generation scores the initial population as it is."""

    label: ClassVar[str] = "the paper’s genetic algorithm"
    sections: ClassVar[tuple[str, ...]] = ("paper",)
    float_populations: ClassVar[int] = 3

    config: PaperConfig = field(default_factory=PaperConfig)

    @classmethod
    def create(cls, config: SearchConfig, seed: int, solution: int) -> PaperSearch:
        return cls(config.paper)

    def generations(self, point: SearchPoint) -> int:
        return 1 + point.setting(self.config.generations)

    def candidates(self, point: SearchPoint) -> int:
        return self.config.population

    def evaluations(self, point: SearchPoint, *, coupled: bool) -> int:
        known = 0 if coupled else self.config.parents  # keep their score
        return self.generations(point) * (self.config.population - known) + known

    def inputs(self, images: Tensor, point: SearchPoint, seed: int) -> Tensor:
        stream = generator(seed, device=images.device)
        shape = (len(images), self.config.population, *images.shape[1:])
        noise = torch.randn(shape, generator=stream, dtype=images.dtype, device=images.device)
        scale = point.setting(self.config.alpha) * images.std((-2, -1) if images.dim() > 2 else -1, keepdim=True)
        return images.unsqueeze(1) + scale.unsqueeze(1) * noise

    def init(self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness) -> PaperState:
        if population is None:
            population = start.unsqueeze(1).expand(-1, self.config.population, *point.shape)
        # Normalised like its children, or no child would ever beat it.
        normalised = operators.empty_candidates(start, population.shape[1], start.dtype)
        operators.rows_of(normalised, point)[:] = _finished(operators.rows_of(population.float(), point), point)
        unscored = torch.full(population.shape[:2], -torch.inf, dtype=torch.float32, device=population.device)
        return PaperState(point, seed, 0, normalised, unscored)

    def ask(self, state: PaperState) -> tuple[Tensor, PaperState]:
        if state.generation == 0:
            return state.population, state
        config, point, old = self.config, state.point, state.population
        stream = generator(state.seed, state.generation, device=old.device)
        draw = functools.partial(torch.randint, generator=stream, device=old.device)
        images, size = old.shape[:2]
        alpha = point.setting(config.alpha)
        boost = point.setting(config.boost)
        kept = operators.masked(state.fitness).topk(config.parents, dim=1).indices
        # Explorers are children of the parents, refiners of both.
        broods = [_Brood(config.parents, config.explorers, alpha * boost)]
        broods.append(_Brood(broods[0].end, size - broods[0].end, alpha))
        picks = [draw(brood.start, (images, brood.size, 2)) for brood in broods]
        children = size - config.parents
        # Noise is half of the cost, so the images of a batch share a pool of it, drawn anew in each generation. Each image's
        # children take a window of it, in an order left to chance: what an image sees is independent Gaussian noise.
        noise = operators.noise((images + children,), point, stream)
        noise = operators.smooth(noise, point.setting(config.blur), point)
        noise = operators.rows_of(operators.channels_last(noise.to(old.dtype)), point)
        first = torch.randperm(images, generator=stream, device=old.device)
        windows = first[:, None] + torch.arange(children, device=old.device)
        population = operators.empty_candidates(old[:, 0], size, old.dtype)
        rows, old_rows = operators.rows_of(population, point), operators.rows_of(old, point)
        for part, step in _parts(rows):
            individuals = rows[part]
            individuals[:, : config.parents] = operators.gather(old_rows[part], kept[part])
            scale = torch.empty_like(individuals[:, :, :1])
            scale[:, : config.parents] = operators.row_deviation(individuals[:, : config.parents])
            for brood, pick in zip(broods, picks, strict=True):
                parents = self._inherited(individuals, brood.start, point)
                for start in range(brood.start, brood.end, step):
                    end = min(start + step, brood.end)
                    pairs = pick[part, start - brood.start : end - brood.start]
                    fresh = _taken(noise, windows[part, start - config.parents : end - config.parents])
                    born = _reproduce(parents, scale, pairs, fresh, brood.strength, point)
                    individuals[:, start:end] = born
                    if brood.end < size:
                        scale[:, start:end] = operators.row_deviation(born)
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

    def _inherited(self, individuals: Tensor, count: int, point: SearchPoint) -> Tensor:
        """What children inherit from the first `count` of the individuals (b, P, positions, features): (b, ≥ count, …).

        Smoothing is linear: that of a mutated map is the mean of that of its parents, which are fewer, plus that of its noise.
        """
        passes = point.setting(self.config.blur)
        if self.config.smoothing == "noise" or passes == 0 or point.kind in ("vector", "logits"):
            return individuals
        smoothed = operators.smooth(operators.from_rows(individuals[:, :count], point), passes, point)
        return operators.rows_of(operators.channels_last(smoothed), point)


def _reproduce(parents: Tensor, scale: Tensor, pairs: Tensor, noise: Tensor, strength: float, point: SearchPoint) -> Tensor:
    """A child (b, n, positions, features) of each pair (b, n, 2) of parents (b, K, positions, features).

    Args:
        scale: (b, K', 1, features) noise scale of the parents.
        noise: (b, n, positions, features), smoothed.
    """
    images, count = pairs.shape[:2]
    table = parents.flatten(0, 1).flatten(1)
    bags = pairs + parents.shape[1] * torch.arange(images, device=pairs.device)[:, None, None]
    half = torch.full((images * count, 2), 0.5, dtype=table.dtype, device=table.device)
    crossed = functional.embedding_bag(bags.flatten(0, 1), table, mode="sum", per_sample_weights=half)
    sigma = operators.gather(scale, pairs.flatten(1)).unflatten(1, (count, 2)).mean(2)
    return _finished(torch.addcmul(crossed.view_as(noise), sigma, noise, value=strength), point)


class _Brood(NamedTuple):
    """Children that take the places from `start` in the population; everything before them may be a parent."""

    start: int
    size: int
    strength: float

    @property
    def end(self) -> int:
        return self.start + self.size


def _finished(rows: Tensor, point: SearchPoint) -> Tensor:
    """Rows (…, positions, features) with zero mean and unit variance per sample; logits with zero mean."""
    if point.kind == "logits":
        return rows - rows.mean(-2, keepdim=True)
    return functional.layer_norm(rows, rows.shape[-2:], eps=operators.NORMALISE_EPS)


def _taken(noise: Tensor, window: Tensor) -> Tensor:
    """Noise (b, n, …) of windows (b, n) into (N, …); on a CPU a view for a single image."""
    if len(window) == 1 and not window.is_cuda:  # a GPU would be waited for
        start = int(window[0, 0])
        return noise[None, start : start + window.shape[1]]
    return noise[window]


def _parts(rows: Tensor) -> Iterator[tuple[slice, int]]:
    """Images, and children of each at once, that stay in the processor's cache from one operation to the next."""
    room = _ROOM.get(rows.device.type, 2**28)
    example = rows[0, 0].numel() * rows.element_size()
    images = max(1, room // (rows.shape[1] * example))
    for start in range(0, len(rows), images):
        yield slice(start, start + images), max(1, room // (images * example))
