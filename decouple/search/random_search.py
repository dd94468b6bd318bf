"""The floor: about as many candidates as `es` scores, drawn without regard to any fitness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from decouple.networks.factored import Factored, Mix
from decouple.search import operators
from decouple.search.algorithm import EsAlgorithm, Fitness, SearchPoint
from decouple.seeds import derive, generator


class RandomState(NamedTuple):
    point: SearchPoint
    dtype: torch.dtype
    seed: int
    generation: int
    start: Tensor
    """(B, …) float32, where the search begins."""
    best: operators.Best


@dataclass(frozen=True)
class RandomSearch(EsAlgorithm):
    """A reference. Displaces the network's own activations by es's noise, and keeps the best.

    The sizes of the displacements are uniform from zero to where es's centre would drift by chance.
    """

    label: ClassVar[str] = "random search (a reference, not a method)"
    note: ClassVar[str] = (
        "The search was a reference, not a method: random search keeps the best of as many candidates, all drawn around the "
        "network’s own activations. What another search adds to its targets is what that search learns from fitnesses."
    )

    def init(self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness) -> RandomState:
        begun = operators.begun(start, point, self.config.moments)
        return RandomState(point, start.dtype, seed, 0, begun, operators.Best.none(begun))

    def ask(self, state: RandomState) -> tuple[Tensor, RandomState]:
        config, point = self.config, state.point
        stream = generator(derive(state.seed, "random"), state.generation, device=state.start.device)
        images = () if config.noise == "shared" else (len(state.start),)
        noise = operators.noise((*images, config.population), point, stream)
        shape = (config.population, *[1] * len(point.shape))
        size = torch.rand(shape, generator=stream, dtype=noise.dtype, device=noise.device) * self._reach(point)
        scale = operators.noise_scale(state.start, point, self.config.scale)
        if config.noise == "shared" and scale.numel() == len(scale):
            return _described(state, noise, size.flatten() * scale.view(-1, 1)), state
        start = state.start.unsqueeze(1)
        moved = start + size * scale.unsqueeze(1) * noise
        if point.kind != "logits":
            moved = operators.restandardise(moved, operators.moments(start, point), point)
        candidates = operators.empty_candidates(state.start, config.population + 1, state.dtype)
        candidates[:, :1], candidates[:, 1:] = start, moved
        return candidates, state

    def tell(self, state: RandomState, candidates: Tensor, fitness: Tensor) -> RandomState:
        best = state.best.or_better(*operators.best_of(candidates, fitness))
        return state._replace(generation=state.generation + 1, best=best)

    def _reach(self, point: SearchPoint) -> float:
        """Of a random walk with es's steps, in units of σ."""
        step = point.setting(self.config.step)
        return max(self.config.radius, step * self.generations(point) ** 0.5 / (1 - self.config.momentum))


def _described(state: RandomState, noise: Tensor, weights: Tensor) -> Tensor:
    """The start, and the start displaced along noise (P, …) by weights (B, P), with mean and deviation restored.

    What restores them is a factor for each candidate, once start and noise have mean 0.
    """
    point = state.point
    own: list[Tensor] = []
    factors: tuple[Tensor, ...] = ()
    if point.kind != "logits":
        centred = [operators.flat(values, point) for values in (state.start, noise)]
        start, noise = (rows - rows.mean(-1, keepdim=True) for rows in centred)
        square = start.square().sum(1, keepdim=True)
        variance = square + weights * (2 * start @ noise.T + weights * noise.square().sum(1))
        elements = start.shape[1]
        factor = (square / elements).sqrt() * (variance.clamp_min(0) / elements + operators.NORMALISE_EPS).rsqrt()
        weights, noise = factor * weights, operators.unflat(noise, point)
        own, factors = [operators.unflat(start, point)], (functional.pad(factor - 1, (1, 0)),)
    along = functional.pad(torch.arange(len(noise), device=noise.device), (1, 0))
    mix = Mix(functional.pad(weights, (1, 0)), along, factors)
    return Factored.of(state.start, noise, mix, own=own, dtype=state.dtype)
