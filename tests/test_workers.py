"""What a worker does, called here without Ray."""

import torch

from decouple import workers


def _computed(shared: float, device: str, power: int) -> torch.Tensor:
    return torch.full((1,), shared, device=device) ** power


def test_a_worker_computes_in_the_callers_default_type() -> None:
    for dtype in (torch.float64, torch.float32):
        (found,) = workers._work(_computed, 3.0, "cpu", (2,), 1, dtype, workers._versions())
        assert (found.dtype, found.tolist()) == (dtype, [9.0])
