"""A search that could only give targets of chance is refused; numbers of any type find the same targets again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from decouple.config import EsConfig, NetworkConfig, SearchConfig
from decouple.data import ImageData, Split
from decouple.errors import ConfigError, DecoupleError, NetworkError, NotFiniteError
from decouple.networks import Stages, paper_network
from decouple.search import (
    BatchResult,
    EvolutionStrategy,
    Execution,
    Judge,
    search_solution,
    search_solutions,
    shards,
    solutions,
)
from decouple.search.engine import search_batches

CONFIG = SearchConfig(batch=36, es=EsConfig(population=4, generations=2))


def _network(*between: nn.Module) -> Stages:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), *between, nn.Linear(8, 3)]
    return Stages.from_sequential(nn.Sequential(*layers), [len(layers) - 2, len(layers) - 1])


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_a_head_that_begins_with_zeros_is_refused(data: ImageData, tmp_path: Path, bias: float) -> None:
    network = _network()
    nn.init.zeros_(network.stages[1][0].weight)
    nn.init.constant_(network.stages[1][0].bias, bias)
    with pytest.raises(NetworkError, match=r"logits do not depend on the values at '2' \(are later weights all zero"):
        search_solution(network, data.train, tmp_path, config=CONFIG)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_numbers_of_any_type_name_the_same_search(data: ImageData, tmp_path: Path) -> None:
    everywhere = torch.arange(len(data.train))
    wanted = search_solution(_network(), data.train, tmp_path / "a", config=CONFIG, seed=3, solution=1).rows(everywhere)
    for kind in (np.int64, np.uint8, torch.tensor):
        told: list[tuple[object, ...]] = []
        found = search_solution(
            _network(),
            data.train,
            tmp_path / "a",
            config=CONFIG,
            seed=kind(3),
            solution=kind(1),
            execution=Execution(kind(1), logger=SimpleNamespace(log=lambda *entry: told.append(entry))),  # noqa: B023
        )
        assert told == []
        assert all(torch.equal(one, other) for one, other in zip(found.rows(everywhere), wanted, strict=True))
    assert len(list((tmp_path / "a").iterdir())) == 1, "they are found again, and not searched again elsewhere"
    apart = search_solutions(_network(), data.train, tmp_path / "b", config=CONFIG, seed=3, solutions=np.arange(1, 2))
    assert all(torch.equal(one, other) for one, other in zip(apart[0].rows(everywhere), wanted, strict=True))


@pytest.mark.parametrize("changes", [{"seed": 1.5}, {"solution": "1"}])
def test_numbers_that_are_not_whole_are_refused(data: ImageData, tmp_path: Path, changes: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} must be a whole number, not "):
        search_solution(_network(), data.train, tmp_path, config=CONFIG, **changes)
    with pytest.raises(ConfigError, match=r"workers must be a whole number, not 2\.0"):
        Execution(2.0)  # type: ignore[arg-type]


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.factor


def test_a_target_beyond_the_stored_type_is_refused_and_a_wider_type_keeps_it(data: ImageData, tmp_path: Path) -> None:
    own = EsConfig(population=4, generations=2, moments="own")
    network = _network(_Times(2.0**20))
    network.stages[1] = nn.Sequential(_Times(2.0**-20), *network.stages[1])
    with pytest.raises(
        NotFiniteError, match=r"a target of .*e\+0. is too large to be kept as float16; search with dtype = bfloat16"
    ):
        search_solution(network, data.train, tmp_path, config=SearchConfig(batch=36, es=own))
    wide = SearchConfig(batch=36, dtype="float32", es=own)
    found = search_solution(network, data.train, tmp_path, config=wide).rows(torch.arange(72))
    plain = search_solution(_network(_Times(1.0)), data.train, tmp_path, config=wide).rows(torch.arange(72))
    assert torch.allclose(found[0] / 2**20, plain[0], rtol=1e-3, atol=1e-3)


def test_where_nothing_moves_from_zero_the_displacement_is_zero(data: ImageData, tmp_path: Path) -> None:
    class Dead(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.where(torch.arange(len(values)).unsqueeze(1) % 2 == 0, values, 0.0)

    found = search_solution(_network(Dead()), data.train, tmp_path, config=CONFIG).diagnostics()["displacement"]
    assert torch.isfinite(found).all()
    assert (found[0, 1::2] == 0).all()
    assert (found[0, ::2] > 0).any()


def test_a_shard_of_one_image_is_refused_where_the_network_takes_none(data: ImageData, tmp_path: Path) -> None:
    network, split = _network(nn.BatchNorm1d(8)), data.train.subset(range(3))
    config = SearchConfig(batch=2, es=CONFIG.es)
    with pytest.raises(DecoupleError, match="split has 3 images, and so a batch of a single one"):
        search_solution(network, split, tmp_path, config=config)
    assert len(search_solution(_network(), split, tmp_path, config=config)) == 3


@pytest.mark.parametrize("statistics", ["batch", "frozen"])
def test_statistics_are_float32_whatever_the_default_is(data: ImageData, tmp_path: Path, statistics: str) -> None:
    config = SearchConfig(batch=36, statistics=statistics, es=CONFIG.es)  # type: ignore[arg-type]
    network, everywhere = paper_network(data.train.images, 3, NetworkConfig(width=4), groups=1, seed=0), torch.arange(72)
    wanted = search_solution(network, data.train, tmp_path / "a", config=config).rows(everywhere)
    torch.set_default_dtype(torch.float64)
    try:
        found = search_solution(network, data.train, tmp_path / "b", config=config).rows(everywhere)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_batches_that_were_searched_together_are_again_so_that_one_which_was_lost_comes_back_to_the_bit(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, batch=9)
    sizes: list[list[int]] = []

    def noted(judge: Judge, batches: list[Any], *args: Any, **options: Any) -> list[BatchResult]:
        sizes.append([len(images) for images, _ in batches])
        return search_batches(judge, batches, *args, **options)

    monkeypatch.setattr(solutions, "JOINED", 3 * 9 * 5 * 8)  # three batches of 9 images, 5 candidates and 8 values
    monkeypatch.setattr(shards, "search_batches", noted)
    store = search_solution(_network(), data.train, tmp_path, config=config, identity="x")
    before = {shard.path: shard.path.read_bytes() for shard in store.shards}
    assert sizes == [[9, 9, 9], [9, 9, 9], [9, 9]]
    sizes.clear()
    store.shards[4].path.unlink()
    steps: list[int] = []
    execution = Execution(logger=SimpleNamespace(log=lambda stage, unit, step, values: steps.append(step)))
    search_solution(_network(), data.train, tmp_path, config=config, identity="x", execution=execution)
    assert sizes == [[9, 9, 9]]
    assert steps == [36, 45, 54], "all that were searched together"
    assert {path: path.read_bytes() for path in before} == before
    for alone in (
        replace(config, target=0.9),
        replace(config, es=replace(config.es, noise="image")),
        replace(config, algorithm="paper"),
    ):
        sizes.clear()
        search_solution(_network(), data.train, tmp_path, config=alone, identity=repr(alone))
        assert sizes == [[9]] * 8


class _Body(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor], factor: float) -> None:
        super().__init__()
        self.act, self.factor = act, factor
        self.hidden, self.out = nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.factor * self.act(self.hidden(images.flatten(1))))


def test_what_a_network_computes_names_its_search() -> None:
    def name(act: Callable[[Tensor], Tensor], factor: float = 1.0, *, cut: bool = True) -> str:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            body = _Body(act, factor)
        network = Stages.from_module(body, ["hidden", "out"]) if cut else Stages([nn.Flatten(), body], ["flat", "out"])
        split = Split(torch.zeros(4, 1, 8, 8), torch.arange(4) % 3, torch.arange(4))
        one = solutions._identity(solutions._searched(network, split), CONFIG, EvolutionStrategy(), torch.float32, own=True)
        network.eval()
        assert (
            solutions._identity(solutions._searched(network, split), CONFIG, EvolutionStrategy(), torch.float32, own=True)
            == one
        )
        return one

    for cut in (True, False):
        found = [name(torch.relu, cut=cut), name(torch.tanh, cut=cut), name(torch.relu, 3.0, cut=cut)]
        found += [name(lambda values: values * 2, cut=cut), name(lambda values: values * 3, cut=cut)]
        assert len(set(found)) == len(found)
        assert name(torch.relu, cut=cut) == found[0]


class _Step(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return (values > 0).float()


def test_a_network_without_a_gradient_can_be_searched(data: ImageData, tmp_path: Path) -> None:
    network = _network(nn.Linear(8, 8))
    head = Stages([network.stages[0], nn.Sequential(nn.Linear(8, 16), _Step(), nn.Linear(16, 3))], ["hidden", "out"])
    found = search_solution(head, data.train, tmp_path, config=CONFIG).diagnostics()
    assert not found["cosine"][0].any()
    with pytest.raises(NetworkError, match="no gradient behind 'hidden'"):
        search_solution(head, data.train, tmp_path, config=replace(CONFIG, algorithm="gradient"))


class _Fixed(nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values.float())


def test_a_network_that_fixes_a_type_says_so(data: ImageData, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"cannot be computed in bfloat16 .* give precision float32"):
        search_solution(_network(_Fixed(8, 8)), data.train, tmp_path, config=CONFIG, dtype=torch.bfloat16)
