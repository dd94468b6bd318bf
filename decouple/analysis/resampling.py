"""Intervals over samples, for figures that are no plain mean: half-samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from decouple.tensors import as_tensor


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def half_samples(count: int, draws: int, generator: torch.Generator) -> Tensor:
    """(draws, ⌈count/2⌉) positions of half of `count` samples each, drawn without replacement.

    A bootstrap that draws as many samples as there are holds some of them twice, and a similarity of samples takes the two
    copies for a striking likeness. Half of the samples, each once, have the same variance about the whole as a bootstrap
    (σ²/n, of a mean) and no copies. Source: Efron, "The jackknife, the bootstrap and other resampling plans" (1982), ch. 8.

    Raises:
        ValueError: fewer than 2 samples, or no draws.
    """
    if count < 2 or draws < 1:
        raise ValueError(
            f"{draws} half-samples of {count} samples are asked for: expected at least 1, and at least 2 samples"
        )
    return torch.rand(draws, count, generator=generator, device=generator.device, dtype=torch.float32).argsort(1)[
        :, : -(-count // 2)
    ]


def interval(value: float, drawn: Tensor, *, coverage: float = 0.95) -> Interval:
    """`value` with the interval that resampling gives: the quantiles of the draws, moved to be about it.

    >>> [round(bound, 3) for bound in interval(1.0, torch.arange(101) / 100)]
    [1.0, 0.525, 1.475]

    Args:
        value: of all samples.
        drawn: (draws,) of each resample; their mean may be elsewhere, for they have fewer samples.
        coverage: share of the draws that lie within.

    Raises:
        ValueError: no draws, or a coverage that is no share.
    """
    if not len(drawn) or not 0 < coverage < 1:
        raise ValueError(f"{len(drawn)} draws and coverage {coverage}: expected at least one draw, and 0 < coverage < 1")
    drawn = as_tensor(drawn, "drawn").double()
    tail = (1 - coverage) / 2
    low, high = (drawn - drawn.mean()).quantile(drawn.new_tensor([tail, 1 - tail])).tolist()
    return Interval(value, value + low, value + high)
