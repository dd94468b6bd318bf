"""The oracle: ascent along the true gradient of the fitness, which no search that only sees fitnesses can be expected to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from decouple.errors import NetworkError
from decouple.search import operators
from decouple.search.algorithm import EsAlgorithm, Fitness, SearchPoint


class GradientState(NamedTuple):
    point: SearchPoint
    dtype: torch.dtype
    fitness: Fitness
    generation: int
    start: Tensor
    """(B, …) float32, where the search begins."""
    center: Tensor
    rate: Tensor
    """(B,) factor of the step."""
    best: operators.Best


@dataclass(frozen=True)
class GradientAscent(EsAlgorithm):
    """A reference. Each generation scores one candidate and costs one backward pass, which no evolutionary search has.

    A step is as long as es's (`EsConfig.step`, in units of σ), within the same mean and deviation; where it made things
    worse, the next one leaves from the best again and is half as long.
    """

    label: ClassVar[str] = "gradient ascent (a reference, not a method)"
    note: ClassVar[str] = (
        "The search was a reference, not a method: gradient ascent backpropagates the classification loss through the "
        "network to the activations, which a search does not. A scored candidate costs a gradient too."
    )
    backpropagates: ClassVar[bool] = True

    def candidates(self, point: SearchPoint) -> int:
        return 1

    def init(
        self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness
    ) -> GradientState:
        center = operators.begun(start, point, self.config.moments)
        best = operators.Best.none(center)
        return GradientState(point, start.dtype, fitness, 0, center, center, torch.ones_like(best.fitness), best)

    def ask(self, state: GradientState) -> tuple[Tensor, GradientState]:
        candidates = operators.empty_candidates(state.center, 1, state.dtype)
        candidates[:] = state.center.unsqueeze(1)
        return candidates, state

    def tell(self, state: GradientState, candidates: Tensor, fitness: Tensor) -> GradientState:
        point, per_image = state.point, (-1, *[1] * len(state.point.shape))
        better = fitness[:, 0] > state.best.fitness
        best = state.best.or_better(state.center, fitness[:, 0])
        rate = torch.where(better, state.rate, state.rate / 2)
        scale = operators.noise_scale(best.values, point, self.config.scale)
        slope = operators.gradient(state.fitness, best.values.to(state.dtype))
        if slope is None:
            raise NetworkError(f"the network has no gradient behind '{point.name}' (a step function, or torch.no_grad)")
        uphill = scale * slope
        size = uphill.square().mean(operators.example_dims(point), keepdim=True).sqrt()
        step = point.setting(self.config.step) * rate.view(per_image)
        center = best.values + step * scale * uphill / (size + torch.finfo(size.dtype).tiny)
        if point.kind == "logits":
            center = center - center.mean(-1, keepdim=True)
        else:
            center = operators.restandardise(center, operators.moments(state.start, point), point)
        return state._replace(generation=state.generation + 1, center=center, rate=rate, best=best)
