"""How alike the predictions of two models are."""

from __future__ import annotations

from torch import Tensor


def disagreement(a: Tensor, b: Tensor) -> Tensor:
    """Share of samples for which the predicted classes (N,) and (N,) differ: a scalar, 0 … 1, float64.

    >>> import torch
    >>> float(disagreement(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])))
    0.25

    Raises:
        ValueError: not (N,) twice, no samples, or floats: classes are expected, not logits.
    """
    if a.shape != b.shape or a.dim() != 1 or not len(a):
        raise ValueError(f"predictions have shapes {tuple(a.shape)} and {tuple(b.shape)}: expected (N,) twice, N > 0")
    if a.is_floating_point() or b.is_floating_point():
        raise ValueError(f"predictions hold {a.dtype} and {b.dtype}: expected classes, integers; take argmax(1) of logits")
    return (a != b).double().mean()
