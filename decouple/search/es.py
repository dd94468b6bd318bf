"""An antithetic evolution strategy: PGPE's search gradient with fixed radius, one centre an image.

Each generation displaces the centre H of every image by ±radius·σ·ε_i, i = 1 … P/2, and moves it along
Σ_i (f_i⁺ − f_i⁻) ε_i. All samples enter the update, where a genetic algorithm keeps one noisy winner: less of the
displacement is noise, which no network can learn.

Source: Sehnke et al., "Parameter-exploring policy gradients" (2010), symmetric sampling; noise that
images share, and that moves only a solution's own part of the elements, is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from decouple.config import SearchConfig
from decouple.networks.factored import Factored, Mix
from decouple.search import operators
from decouple.search.algorithm import CentredAlgorithm, Fitness, SearchPoint
from decouple.seeds import derive, generator


class EsState(NamedTuple):
    point: SearchPoint
    dtype: torch.dtype
    """Of the candidates: what the judge computes in. The centre and its updates are float32."""
    seed: int
    generation: int
    moments: tuple[Tensor, Tensor] | None
    """Mean and deviation of each sample, which it keeps; None: 0 and 1."""
    center: Tensor
    """(B, …) float32; maps have adjacent channels, here and below."""
    velocity: Tensor
    scale: Tensor
    """σ, broadcastable to the centre."""
    moved: Tensor | None
    """(…), what noise is multiplied by: 0 at elements that another solution moves; None: all are moved alike."""
    mix: Mix | None
    """What candidates are made up of, where all directions are shared."""
    noise: Tensor
    """ε of the candidates asked for last: (P/2, …), or (B, P/2, …) when each image has its own."""
    best: operators.Best


@dataclass(frozen=True)
class EvolutionStrategy(CentredAlgorithm):
    """See the module's text; candidate 0 is the centre itself, so that what is kept has been scored."""

    label: ClassVar[str] = "our antithetic evolution strategy"

    shared_seed: int | None = None
    """With noise="shared": where the directions of every batch come from; None: the seed given to `init`."""
    part: tuple[int, int] | None = None
    """Of the elements, the part that this solution moves: the seed by which they are dealt, and its number among
    `config.subspaces`; None: all."""

    @classmethod
    def create(cls, config: SearchConfig, seed: int, solution: int) -> EvolutionStrategy:
        subspaces = config.es.subspaces or 1
        deal, number = divmod(solution, subspaces)
        part = (derive(seed, "subspaces", deal), number) if subspaces > 1 else None
        return cls(config.es, shared_seed=derive(seed, "search", solution), part=part)

    @property
    def joins(self) -> bool:
        return self._shares and self.shared_seed is not None

    def init(self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness) -> EsState:
        center = operators.begun(operators.channels_last(start), point, self.config.moments)
        scale = operators.noise_scale(center, point, self.config.scale)
        described = self._shares and scale.numel() == len(scale)
        return EsState(
            point=point,
            dtype=start.dtype,
            seed=derive(self.shared_seed, point.name) if self._shares and self.shared_seed is not None else seed,
            generation=0,
            moments=None if self.config.moments == "unit" else operators.moments(center, point),
            center=center,
            velocity=torch.zeros_like(center),
            scale=scale,
            moved=self._moved(point, center.device),
            mix=Mix.mirrored(self.config.radius * scale, self.config.population // 2) if described else None,
            noise=center.new_empty(0),
            best=operators.Best.none(center),
        )

    def ask(self, state: EsState) -> tuple[Tensor, EsState]:
        point, config = state.point, self.config
        pairs = config.population // 2
        images = () if self._shares else (len(state.center),)
        stream = generator(state.seed, state.generation, device=state.center.device)
        noise = operators.channels_last(operators.noise((*images, pairs), point, stream))
        noise = noise if state.moved is None else noise * state.moved
        if state.mix is not None:
            return Factored.of(state.center, noise, state.mix, dtype=state.dtype), state._replace(noise=noise)
        candidates = operators.mirrored(state.center, noise, config.radius * state.scale, state.dtype)
        return candidates, state._replace(noise=noise)

    def tell(self, state: EsState, candidates: Tensor, fitness: Tensor) -> EsState:
        config, point = self.config, state.point
        pairs = config.population // 2
        best = state.best.or_better(state.center, fitness[:, 0])
        if candidates.shape[1] == 1:
            return state._replace(generation=state.generation + 1, best=best)
        difference = fitness[:, 1 : pairs + 1] - fitness[:, pairs + 1 :]
        # A pair with a failed side says nothing about the direction.
        difference = difference.nan_to_num(0.0, 0.0, 0.0)
        weights = difference / (torch.linalg.vector_norm(difference, dim=1, keepdim=True) + 1e-12)
        noise, velocity = operators.flat(state.noise, point), operators.flat(state.velocity, point)
        if self._shares:
            velocity = torch.addmm(velocity, weights, noise, beta=config.momentum)
        else:
            velocity = torch.baddbmm(velocity[:, None], weights[:, None], noise, beta=config.momentum).squeeze(1)
        velocity = operators.unflat(velocity, point)
        center = torch.addcmul(state.center, point.setting(config.step) * state.scale, velocity)
        if point.kind == "logits":
            center = center - center.mean(-1, keepdim=True)
        else:
            center = operators.restandardise(center, state.moments, point)
        return state._replace(
            generation=state.generation + 1,
            center=center,
            velocity=velocity,
            best=best,
        )

    def pending(self, state: EsState) -> Tensor:
        return state.center.to(state.dtype).unsqueeze(1)

    def _moved(self, point: SearchPoint, device: torch.device) -> Tensor | None:
        """See `EsState`. The noise that is left has the length that it would have in all elements."""
        elements = math.prod(point.shape)
        parts = min(self.config.subspaces or 1, elements)
        if self.part is None or parts == 1 or point.kind == "logits":
            return None
        seed, number = self.part
        order = torch.randperm(elements, generator=generator(seed, point.name, device=device), device=device)
        moved = torch.zeros(elements, dtype=torch.float32, device=device)
        moved[order[number % parts :: parts]] = parts**0.5
        return moved.view(point.shape)

    @property
    def _shares(self) -> bool:
        return self.config.noise == "shared"
