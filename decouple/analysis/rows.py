"""Checks and scaling that all measures of representations (N, …) share."""

from __future__ import annotations

import math
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from decouple.errors import NotFiniteError
from decouple.tensors import as_tensor

BLOCK = 1024
"""Rows, or features, that are worked on at a time."""

_SAFE = {torch.float32: 2.0**40, torch.float64: 2.0**400}
"""Up to this, and down to its inverse, sums of squares stay well within a type."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def working_type(values: Tensor) -> torch.dtype:
    """float64 for float64, else float32."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def floats(values: Any, name: str) -> Tensor:
    """A tensor or array as a tensor of floats. Raises ValueError: it holds no real numbers."""
    values = as_tensor(values, name)
    if values.is_complex():
        raise ValueError(f"{name} hold {values.dtype}: expected real numbers")
    return values if values.is_floating_point() else values.double()


def flat_rows(values: Any, name: str) -> tuple[Tensor, Tensor]:
    """(N, …) as rows (N, D), in their own type and not copied, and the largest magnitude (N, 1) of each in the working type.

    Raises:
        ValueError: no tensor or array; complex or boolean values, no samples or no features.
        NotFiniteError: NaN or infinity; names the row.
    """
    values = as_tensor(values, name)
    if values.dim() < 2 or values.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(values.shape)}: expected (N, …) with N > 0 samples and some features")
    if values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} holds {values.dtype}: expected real numbers")
    rows, dtype = values.flatten(1), working_type(values)
    largest = torch.cat([part.to(dtype).abs().amax(1, keepdim=True) for part in rows.split(BLOCK)])
    wrong = ~torch.isfinite(largest[:, 0])
    if bool(wrong.any()):
        raise NotFiniteError(f"{name}: row {int(wrong.nonzero()[0])} holds NaN, infinity or -infinity")
    return rows, largest


def with_direction(values: Any, name: str) -> tuple[Tensor, Tensor]:
    """(N, …) as rows (N, D), and the length (N, 1) of each in the working type, for rows whose cosine is asked for.

    Where there are numbers too large or too small to be squared, the rows are copies that are scaled, each by itself.

    Raises:
        ValueError: as `flat_rows`, or a row of zeros; names the row.
        NotFiniteError: as `flat_rows`.
    """
    rows, largest = flat_rows(values, name)
    zero = largest[:, 0] == 0
    if bool(zero.any()):
        raise ValueError(f"{name}: row {int(zero.nonzero()[0])} is all zeros: its cosine is undefined")
    if not (_is_safe(float(largest.min()), largest.dtype) and _is_safe(float(largest.max()), largest.dtype)):
        rows = (rows.double() / largest.double()).to(largest.dtype)
    # float64: the sum of any number of squares fits.
    lengths = [torch.linalg.vector_norm(part.to(torch.float64), dim=1, keepdim=True) for part in rows.split(BLOCK)]
    return rows, torch.cat(lengths).to(largest.dtype)


def unit_rows(values: Any, name: str) -> Tensor:
    """(N, …) as (N, D) rows of length 1, in the working type. Raises as `with_direction`."""
    rows, lengths = with_direction(values, name)
    return rows.to(lengths.dtype) / lengths


def scaled_rows(values: Any, name: str) -> Tensor:
    """(N, …) as (N, D), times a power of two that brings numbers too large or too small to be squared near 1.

    In float64, unless that would take more than half a gigabyte; then in the working type. Raises as `flat_rows`.
    """
    rows, largest = flat_rows(values, name)
    rows, most = rows.to(torch.float64 if rows.numel() <= 2**26 else largest.dtype), float(largest.max())
    if most == 0 or _is_safe(most, rows.dtype):
        return rows
    limit = 1000 if rows.dtype == torch.float64 else 120  # the inverse of the smallest numbers is beyond their type
    return rows * 2.0 ** min(max(-math.frexp(most)[1], -limit), limit)


def _is_safe(magnitude: float, dtype: torch.dtype) -> bool:
    return 1 / _SAFE[dtype] <= magnitude <= _SAFE[dtype]


def centred_rows(values: Any, name: str) -> Tensor:
    """(N, …) as (N, D) with the mean of each feature subtracted, and the whole brought to Frobenius norm 1.

    In the type of `scaled_rows`, with means in float64.

    Raises:
        ValueError: as `flat_rows`, or activations that are the same for every sample.
        NotFiniteError: as `flat_rows`.
    """
    rows = scaled_rows(values, name)
    largest = rows.abs().amax(0)
    rows = rows - rows.mean(0, dtype=torch.float64).to(rows.dtype)
    left = rows.abs().amax(0)
    # Rounding of the mean leaves this much of equal values, which is nothing, but may be more than other features vary.
    same = left <= 32 * torch.finfo(rows.dtype).eps * largest
    if bool(same.all()):
        raise ValueError(f"{name}: the activations are the same for every sample: nothing is left after centring")
    if bool((same & (left > 0)).any()):
        rows = rows.masked_fill(same, 0)
    return rows / rows.norm()


def same_samples(a: Tensor, b: Tensor) -> None:
    """Raises ValueError unless both are (N, …), with as many rows, on one device."""
    if min(a.dim(), b.dim()) < 2 or len(a) != len(b):
        raise ValueError(
            f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}: expected (N, …) twice, the same N samples in the same order"
        )
    same_device(a, b)


def same_device(a: Tensor, b: Tensor) -> None:
    """Raises ValueError unless both are on one device."""
    if a.device != b.device:
        raise ValueError(f"a is on {a.device} and b on {b.device}: expected one device")


def classes_of(labels: Any, name: str, device: torch.device) -> Tensor:
    """Labels of any integer type as int64, on a device; of other types as they are, for a measure to refuse."""
    labels = as_tensor(labels, name).to(device)
    return labels if labels.is_floating_point() or labels.is_complex() else labels.long()
