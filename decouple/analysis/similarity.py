"""How near two sets of representations of the same samples are."""

from __future__ import annotations

from torch import Tensor

from decouple.analysis.rows import same_device, unit_rows
from decouple.tensors import as_tensor
from decouple.torch_state import autocast_off


@autocast_off()
def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 − cosine of the flattened rows: (N, …) × (N, …) → (N,), 0 … 2.

    Computed as ½‖â − b̂‖², which is the same and loses nothing where the two are almost equal.

    >>> import torch
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
