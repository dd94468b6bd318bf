"""Intervals over samples: by the bootstrap for a mean, by half-samples for what compares samples with each other."""

from __future__ import annotations

import torch
from torch import Tensor

from decouple.analysis.rows import floats
from decouple.results import Interval
from decouple.seeds import generator


def bootstrap_mean(values: Tensor, *, seed: int, coverage: float = 0.95, draws: int = 2000) -> Interval:
    """The mean of (N,) values, such as paired differences, with its percentile interval over resampled examples.

    The interval shows how far another test set could move the mean, not what other seeds of the training would do.

    >>> bootstrap_mean(torch.full((10,), 0.5), seed=0)
    Interval(value=0.5, low=0.5, high=0.5)

    Args:
        values: (N,), one for each example.
        seed: of the resampling.
        coverage: of the interval, above 0 and below 1.
        draws: resamplings, at least 1.

    Raises:
        ValueError: no values, or an argument out of its range.
    """
    values = floats(values, "values")
    if values.dim() != 1 or not len(values):
        raise ValueError(f"values have shape {tuple(values.shape)}: expected (N,), N > 0")
    _check(draws, coverage)
    values, stream = values.double().cpu(), generator(seed, "bootstrap")
    means = torch.stack([values[torch.randint(len(values), (len(values),), generator=stream)].mean() for _ in range(draws)])
    low, high = _quantiles(means, coverage)
    return Interval(value=float(values.mean()), low=low, high=high)


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

    >>> found = interval(1.0, torch.arange(101) / 100)
    >>> round(found.low, 3), round(found.high, 3)
    (0.525, 1.475)

    Args:
        value: of all samples.
        drawn: (draws,) of each resample; their mean may lie elsewhere, since a resample has fewer samples.
        coverage: of the interval, above 0 and below 1.

    Raises:
        ValueError: no draws, or a coverage out of its range.
    """
    drawn = floats(drawn, "drawn").double()
    _check(len(drawn), coverage)
    low, high = _quantiles(drawn - drawn.mean(), coverage)
    return Interval(value=value, low=value + low, high=value + high)


def _check(draws: int, coverage: float) -> None:
    if draws < 1 or not 0 < coverage < 1:
        raise ValueError(f"{draws} draws and coverage {coverage}: expected at least one draw, and 0 < coverage < 1")


def _quantiles(drawn: Tensor, coverage: float) -> list[float]:
    tail = (1 - coverage) / 2
    found: list[float] = drawn.quantile(drawn.new_tensor([tail, 1 - tail])).tolist()
    return found
