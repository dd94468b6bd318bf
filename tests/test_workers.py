"""What a worker does, called here without Ray."""

import sys
from typing import Any

import pytest
import torch

from decouple import device as devices, workers
from decouple.errors import ConfigError

PART = workers.WorkerShare(threads=1, memory=0.3, resources={})


def _computed(shared: float, device: str, power: int) -> torch.Tensor:
    return torch.full((1,), shared, device=device) ** power


def test_a_worker_computes_in_the_callers_default_type() -> None:
    for dtype in (torch.float64, torch.float32):
        (found,) = workers._work(_computed, 3.0, "cpu", (2,), PART, dtype, workers._versions(), sys.argv)
        assert (found.dtype, found.tolist()) == (dtype, [9.0])


class _Ray:
    """A cluster with so many GPUs and four cores."""

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus

    def cluster_resources(self) -> dict[str, float]:
        return {"GPU": float(self.gpus)}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 4.0}}]


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("number", [1, 2, 3, 6, 7])
def test_workers_divide_a_gpu_and_its_memory(gpus: int, number: int) -> None:
    part = workers._part(_Ray(gpus), number, "cuda", started=True)
    together = -(-number // gpus)
    assert together <= 1 / part.resources["num_gpus"] < together + 0.01, "all of them run at once"
    assert part.memory == (1.0 if together == 1 else 0.9 / together)


def test_without_a_gpu_there_is_nothing_to_divide() -> None:
    assert workers._part(_Ray(0), 3, "cpu", started=False) == workers.WorkerShare(1, 0.3, {"num_cpus": 1})
    with pytest.raises(ConfigError, match="the Ray cluster has no GPU; give device cpu"):
        workers._part(_Ray(0), 3, "cuda", started=True)


def test_a_worker_keeps_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    monkeypatch.setattr(devices, "_share", 1.0)
    workers._work(lambda shared, device: None, None, "cuda", (), PART, torch.float32, workers._versions(), sys.argv)
    devices.prepare()  # as a run does that the worker carries out
    assert (limits, devices._share) == ([0.3], 0.3)


def test_one_worker_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_ray", lambda *_: pytest.fail("Ray was started"))
    kept: list[float] = []

    def job(power: int) -> workers.Job:
        def keep(found: torch.Tensor) -> list[workers.Job]:
            kept.append(found.item())
            return [job(power + 2)] if power < 3 else []

        return workers.Job("powers", lambda: (power,), keep)

    limits = {"device": "cpu", "result_bytes": 0, "mend": ""}
    workers.distribute(_computed, 3.0, [job(1), job(2)], execution=workers.Execution(), **limits)  # type: ignore[arg-type]
    assert kept == [3, 9, 27, 81], "those that can be done after others too"
    workers.distribute(_computed, 3.0, [], execution=workers.Execution(2), **limits)  # type: ignore[arg-type]
