"""A search batch on a GPU waits for nothing before its end: shown with tensors that have no values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from decouple.config import EsConfig, PaperConfig, SearchConfig
from decouple.data import ImageData
from decouple.networks import Stages
from decouple.search import Algorithm, Budget, EvolutionStrategy, Judge, PaperSearch, engine, solutions
from decouple.search.random_search import RandomSearch
from decouple.search.shards import Plan
from tests.fake_cuda import CUDA, fake_cuda, no_waiting

ES = EsConfig(population=6, generations={"blocks": 3, "logits": 2})
ALGORITHMS: dict[str, Algorithm] = {
    "es": EvolutionStrategy(ES),
    "es, noise of its own": EvolutionStrategy(EsConfig(population=6, generations=3, noise="image")),
    "random": RandomSearch(ES),
    "paper": PaperSearch(PaperConfig(population=12, parents=4, explorers=4, generations=2)),
}


def _search(patch: pytest.MonkeyPatch, network: Stages, data: ImageData, algorithm: Algorithm, statistics: str) -> Any:
    """What is read at the end of a batch."""
    patch.setattr(engine, "_results", lambda found, sizes, points: [found])
    images, labels = data.train.images[:8], data.train.labels[:8]
    judge = Judge(network, statistics=statistics, pilot=images)
    patch.setattr("decouple.search.operators.gradient", lambda fitness, values: torch.zeros_like(values))
    with fake_cuda(patch), torch.no_grad():
        judge.network.to(CUDA)
        images, labels = images.to(CUDA), labels.to(CUDA)
        engine.search_batch(judge, images, labels, algorithm, seed=0)  # what is made once and kept may be copied
        with no_waiting():
            return engine.search_batch(judge, images, labels, algorithm, seed=0)


@pytest.mark.parametrize("statistics", ["batch", "frozen"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_batch_waits_for_nothing_before_its_end(
    network: Stages, data: ImageData, monkeypatch: pytest.MonkeyPatch, name: str, statistics: str
) -> None:
    found = _search(monkeypatch, network, data, ALGORITHMS[name], statistics)
    assert [place.target.device for place in found] == [CUDA] * 3
    assert all(place.evaluations > 0 for place in found)


def test_as_many_batches_are_searched_together_as_a_gpu_has_room_for(
    network: Stages, data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SearchConfig(batch=9, es=EsConfig(population=4))
    points, algorithm = engine.search_points(network, data.image_shape), EvolutionStrategy(config.es, shared_seed=0)
    one = 9 * 5 * 8 * 4 * 32  # images, candidates and values of 4 bytes, which may take a 32nd
    for memory, joined in ((7 * one, 7), (one // 2, 1)):
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device, memory=memory: SimpleNamespace(total_memory=memory)
        )
        plan = Plan(Judge(network), (algorithm,), Budget(), torch.float16, "last")
        with fake_cuda(monkeypatch):
            plan.judge.network.to(CUDA)
            assert solutions._joined(plan, config, points) == joined


class _Asking(EvolutionStrategy):
    def tell(self, state: Any, candidates: Tensor, fitness: Tensor) -> Any:
        if fitness.isfinite().all():
            return super().tell(state, candidates, fitness)
        return state


def test_the_test_above_sees_what_waits(network: Stages, data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataDependentOutputException):
        _search(monkeypatch, network, data, _Asking(ES), "batch")
