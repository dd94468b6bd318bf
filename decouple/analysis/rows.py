"""What every measure asks of representations (N, …): finite rows that can be compared."""

from __future__ import annotations

import torch
from torch import Tensor

from decouple.errors import NotFiniteError

BLOCK = 1024
"""Rows, or features, that are worked on at a time."""


def working_type(values: Tensor) -> torch.dtype:
    """float64 for float64, else float32."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def flat_rows(values: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """(N, …) as rows (N, D), in their own type and not copied, and the length (N, 1) of each in the working type.

    Raises:
        ValueError: complex or boolean values, no samples or no features.
        NotFiniteError: NaN, infinity, or numbers too large to be squared; names the row.
    """
    if values.dim() < 2 or values.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(values.shape)}: expected (N, …) with N > 0 samples and some features")
    if values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} holds {values.dtype}: expected real numbers")
    rows, dtype = values.flatten(1), working_type(values)
    # float64: the square of any float32 fits.
    lengths = [torch.linalg.vector_norm(part.to(torch.float64), dim=1, keepdim=True) for part in rows.split(BLOCK)]
    found = torch.cat(lengths).to(dtype)
    wrong = ~torch.isfinite(found[:, 0])
    if bool(wrong.any()):
        raise NotFiniteError(f"{name}: row {int(wrong.nonzero()[0])} holds NaN, infinity or numbers too large for {dtype}")
    return rows, found


def with_direction(values: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """As `flat_rows`, for rows whose cosine is asked for.

    Raises:
        ValueError: as `flat_rows`, or a row of zeros; names the row.
        NotFiniteError: as `flat_rows`.
    """
    rows, lengths = flat_rows(values, name)
    zero = lengths[:, 0] == 0
    if bool(zero.any()):
        raise ValueError(f"{name}: row {int(zero.nonzero()[0])} is all zeros: its cosine is undefined")
    return rows, lengths


def unit_rows(values: Tensor, name: str) -> Tensor:
    """(N, …) as (N, D) rows of length 1, in the working type. Raises as `with_direction`."""
    rows, lengths = with_direction(values, name)
    return rows.to(lengths.dtype) / lengths


def centred_rows(values: Tensor, name: str, *, scale: bool = True) -> Tensor:
    """(N, …) as (N, D) with the mean of each feature subtracted, and with `scale` the whole brought to Frobenius norm 1.

    In float64, unless that would take more than half a gigabyte; then in the working type, with means in float64.

    Raises:
        ValueError: as `flat_rows`, or activations that are the same for every sample.
        NotFiniteError: as `flat_rows`.
    """
    rows, lengths = flat_rows(values, name)
    rows = rows.to(torch.float64 if rows.numel() <= 2**26 else lengths.dtype)
    largest = float(rows.abs().max())
    rows = rows - rows.mean(0, dtype=torch.float64).to(rows.dtype)
    # Rounding of the mean leaves this much of equal values.
    if float(rows.abs().max()) <= 32 * torch.finfo(rows.dtype).eps * largest:
        raise ValueError(f"{name}: the activations are the same for every sample: nothing is left after centring")
    return rows / rows.norm() if scale else rows


def same_samples(a: Tensor, b: Tensor) -> None:
    """Raises ValueError unless both are (N, …), with as many rows."""
    if min(a.dim(), b.dim()) < 2 or len(a) != len(b):
        raise ValueError(
            f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}: expected (N, …) twice, the same N samples in the same order"
        )
