"""Temperature: one number that makes probabilities as sure as they are right.

A mixture of networks is less sure than its members are and, where data are few, than it is right; its probabilities are
sharpened after they are averaged.

Sources: Guo et al., "On calibration of modern neural networks" (2017); Rahaman and Thiery, "Uncertainty quantification and deep
ensembles" (2021), which fits the temperature of the average.
"""

from __future__ import annotations

import torch
from torch import Tensor

from decouple.analysis.calibration import checked, p_truth
from decouple.analysis.rows import floats

BOUNDS = 1 / 16, 16.0
"""Of the temperature, and so of its inverse."""


def fit_temperature(probabilities: Tensor, labels: Tensor) -> float:
    """Fit the temperature T of temperature scaling: minimise the negative log-likelihood of held-out examples.

    With few examples there are few errors, or none, and the minimum is overconfident. T therefore goes below 1 only as far as it
    would with one more error among the examples, as in Platt's targets. The added error is an average example whose true class is
    the most probable class other than its label.

    Source: Platt, "Probabilistic outputs for support vector machines" (1999), for the further error.

    >>> unsure = torch.tensor([[0.6, 0.4], [0.7, 0.3], [0.4, 0.6]]).repeat(20, 1)
    >>> labels = torch.tensor([0, 0, 1]).repeat(20)
    >>> round(fit_temperature(unsure, labels), 2), round(fit_temperature(unsure[:3], labels[:3]), 2)
    (0.12, 0.55)

    Args:
        probabilities: (N, C), rows that sum to 1.
        labels: (N,) integers in 0..C-1.

    Returns:
        T in 1/16 … 16; below 1 it sharpens.

    Raises:
        ValueError: shapes that do not fit, values that are no probabilities, or labels that are no classes.
    """
    probabilities, labels = checked(probabilities, labels)
    logs = _logs(probabilities).double()
    count, true = len(labels), float(p_truth(logs, labels).mean())
    error = float(logs.scatter(1, labels[:, None], -torch.inf).amax(1).mean())
    fitted, cautious = _best(logs, true), _best(logs, (count * true + error) / (count + 1))
    return sorted((fitted, 1.0, cautious))[1]


def _best(logs: Tensor, true: float) -> float:
    """The T that minimises mean_n log Σ_c exp(logs[n, c]/T) − true/T, which is convex in 1/T."""
    (low, high), inverse = BOUNDS, 1.0
    for _ in range(100):  # Newton's steps, or halves of what is left where one leads out of it
        answers = (inverse * logs).softmax(1)
        means = (answers * logs).sum(1)
        slope = float(means.mean()) - true
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        curvature = float(((answers * logs.square()).sum(1) - means.square()).mean())
        step = inverse - slope / max(curvature, 1e-12)
        step = step if low < step < high else (low + high) / 2
        if abs(step - inverse) < 1e-9:
            break
        inverse = step
    return 1 / inverse


def _logs(probabilities: Tensor) -> Tensor:
    """Their logarithms, that of 0 as that of the smallest number of the type."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def at_end(temperature: float) -> bool:
    """Whether a fitted temperature is the lowest or highest that is tried, so that a better one may lie beyond."""
    return not BOUNDS[0] * 1.01 < temperature < BOUNDS[1] / 1.01


def tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities (…, C) to the power 1/T, divided by their sum; as they are for T = 1.

    >>> tempered(torch.tensor([0.8, 0.2]), 0.5).tolist()
    [0.9411764740943909, 0.05882352963089943]

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: expected a number above 0")
    probabilities = floats(probabilities, "probabilities")
    if temperature == 1:
        return probabilities
    return (_logs(probabilities) / temperature).softmax(-1)
