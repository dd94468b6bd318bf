"""How near two sets of representations of the same samples are."""

from __future__ import annotations

import torch
from torch import Tensor

from decouple.analysis.rows import flat_rows, same_samples


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 − cosine of the flattened rows: (N, …) × (N, …) → (N,), 0 … 2.

    >>> cosine_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])).tolist()
    [1.0]

    Raises:
        ValueError: other shapes, a value that is not finite, or a row of zeros.
    """
    a, b = flat_rows(a, "a"), flat_rows(b, "b")
    same_samples(a, b)
    if a.shape != b.shape:
        raise ValueError(f"a has {a.shape[1]} features a row and b {b.shape[1]}: expected the same")
    norms = a.norm(dim=1) * b.norm(dim=1)
    if bool((norms == 0).any()):
        raise ValueError(f"row {int((norms == 0).nonzero()[0])} is all zeros: its cosine is undefined")
    return 1 - (a * b).sum(1) / norms


def linear_cka(a: Tensor, b: Tensor) -> Tensor:
    """Linear centred kernel alignment of (N, …) and (N, …) in other spaces: a scalar, 0 … 1; 1 for equal up to rotation
    and scale. Source: Kornblith et al., "Similarity of neural network representations revisited" (2019), eq. 4.

    Raises:
        ValueError: fewer than 4 samples, other sample counts, or activations that do not vary.
    """
    a, b = flat_rows(a, "a").double(), flat_rows(b, "b").double()
    same_samples(a, b)
    if len(a) < 4:
        raise ValueError(f"{len(a)} samples are too few for CKA: at least 4 are needed")
    a, b = a - a.mean(0), b - b.mean(0)
    if float(a.abs().max()) == 0 or float(b.abs().max()) == 0:
        raise ValueError("the activations are the same for every sample: CKA is undefined")
    if len(a) <= max(a.shape[1], b.shape[1]):
        gram_a, gram_b = a @ a.T, b @ b.T
        return (gram_a * gram_b).sum() / (gram_a.norm() * gram_b.norm())
    return (a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm())


def disagreement(a: Tensor, b: Tensor) -> Tensor:
    """Share of samples for which the predicted classes (N,) and (N,) differ."""
    if a.shape != b.shape or a.dim() != 1 or not len(a):
        raise ValueError(f"predictions have shapes {tuple(a.shape)} and {tuple(b.shape)}: expected (N,) twice, N > 0")
    return (a != b).double().mean()
