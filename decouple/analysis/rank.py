"""How many dimensions representations fill."""

from __future__ import annotations

import torch
from torch import Tensor

from decouple.analysis.rows import scaled_rows
from decouple.torch_state import autocast_off


@autocast_off()
def effective_rank(reps: Tensor) -> Tensor:
    """exp of Shannon's entropy of the singular values σ_i/Σσ of (N, …): a scalar, 1 … min(N, D).

    The rows are taken as they are; subtract the mean first if a direction that all samples share should not count.
    Source: Roy and Vetterli, "The effective rank: a measure of effective dimensionality" (2007).

    >>> round(float(effective_rank(torch.eye(3))), 6)
    3.0

    Args:
        reps: (N, …). The cost is that of the singular values: N·D·min(N, D).

    Returns:
        float64.

    Raises:
        ValueError: nothing but zeros, no samples or no features.
        NotFiniteError: NaN or infinity; names the row.
    """
    rows = scaled_rows(reps, "reps")
    if not bool(rows.any()):
        raise ValueError("reps holds nothing but zeros: its rank is undefined")
    values = torch.linalg.svdvals(rows.double())
    share = values / values.sum()
    return torch.special.entr(share).sum().exp()
