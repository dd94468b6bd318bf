"""How good and how well calibrated the probabilities of an ensemble are."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15
"""Of the calibration error, as in Guo et al. (2017)."""


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


def _check(probabilities: Tensor, labels: Tensor) -> None:
    if probabilities.dim() != 2 or probabilities.shape[:1] != labels.shape or not len(labels):
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)} and labels {tuple(labels.shape)} do not fit: expected (N, C) and (N,)"
        )
    if not bool(((probabilities >= 0) & (probabilities <= 1 + 1e-3)).all()):
        raise ValueError("probabilities holds values outside of 0..1: give softmax outputs, not logits")
