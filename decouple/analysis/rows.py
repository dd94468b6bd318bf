"""What every measure asks of representations."""

from __future__ import annotations

import torch
from torch import Tensor

from decouple.errors import NotFiniteError


def flat_rows(values: Tensor, name: str) -> Tensor:
    """(N, …) as (N, D), at least float32.

    Raises:
        ValueError: no samples or no features.
        NotFiniteError: NaN or infinity; names the row.
    """
    if values.dim() < 2 or values.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(values.shape)}: expected (N, …) with N > 0 samples and some features")
    flat = values.flatten(1)
    flat = flat if flat.dtype == torch.float64 else flat.float()
    if not bool(torch.isfinite(flat).all()):
        row = int(torch.isfinite(flat).all(1).logical_not().nonzero()[0])
        raise NotFiniteError(f"{name}: row {row} holds NaN or infinity")
    return flat


def same_samples(a: Tensor, b: Tensor) -> None:
    """Raises ValueError unless both have as many rows."""
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} samples and b {len(b)}: expected the same samples, in the same order")
