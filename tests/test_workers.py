"""What a worker does, called here without Ray."""

import sys

import pytest
import torch

from decouple import workers


def _computed(shared: float, device: str, power: int) -> torch.Tensor:
    return torch.full((1,), shared, device=device) ** power


def test_a_worker_computes_in_the_callers_default_type() -> None:
    for dtype in (torch.float64, torch.float32):
        (found,) = workers._work(_computed, 3.0, "cpu", (2,), 1, dtype, workers._versions(), sys.argv)
        assert (found.dtype, found.tolist()) == (dtype, [9.0])


def test_one_worker_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_ray", lambda *_: pytest.fail("Ray was started"))
    kept: list[float] = []

    def job(power: int) -> workers.Job:
        def keep(found: torch.Tensor) -> list[workers.Job]:
            kept.append(found.item())
            return [job(power + 2)] if power < 3 else []

        return workers.Job("powers", lambda: (power,), keep)

    limits = {"address": None, "result_bytes": 0, "mend": ""}
    workers.distribute(_computed, 3.0, [job(1), job(2)], device="cpu", workers=1, **limits)  # type: ignore[arg-type]
    assert kept == [3, 9, 27, 81], "those that can be done after others too"
    workers.distribute(_computed, 3.0, [], device="cpu", workers=2, **limits)  # type: ignore[arg-type]
