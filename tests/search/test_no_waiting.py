"""A search batch on a GPU waits for nothing before its end: shown with tensors that have no values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from decouple.config import EsConfig, PaperConfig
from decouple.data import ImageData
from decouple.networks import Stages
from decouple.search import Algorithm, EvolutionStrategy, Judge, PaperSearch, engine
from decouple.search.random_search import RandomSearch
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
    patch.setattr(engine, "_joined", lambda found, points: found)
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


class _Asking(EvolutionStrategy):
    def tell(self, state: Any, candidates: Tensor, fitness: Tensor) -> Any:
        if fitness.isfinite().all():
            return super().tell(state, candidates, fitness)
        return state


def test_the_test_above_sees_what_waits(network: Stages, data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataDependentOutputException):
        _search(monkeypatch, network, data, _Asking(ES), "batch")
