"""How near two sets of representations of the same samples are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from decouple.analysis.rows import BLOCK, centred_rows, same_samples, unit_rows


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 − cosine of the flattened rows: (N, …) × (N, …) → (N,), 0 … 2.

    Computed as ½‖â − b̂‖², which is the same and loses nothing where the two are almost equal.

    >>> cosine_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])).tolist()
    [1.0]

    Raises:
        ValueError: other shapes, or a row of zeros.
        NotFiniteError: NaN or infinity; names the row.
    """
    if a.shape != b.shape:
        raise ValueError(f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}: expected (N, …) twice, the same")
    return 0.5 * (unit_rows(a, "a") - unit_rows(b, "b")).square().sum(1)


def linear_cka(a: Tensor, b: Tensor, *, block: int = BLOCK) -> Tensor:
    """Linear centred kernel alignment of (N, …) and (N, …): ‖AᵀB‖² / (‖AᵀA‖·‖BᵀB‖) of the centred rows.

    1 for representations that are equal up to rotation and scale. It may be taken from Gram matrices of samples or of
    features; the cheaper of the two is, in blocks, so that no whole N×N or D×D matrix is held. This is the biased
    estimate: with few samples and many features it is high for unrelated representations too. Source: Kornblith et al.,
    "Similarity of neural network representations revisited" (2019), eq. 4.

    >>> a = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    >>> round(float(linear_cka(a, -2 * a.flip(1) + 1)), 6)
    1.0

    Args:
        a: (N, …), N ≥ 4.
        b: (N, …), the same samples in the same order; its features may be others.
        block: rows, or features, of the Gram matrices that are held at a time.

    Returns:
        A scalar, 0 … 1; float64 unless the input is huge.

    Raises:
        ValueError: fewer than 4 samples, other sample counts, or activations that do not vary.
        NotFiniteError: NaN or infinity; names the row.
    """
    same_samples(a, b)
    if len(a) < 4:
        raise ValueError(f"a and b hold N = {len(a)} samples: too few for CKA, give at least 4")
    a, b = centred_rows(a, "a"), centred_rows(b, "b")
    (count, width_a), width_b = a.shape, b.shape[1]
    # Products that each way needs, over N; Gram matrices of samples are symmetric.
    if count * (width_a + width_b) / 2 < width_a**2 + width_a * width_b + width_b**2:
        ab, aa, bb = _by_samples(a, b, block)
    else:
        ab, aa, bb = _by_features(a, b, block), _by_features(a, a, block), _by_features(b, b, block)
    return (ab / (aa * bb).sqrt()).clamp(0, 1)


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
    same_samples(a, b)
    a, b = _in_few_features(centred_rows(a, "a")), _in_few_features(centred_rows(b, "b"))
    features = max(a.shape[1], b.shape[1])
    a, b = (functional.pad(rows, (0, features - rows.shape[1])) for rows in (a, b))
    left, _, right = torch.linalg.svd(b.T @ a)
    residual = a - b @ (left @ right)
    return 2 * (0.5 * residual.norm()).clamp_max(1).arcsin()


def _by_samples(a: Tensor, b: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """‖AᵀB‖², ‖AᵀA‖², ‖BᵀB‖² as sums over N×N Gram matrices: ‖AᵀB‖² = Σ_ij (AAᵀ)_ij (BBᵀ)_ij."""
    sums = a.new_zeros(3)
    for i in range(0, len(a), block):
        for j in range(i, len(a), block):
            gram_a, gram_b = (rows[i : i + block] @ rows[j : j + block].T for rows in (a, b))
            part = torch.stack([(gram_a * gram_b).sum(), gram_a.square().sum(), gram_b.square().sum()])
            sums += part if i == j else 2 * part  # the matrices are symmetric
    ab, aa, bb = sums
    return ab, aa, bb


def _by_features(a: Tensor, b: Tensor, block: int) -> Tensor:
    """‖AᵀB‖² as a sum over the D×D matrix."""
    total = a.new_zeros(())
    for columns in a.split(block, dim=1):
        for others in b.split(block, dim=1):
            total += (columns.T @ others).square().sum()
    return total


def _in_few_features(rows: Tensor) -> Tensor:
    """(N, D) rotated into (N, min(N, D)) without a change of the inner products."""
    return torch.linalg.qr(rows.T, mode="r").R.T if rows.shape[1] > len(rows) else rows
