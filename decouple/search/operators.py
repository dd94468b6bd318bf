"""The pure tensor operations that search algorithms are made of.

Activations are (…, C, H, W) maps, (…, T, D) token sequences or (…, D) vectors and logits, behind any number of
leading batch dimensions. Nothing here draws from a global generator or changes its inputs.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from decouple.search.algorithm import Fitness, SearchPoint

NORMALISE_EPS = 1e-5
"""The paper's epsilon of the per-sample normalisation."""


def example_dims(point: SearchPoint) -> tuple[int, ...]:
    """The trailing dimensions that one example takes, as negative numbers."""
    return tuple(range(-len(point.shape), 0))


def noise_scale(values: Tensor, point: SearchPoint, over: str = "channel") -> Tensor:
    """The unit of a mutation: how much an activation varies by itself, broadcastable to `values`.

    over="sample": the standard deviation over all elements of an example. over="channel": for maps the standard deviation
    over space, of each channel (paper's σ[b,c]); for tokens over the sequence, of each feature; where a single position
    has no deviation, and for vectors and logits, over the elements.
    """
    if over == "channel" and point.kind == "map" and point.shape[-1] * point.shape[-2] > 1:
        return values.std((-2, -1), keepdim=True)
    if over == "channel" and point.kind == "tokens" and point.shape[0] > 1:
        return values.std(-2, keepdim=True)
    if torch.Size(point.shape).numel() == 1:
        return values.abs()  # a single number has no deviation
    return values.std(example_dims(point), keepdim=True)


def normalise(values: Tensor, point: SearchPoint) -> Tensor:
    """Zero mean and unit variance per sample, over channels and space (paper: "needed for convergence")."""
    rows = flat(values, point)
    return unflat(torch.nn.functional.layer_norm(rows, rows.shape[-1:], eps=NORMALISE_EPS), point)


def begun(start: Tensor, point: SearchPoint, moments: str) -> Tensor:
    """Where a search begins, (B, …) float32: the network's own activations, normalised where `EsConfig.moments` is "unit"."""
    return normalise(start.float(), point) if moments == "unit" and point.kind != "logits" else start.float()


def moments(values: Tensor, point: SearchPoint) -> tuple[Tensor, Tensor]:
    """Mean and deviation over each sample, broadcastable to `values`; `Tensor.std` takes ten times as long on a CPU."""
    rows = flat(values, point)
    mean = rows.mean(-1, keepdim=True)
    deviation = torch.linalg.vector_norm(rows - mean, dim=-1, keepdim=True) / rows.shape[-1] ** 0.5
    shape = (*rows.shape[:-1], *[1] * len(point.shape))
    return mean.view(shape), deviation.view(shape)


def restandardise(values: Tensor, wanted: tuple[Tensor, Tensor] | None, point: SearchPoint) -> Tensor:
    """`values` with the `wanted` mean and deviation over each sample, by default 0 and 1: search moves within what the network
    produces."""
    normalised = normalise(values, point)
    return normalised if wanted is None else torch.addcmul(wanted[0], normalised, wanted[1])


def smooth(values: Tensor, passes: int, point: SearchPoint) -> Tensor:
    """`passes` passes of 3×3 mean pooling with zero padding (maps), or of a 3-token mean (tokens).

    A pass is T·H·Tᵀ with the tridiagonal matrix T of thirds, so all passes are one small matrix product an axis.
    """
    if passes == 0 or point.kind in ("vector", "logits"):
        return values
    rows = _mean_matrix(point.shape[-2], passes, values.device).to(values.dtype)
    if point.kind == "tokens":
        return rows @ values
    columns = _mean_matrix(point.shape[-1], passes, values.device).to(values.dtype)
    return rows @ values @ columns.T


def noise(count: tuple[int, ...], point: SearchPoint, generator: torch.Generator) -> Tensor:
    """Gaussian noise (*count, …) on the generator's device."""
    return torch.randn(*count, *point.shape, generator=generator, dtype=torch.float32, device=generator.device)


def flat(values: Tensor, point: SearchPoint) -> Tensor:
    """Activations (…, D): a view, if the channels of maps are adjacent."""
    return (values.movedim(-3, -1) if point.kind == "map" else values).flatten(-len(point.shape))


def unflat(rows: Tensor, point: SearchPoint) -> Tensor:
    """The inverse of `flat`."""
    if point.kind != "map":
        return rows.unflatten(-1, point.shape)
    channels, *size = point.shape
    return rows.unflatten(-1, (*size, channels)).movedim(-1, -3)


def mirrored(center: Tensor, directions: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Candidates (B, 1 + 2K, …): centres c (B, …), c + s·d and c − s·d.

    Args:
        directions: d, (K, …), or (B, K, …) where each image has its own.
        scale: s, broadcastable to the centres.
    """
    count, center = directions.shape[-center.dim()], center.to(dtype).unsqueeze(1)
    trial = scale.to(dtype).unsqueeze(1) * directions.to(dtype)
    candidates = empty_candidates(center[:, 0], 2 * count + 1, dtype)
    candidates[:, :1] = center
    torch.add(center, trial, out=candidates[:, 1 : count + 1])
    torch.sub(center, trial, out=candidates[:, count + 1 :])
    return candidates


def channels_last(values: Tensor) -> Tensor:
    """The same values, with the channels of maps (…, C, H, W) adjacent in memory, as convolutions on a CPU want them."""
    if values.dim() < 4:
        return values
    return values.movedim(-3, -1).contiguous().movedim(-1, -3)


def empty_candidates(like: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Room for (B, count, …) candidates of activations (B, …); maps have adjacent channels."""
    if like.dim() < 4:
        return like.new_empty(len(like), count, *like.shape[1:], dtype=dtype)
    channels, height, width = like.shape[-3:]
    return like.new_empty(len(like), count, height, width, channels, dtype=dtype).movedim(-1, -3)


def rows_of(values: Tensor, point: SearchPoint) -> Tensor:
    """Activations as (…, positions, features), the axes that `noise_scale` tells apart: a view, if channels are adjacent.

    What has no deviation over positions (vectors, logits, a 1×1 map, a single token) becomes (…, elements, 1).
    """
    if point.kind in ("vector", "logits"):
        return values.unsqueeze(-1)
    rows = values.movedim(-3, -1).flatten(-3, -2) if point.kind == "map" else values
    return rows if rows.shape[-2] > 1 else rows.transpose(-1, -2)


def from_rows(rows: Tensor, point: SearchPoint) -> Tensor:
    """The inverse of `rows_of`."""
    if point.kind in ("vector", "logits"):
        return rows.squeeze(-1)
    if rows.shape[-2:] != (rows.shape[-2], point.shape[0 if point.kind == "map" else 1]):
        rows = rows.transpose(-1, -2)
    return rows.unflatten(-2, point.shape[-2:]).movedim(-1, -3) if point.kind == "map" else rows


def row_deviation(rows: Tensor) -> Tensor:
    """`noise_scale` of rows (…, positions, features): (…, 1, features), several times faster than `Tensor.std` on a CPU."""
    if rows.shape[-2] == 1:
        return rows.abs()
    count = rows.shape[-2]
    # Shifted by (almost) the mean, so that the difference of two sums is exact where a feature hardly varies.
    shifted = rows - rows.sum(-2, keepdim=True) / count
    total, squares = shifted.sum(-2, keepdim=True), shifted.square().sum(-2, keepdim=True)
    return ((squares - total.square() / count) / (count - 1)).clamp_min(0).sqrt()


def gather(population: Tensor, chosen: Tensor) -> Tensor:
    """Individuals `chosen` (B, n) of a population (B, P, …): (B, n, …)."""
    return population[torch.arange(len(population), device=population.device)[:, None], chosen]


def gradient(fitness: Fitness, values: Tensor) -> Tensor | None:
    """Gradient (B, …) float32 of the fitness of activations (B, …), by autograd: a reference, no part of a search. None: the network
    has none there, because of a step function, say."""
    with torch.enable_grad():
        leaf = values.detach().float().requires_grad_()
        total = fitness(leaf.to(values.dtype).unsqueeze(1)).sum()
        return torch.autograd.grad(total, leaf)[0] if total.requires_grad else None


class Best(NamedTuple):
    """The best solution of each image so far."""

    values: Tensor
    """(B, …) float32."""
    fitness: Tensor
    """(B,)."""

    @classmethod
    def none(cls, start: Tensor) -> Best:
        """Nothing has been scored yet."""
        return cls(start, torch.full((len(start),), -torch.inf, dtype=torch.float32, device=start.device))

    def or_better(self, values: Tensor, fitness: Tensor) -> Best:
        """For each image this one, unless the other is better."""
        better = fitness > self.fitness
        shape = (-1, *[1] * (values.dim() - 1))
        return Best(torch.where(better.view(shape), values, self.values), torch.where(better, fitness, self.fitness))


def best_of(candidates: Tensor, fitness: Tensor) -> Best:
    """The best of the candidates (B, P, …) of each image."""
    highest, index = masked(fitness).max(1, keepdim=True)
    return Best(gather(candidates, index).squeeze(1).float(), highest.squeeze(1))


def masked(fitness: Tensor) -> Tensor:
    """`fitness` with NaN and +inf as −inf: torch ranks NaN first, so it must never reach a ranking."""
    return fitness.nan_to_num(-torch.inf, -torch.inf, -torch.inf)


@functools.lru_cache(maxsize=64)
def _mean_matrix(size: int, passes: int, device: torch.device) -> Tensor:
    ones = torch.ones(size, size, dtype=torch.float64, device="cpu")
    once = ones.tril(1).triu(-1) / 3
    return torch.linalg.matrix_power(once, passes).to(device)
