"""How alike the predictions of models are, and what an ensemble gains from their differences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from decouple.analysis.rows import classes_of, same_device
from decouple.errors import NotFiniteError
from decouple.tensors import as_tensor
from decouple.torch_state import autocast_off


def disagreement(a: Tensor, b: Tensor) -> Tensor:
    """Share of samples for which the predicted classes (N,) and (N,) differ: a scalar, 0 … 1, float64. 1 − it is the agreement.

    >>> import torch
    >>> float(disagreement(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])))
    0.25

    Raises:
        ValueError: not (N,) twice, no samples, or floats: classes are expected, not logits.
    """
    a, b = _classes(a, b)
    return (a != b).double().mean()


def error_overlap(a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
    """Of the samples that one of two models gets wrong, the share that both do: a scalar, 0 … 1, float64.

    |E_a ∩ E_b| / |E_a ∪ E_b| of the sets of errors (Jaccard's index); 1 where neither errs, for then the sets are equal.
    Independent models overlap too, the more the worse they are: compare pairs of like accuracy.

    >>> import torch
    >>> labels = torch.tensor([0, 0, 0, 0])
    >>> float(error_overlap(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 2, 0, 0]), labels))
    0.5

    Args:
        a: (N,) predicted classes.
        b: (N,) predicted classes.
        labels: (N,) true ones.

    Raises:
        ValueError: not (N,) thrice, no samples, or floats.
    """
    a, b = _classes(a, b)
    a, labels = _classes(a, labels)
    wrong_a, wrong_b = a != labels, b != labels
    either = (wrong_a | wrong_b).double().sum()
    both = (wrong_a & wrong_b).double().sum()
    return both / either if float(either) else torch.ones((), dtype=torch.float64)


class Ambiguity(NamedTuple):
    """What makes an ensemble good: ensemble = members − ambiguity, exactly. Scalars, float64."""

    members: Tensor
    """Mean Brier score of the members, 0 … 2: Σ_c (p_c − y_c)², y the one-hot label."""
    ambiguity: Tensor
    """How far the members are from their mean: mean of Σ_c (p_c − p̄_c)². It does not depend on the labels."""
    ensemble: Tensor
    """Brier score of the mean probabilities p̄."""


@autocast_off()
def ambiguity_decomposition(probabilities: Tensor, labels: Tensor) -> Ambiguity:
    """The Brier score of an ensemble that averages probabilities, as its members' mean score less their ambiguity.

    Source: Krogh and Vedelsby, "Neural network ensembles, cross validation, and active learning" (1995), eq. 6.

    >>> import torch
    >>> probabilities = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> [float(value) for value in ambiguity_decomposition(probabilities, torch.tensor([0]))]
    [1.0, 0.5, 0.5]

    Args:
        probabilities: (M, N, C) of M members, each row summing to 1.
        labels: (N,) in 0 … C−1.

    Raises:
        ValueError: other shapes, labels out of range, or rows that do not sum to 1: logits, say.
        NotFiniteError: NaN or infinity; names the member.
    """
    probabilities = as_tensor(probabilities, "probabilities")
    if probabilities.dim() != 3 or probabilities.numel() == 0:
        raise ValueError(f"probabilities have shape {tuple(probabilities.shape)}: expected (M, N, C), none of them 0")
    _, count, classes = probabilities.shape
    labels = classes_of(labels, "labels", probabilities.device)
    if labels.shape != (count,) or labels.is_floating_point():
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}: expected (N,) = ({count},) integers"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"labels go from {int(labels.min())} to {int(labels.max())}: expected 0 to C − 1 = {classes - 1}")
    values = probabilities.double()
    finite = torch.isfinite(values).flatten(1).all(1)
    if not bool(finite.all()):
        raise NotFiniteError(f"probabilities: member {int((~finite).nonzero()[0])} holds NaN or infinity")
    if float((values.sum(2) - 1).abs().max()) > 1e-2 or float(values.min()) < 0:
        raise ValueError("probabilities do not sum to 1 over the classes: take softmax(-1) of logits")
    mean, truth = values.mean(0), functional.one_hot(labels, classes).double()
    return Ambiguity(
        members=(values - truth).square().sum(2).mean(),
        ambiguity=(values - mean).square().sum(2).mean(),
        ensemble=(mean - truth).square().sum(1).mean(),
    )


def _classes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = as_tensor(a, "predictions"), as_tensor(b, "predictions")
    if a.shape != b.shape or a.dim() != 1 or not len(a):
        raise ValueError(f"predictions have shapes {tuple(a.shape)} and {tuple(b.shape)}: expected (N,) twice, N > 0")
    if a.is_floating_point() or b.is_floating_point():
        raise ValueError(f"predictions hold {a.dtype} and {b.dtype}: expected classes, integers; take argmax(1) of logits")
    same_device(a, b)
    return a, b
