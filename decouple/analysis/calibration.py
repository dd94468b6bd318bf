"""How good and how well calibrated probabilities of classes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from decouple.analysis.rows import classes_of, floats
from decouple.results import Reliability
from decouple.tensors import whole_number

BINS = 15
"""Of the calibration error, as in Guo et al. (2017)."""
SHOWN = 5
"""Confusions that are listed."""


def p_truth(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Probability of the true class, by example.

    >>> p_truth(torch.tensor([[0.8, 0.2], [0.4, 0.6]]), torch.tensor([0, 0])).tolist()
    [0.800000011920929, 0.4000000059604645]

    Args:
        probabilities: (…, N, C).
        labels: (N,) integers in 0..C-1.

    Returns:
        (…, N).

    Raises:
        ValueError: shapes that do not fit, or labels that are no classes.
    """
    probabilities, labels = with_classes(probabilities, labels)
    return probabilities[..., torch.arange(len(labels), device=labels.device), labels]


def scores(probabilities: Tensor, labels: Tensor, *, bins: int = BINS) -> dict[str, float]:
    """accuracy, ece and brier, by name: see `Reliability.ece` and `brier_score`.

    Args:
        probabilities: (N, C), rows that sum to 1.
        labels: (N,) integers in 0..C-1.

    Raises:
        ValueError: shapes that do not fit, values that are no probabilities, or labels that are no classes.
    """
    probabilities, labels = checked(probabilities, labels)
    return {
        "accuracy": float((probabilities.argmax(1) == labels).double().mean()),
        "ece": reliability(probabilities, labels, bins=bins).ece,
        "brier": brier_score(probabilities, labels),
    }


def reliability(probabilities: Tensor, labels: Tensor, *, bins: int = BINS) -> Reliability:
    """Accuracy and mean confidence in bins of equal width: bin m of M holds the confidences in ((m − 1)/M, m/M].

    Source: Guo et al., "On calibration of modern neural networks" (2017), section 2.

    >>> reliability(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1])).ece
    0.3

    Args:
        probabilities: (N, C), rows that sum to 1; the confidence is the largest one.
        labels: (N,) integers in 0..C-1.
        bins: at least 1.

    Raises:
        ValueError: shapes that do not fit, values that are no probabilities, labels that are no classes, or no bins.
    """
    probabilities, labels = checked(probabilities, labels)
    bins = whole_number(bins, "bins", least=1)
    confidence, answers = probabilities.double().clamp(max=1).max(1)
    inner = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)[1:-1]
    places = torch.bucketize(confidence, inner)

    def sums(values: Tensor) -> Tensor:
        return torch.zeros(bins, dtype=torch.float64, device=values.device).scatter_add_(0, places, values)

    counts = sums(torch.ones_like(confidence))
    means = [(sums(values) / counts).nan_to_num() for values in (confidence, (answers == labels).double())]
    return Reliability(tuple(counts.long().tolist()), *(tuple(values.tolist()) for values in means))


def confusion(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(C, C) int64: examples by true class (row) and answer (column).

    >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]

    Args:
        answers: (N,) classes.
        labels: (N,) int64, in 0..classes-1.
    """
    return torch.bincount(labels * classes + answers, minlength=classes**2).view(classes, classes)


def confused(counts: Sequence[Sequence[int]], classes: Sequence[str], most: int) -> list[tuple[str, str, int]]:
    """The most frequent confusions in a table of `confusion`: true class, answer, examples; the most frequent one first.

    >>> confused([[1, 1], [3, 1]], ["ant", "bee"], 5)
    [('bee', 'ant', 3), ('ant', 'bee', 1)]
    """
    pairs = [
        (truth, answer, count)
        for truth, row in zip(classes, counts, strict=True)
        for answer, count in zip(classes, row, strict=True)
        if count and truth != answer
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Mean over examples of Σ_c (p_c − [c is the truth])²: 0 (sure and right) to 2 (sure and wrong).

    >>> brier_score(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([1, 0]))
    1.25

    Args:
        probabilities: (N, C).
        labels: (N,) integers in 0..C-1.

    Raises:
        ValueError: shapes that do not fit, values that are no probabilities, or labels that are no classes.
    """
    probabilities, labels = checked(probabilities, labels)
    truth = functional.one_hot(labels, probabilities.shape[1])
    return float((probabilities.double() - truth).square().sum(1).mean())


def checked(probabilities: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) as floats, and labels (N,) as int64, from tensors or arrays. Raises ValueError: shapes that do not fit,
    values that are no probabilities, or labels that are no classes."""
    probabilities, labels = with_classes(probabilities, labels)
    if probabilities.dim() != 2 or not len(labels):
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)} and labels {tuple(labels.shape)} do not fit: expected (N, C) and (N,)"
        )
    if not bool(((probabilities >= 0) & (probabilities <= 1 + 1e-3)).all()):
        raise ValueError("probabilities holds values outside of 0..1, or NaN: give softmax outputs, not logits")
    return probabilities, labels


def with_classes(values: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """(…, N, C) as floats, and labels (N,) as int64, from tensors or arrays. Raises ValueError: shapes that do not fit, or labels
    that are not in 0..C-1."""
    values = floats(values, "probabilities")
    labels = classes_of(labels, "labels", values.device)
    if values.dim() < 2 or labels.shape != values.shape[-2:-1]:
        raise ValueError(
            f"probabilities {tuple(values.shape)} and labels {tuple(labels.shape)} do not fit: expected (N, C) and (N,)"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels hold {labels.dtype}: expected integers")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < values.shape[-1]:
        raise ValueError(
            f"labels go from {int(labels.min())} to {int(labels.max())}: expected 0 to C − 1 = {values.shape[-1] - 1}"
        )
    return values, labels
