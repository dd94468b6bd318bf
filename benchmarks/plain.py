"""The paper's pseudocode as one would write it down: the yardstick of `search_speed`.

float32, channels first, pooling for smoothing, everything scored in every generation, all children of a batch at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from decouple.config import PaperConfig
from decouple.search import Judge


@torch.no_grad()
def plain_search(
    judge: Judge, images: Tensor, labels: Tensor, config: PaperConfig, generator: torch.Generator
) -> list[Tensor]:
    """The paper's search over a batch of images (B, C, H, W), noise smoothed: targets (B, …) by search point."""
    points = judge.points(images[:2])
    noise = torch.randn(len(images), config.population, *images.shape[1:], generator=generator, device=images.device)
    population = images[:, None] + points[0].setting(config.alpha) * images.std((-2, -1), keepdim=True)[:, None] * noise
    targets = []
    for point in points:
        population = judge.advance(point.index, population.flatten(0, 1)).unflatten(0, population.shape[:2])
        is_map = point.kind == "map"
        population = _normalised(population) if is_map else population - population.mean(-1, keepdim=True)
        alpha, boost, passes = point.setting(config.alpha), point.setting(config.boost), point.setting(config.blur)
        for _ in range(point.setting(config.generations)):
            best = judge.fitness(point, population, labels).topk(config.parents).indices
            parents = _chosen(population, best)
            explorers = _reproduce(parents, config.explorers, alpha * boost, passes, is_map, generator)
            pool = torch.cat([parents, explorers], 1)
            refiners = _reproduce(pool, config.population - pool.shape[1], alpha, passes, is_map, generator)
            population = torch.cat([pool, refiners], 1)
        best = judge.fitness(point, population, labels).argmax(1, keepdim=True)
        targets.append(_chosen(population, best).squeeze(1))
        # Earlier layers are fixed to the best; its neighbours go on as the next population.
    return targets


def _reproduce(
    parents: Tensor, count: int, strength: float, passes: int, is_map: bool, generator: torch.Generator
) -> Tensor:
    one, other = (
        _chosen(parents, torch.randint(parents.shape[1], (len(parents), count), generator=generator, device=parents.device))
        for _ in "12"
    )
    child = (one + other) / 2
    dims = (-2, -1) if is_map else (-1,)
    sigma = (one.std(dims, keepdim=True) + other.std(dims, keepdim=True)) / 2
    noise = strength * sigma * torch.randn(child.shape, generator=generator, device=child.device)
    if not is_map:
        child = child + noise
        return child - child.mean(-1, keepdim=True)
    for _ in range(passes):
        noise = functional.avg_pool2d(noise.flatten(0, 1), 3, stride=1, padding=1).view_as(child)
    return _normalised(child + noise)


def _normalised(maps: Tensor) -> Tensor:
    mean, variance = maps.mean((2, 3, 4), keepdim=True), maps.var((2, 3, 4), correction=0, keepdim=True)
    return (maps - mean) / (variance + 1e-5).sqrt()


def _chosen(population: Tensor, index: Tensor) -> Tensor:
    return population[torch.arange(len(population))[:, None], index]
