"""How near two sets of representations of the same samples are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from decouple.analysis.rows import centred_rows, same_device, same_samples, unit_rows
from decouple.tensors import as_tensor
from decouple.torch_state import autocast_off


@autocast_off()
def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 − cosine of the flattened rows: (N, …) × (N, …) → (N,), 0 … 2.

    Computed as ½‖â − b̂‖², which is the same and loses nothing where the two are almost equal.

    >>> cosine_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])).tolist()
    [1.0]

    Raises:
        ValueError: other shapes, or a row of zeros.
        NotFiniteError: NaN or infinity; names the row.
    """
    a, b = as_tensor(a, "a"), as_tensor(b, "b")
    if a.shape != b.shape:
        raise ValueError(f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}: expected (N, …) twice, the same")
    same_device(a, b)
    return 0.5 * (unit_rows(a, "a") - unit_rows(b, "b")).square().sum(1)


@autocast_off()
def procrustes_distance(a: Tensor, b: Tensor) -> Tensor:
    """Angle between (N, …) and (N, …) after the best rotation of one onto the other: a scalar, 0 … π/2 radians.

    θ = arccos ‖AᵀB‖_* of the rows, centred and scaled to Frobenius norm 1; where the features differ in number, the
    fewer are padded with zeros. It is a metric on representations up to rotation and scale. Source: Williams et al.,
    "Generalized shape metrics on neural representations" (2021). Computed as 2·arcsin(½‖A − BQ‖), Q the best rotation,
    which is the same and loses nothing near 0.

    >>> a = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    >>> round(float(procrustes_distance(a, -2 * a.flip(1) + 1)), 6)
    0.0

    Args:
        a: (N, …), N ≥ 2.
        b: (N, …), the same samples in the same order. The cost grows with min(N, D)³.

    Raises:
        ValueError: other sample counts, or activations that do not vary.
        NotFiniteError: NaN or infinity; names the row.
    """
    a, b = as_tensor(a, "a"), as_tensor(b, "b")
    same_samples(a, b)
    a, b = _in_few_features(centred_rows(a, "a")), _in_few_features(centred_rows(b, "b"))
    features = max(a.shape[1], b.shape[1])
    a, b = (functional.pad(rows, (0, features - rows.shape[1])) for rows in (a, b))
    left, _, right = torch.linalg.svd(b.T @ a)
    residual = a - b @ (left @ right)
    return 2 * (0.5 * residual.norm()).clamp_max(1).arcsin()


def _in_few_features(rows: Tensor) -> Tensor:
    """(N, D) rotated into (N, min(N, D)) without a change of the inner products."""
    return torch.linalg.qr(rows.T, mode="r").R.T if rows.shape[1] > len(rows) else rows
