"""How good and how honest the probabilities of an ensemble are, and how sure a difference is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from decouple.seeds import generator

BINS = 15
"""Of the calibration error, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap interval."""

    mean: float
    low: float
    high: float


def calibration_error(probabilities: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Expected calibration error: by confidence bin, |accuracy − mean confidence|, weighted by its share (torchmetrics).

    Source: Guo et al., "On calibration of modern neural networks" (2017).

    >>> calibration_error(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1]))
    0.3

    Args:
        probabilities: (N, C), rows that sum to 1.
        labels: (N,) int64.
        bins: of equal width on 0..1.
    """
    _check(probabilities, labels)
    # Takes seconds to import, and is needed once a run. It imports matplotlib, which needs what comes first.
    from decouple import _backend  # noqa: F401

    # isort: split
    from torchmetrics.functional.classification import multiclass_calibration_error

    classes = probabilities.shape[1]
    # Sums may round above 1, which would be taken for logits.
    found = multiclass_calibration_error(probabilities.double().clamp(0, 1), labels, num_classes=classes, n_bins=bins)
    return round(float(found), 6)


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Mean over examples of Σ_c (p_c − [c is the truth])²: 0 (sure and right) to 2 (sure and wrong).

    >>> brier_score(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([1, 0]))
    1.25

    Args:
        probabilities: (N, C).
        labels: (N,) int64.
    """
    _check(probabilities, labels)
    truth = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    return float((probabilities.double() - truth).square().sum(1).mean())


def bootstrap_mean(values: Tensor, *, seed: int, confidence: float = 0.95, draws: int = 2000) -> Interval:
    """The mean of paired differences, with the percentile interval over resampled examples.

    It says how far another test set could move the mean; not what other seeds of the training would do.

    >>> bootstrap_mean(torch.full((10,), 0.5), seed=0)
    Interval(mean=0.5, low=0.5, high=0.5)

    Args:
        values: (N,), one an example.
        seed: of the resampling.
        confidence: of the interval, above 0 and below 1.
        draws: resamplings, at least 1.

    Raises:
        ValueError: no values, or an argument out of its range.
    """
    if values.dim() != 1 or not len(values):
        raise ValueError(f"values have shape {tuple(values.shape)}: expected (N,), N > 0")
    if not 0 < confidence < 1 or draws < 1:
        raise ValueError(f"confidence = {confidence}, draws = {draws}: expected 0 < confidence < 1 and at least 1 draw")
    values, stream = values.double().cpu(), generator(seed, "bootstrap")
    means = torch.stack([values[torch.randint(len(values), (len(values),), generator=stream)].mean() for _ in range(draws)])
    low, high = means.quantile(torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)).tolist()
    return Interval(float(values.mean()), low, high)


def _check(probabilities: Tensor, labels: Tensor) -> None:
    if probabilities.dim() != 2 or probabilities.shape[:1] != labels.shape or not len(labels):
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)} and labels {tuple(labels.shape)} do not fit: expected (N, C) and (N,)"
        )
    if not bool(((probabilities >= 0) & (probabilities <= 1 + 1e-3)).all()):
        raise ValueError("probabilities holds values outside of 0..1: give softmax outputs, not logits")
