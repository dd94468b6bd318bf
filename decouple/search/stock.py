"""EvoTorch's own functional algorithms, batched over images: references, and a pattern for plugging in others.

They sample unsmoothed noise for every image apart, which costs about ten times the forward passes.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from decouple.search import operators
from decouple.search.algorithm import CentredAlgorithm, Fitness, SearchPoint
from decouple.seeds import derive
from decouple.torch_state import seeded


def _functional() -> Any:
    """EvoTorch's functional algorithms."""
    from decouple.search.evotorch_names import functional  # takes seconds to import

    return functional


class StockState(NamedTuple):
    point: SearchPoint
    seed: int
    generation: int
    inner: Any
    """EvoTorch's own state, over (B, D) flattened activations."""
    best: operators.Best
    """Its values (B, D) are flattened."""


@dataclass(frozen=True)
class _Stock(CentredAlgorithm):
    """What EvoTorch's algorithms with a centre have in common.

    The centre enters every generation as one more candidate, so that what is kept has been scored.
    """

    def init(self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness) -> StockState:
        center = start.float().flatten(1)
        scale = operators.noise_scale(start.float(), point, self.config.scale).expand(-1, *point.shape).flatten(1)
        step = point.setting(self.config.step)
        with center.device:  # EvoTorch names no device
            inner = self._begin(center, scale.clamp_min(1e-6), step)
        return StockState(point, seed, 0, inner, operators.Best.none(center))

    def ask(self, state: StockState) -> tuple[Tensor, StockState]:
        center = self._center(state.inner)
        with center.device, seeded(derive(state.seed, state.generation), center.device):
            candidates = self._sample(state.inner)
        candidates = torch.cat([center.unsqueeze(1), candidates], dim=1)
        return candidates.unflatten(-1, state.point.shape), state

    def tell(self, state: StockState, candidates: Tensor, fitness: Tensor) -> StockState:
        flat = candidates.flatten(2)
        told = state._replace(generation=state.generation + 1, best=state.best.or_better(flat[:, 0], fitness[:, 0]))
        if flat.shape[1] == 1:
            return told
        # EvoTorch ranks, and NaN comes first: what failed gets the worst finite fitness of its image. Where all failed, ties
        # would be ranked by position: the image's state stays as it was.
        finite = torch.isfinite(fitness)
        worst = torch.where(finite, fitness, torch.inf).amin(1, keepdim=True)
        ranked = torch.where(finite, fitness, torch.where(torch.isfinite(worst), worst, 0.0))
        with flat.device:
            inner = self._update(state.inner, flat[:, 1:], ranked[:, 1:])
        return told._replace(inner=_where(finite[:, 1:].any(1), inner, state.inner))

    def pending(self, state: StockState) -> Tensor:
        return self._center(state.inner).unsqueeze(1).unflatten(-1, state.point.shape)

    def best(self, state: StockState) -> tuple[Tensor, Tensor]:
        return state.best.values.unflatten(-1, state.point.shape), state.best.fitness

    @abstractmethod
    def _begin(self, center: Tensor, scale: Tensor, step: float) -> Any:
        """The inner state for centres (B, D) with noise scale (B, D)."""

    @abstractmethod
    def _center(self, inner: Any) -> Tensor: ...

    @abstractmethod
    def _sample(self, inner: Any) -> Tensor:
        """Candidates (B, P, D), by the global generator."""

    @abstractmethod
    def _update(self, inner: Any, values: Tensor, fitness: Tensor) -> Any: ...


class Pgpe(_Stock):
    """`evotorch.algorithms.functional.pgpe` with the radius, steps and population of `EsConfig`."""

    label: ClassVar[str] = "EvoTorch’s PGPE"

    def _begin(self, center: Tensor, scale: Tensor, step: float) -> Any:
        return _functional().pgpe(
            center_init=center,
            # ClipUp, PGPE's default optimiser, moves by a norm: that of one es step along a random direction.
            center_learning_rate=step * scale.square().sum(1).sqrt(),
            stdev_learning_rate=0.0,
            stdev_init=self.config.radius * scale,
            objective_sense="max",
            ranking_method="centered",
        )

    def _center(self, inner: Any) -> Tensor:
        return inner.optimizer_state.center

    def _sample(self, inner: Any) -> Tensor:
        return _functional().pgpe_ask(inner, popsize=self.config.population)

    def _update(self, inner: Any, values: Tensor, fitness: Tensor) -> Any:
        return _functional().pgpe_tell(inner, values, fitness)


class Cem(_Stock):
    """`evotorch.algorithms.functional.cem`: the better half become the next mean and deviation; step and momentum are its own."""

    label: ClassVar[str] = "EvoTorch’s cross-entropy method"

    def _begin(self, center: Tensor, scale: Tensor, step: float) -> Any:
        return _functional().cem(
            center_init=center,
            parenthood_ratio=0.5,
            stdev_init=self.config.radius * scale,
            # A deviation estimated from a few dozen candidates would collapse before the centre has moved.
            stdev_max_change=0.05,
            objective_sense="max",
        )

    def _center(self, inner: Any) -> Tensor:
        return inner.center

    def _sample(self, inner: Any) -> Tensor:
        return _functional().cem_ask(inner, popsize=self.config.population)

    def _update(self, inner: Any, values: Tensor, fitness: Tensor) -> Any:
        return _functional().cem_tell(inner, values, fitness)


def _where(chosen: Tensor, new: Any, old: Any) -> Any:
    """`new` for the images that are `chosen` (B,) and `old` for the others, in everything of a state that is by image."""
    if new is old:
        return new
    if isinstance(new, tuple):
        return type(new)(*(_where(chosen, one, other) for one, other in zip(new, old, strict=True)))
    return torch.where(chosen.view(-1, *[1] * (new.dim() - 1)), new, old)
