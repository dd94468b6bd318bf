"""Targets on disk: searched once, read by position, checked."""

import copy
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from decouple.config import EsConfig, SearchConfig
from decouple.data import ImageData, Split
from decouple.errors import ConfigError, DamagedFileError
from decouple.fitness import Candidates, similarity
from decouple.networks import Stages
from decouple.search import EvolutionStrategy, Execution, TargetStore, search_solution, store

CONFIG = SearchConfig(points="all", batch=20, es=EsConfig(population=4, generations=2))


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_rows_come_by_position_from_memory_and_from_disk(
    network: Stages, data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = search_solution(network, data.train, tmp_path, config=CONFIG)
    positions = torch.tensor([71, 0, 18, 17, 40, 0])
    expected = in_memory.rows(positions)
    monkeypatch.setattr(store, "IN_MEMORY_BYTES", 0)
    on_disk = TargetStore(in_memory.shards)
    assert len(in_memory) == len(data.train) == 72
    assert len(in_memory.shards) == 4
    assert torch.equal(in_memory.ids, data.train.ids)
    for a, b in zip(expected, on_disk.rows(positions), strict=True):
        assert a.dtype == torch.float16
        assert torch.equal(a, b)
    whole = in_memory.rows(torch.arange(72))
    assert torch.equal(whole[0][positions], in_memory.rows(positions)[0])
    assert in_memory.nbytes == on_disk.nbytes
    for targets in (in_memory, on_disk):
        size = sum(rows[0].nbytes for rows in expected[1:]) * 72
        taken = targets.rows_on(torch.device("cpu"), size, first=1)
        assert taken is not None
        assert all(torch.equal(a, b) for a, b in zip(expected[1:], taken(positions), strict=True))
        assert targets.rows_on(torch.device("cpu"), size - 1, first=1) is None, "they take more than they may"


def test_a_single_shard_may_stay_on_disk_too(
    network: Stages, data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = search_solution(network, data.train, tmp_path, config=replace(CONFIG, batch=72))
    positions = torch.tensor([5, 0, 71])
    expected = in_memory.rows(positions)
    monkeypatch.setattr(store, "IN_MEMORY_BYTES", 0)
    for a, b in zip(expected, TargetStore(in_memory.shards).rows(positions), strict=True):
        assert torch.equal(a, b)


def test_what_is_there_is_not_searched_again(network: Stages, data: ImageData, tmp_path: Path) -> None:
    search_solution(network, data.train, tmp_path, config=CONFIG)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    told: list[tuple[object, ...]] = []
    logger = SimpleNamespace(log=lambda *entry: told.append(entry))
    search_solution(network, data.train, tmp_path, config=CONFIG, execution=Execution(logger=logger))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    assert told == []


@pytest.mark.parametrize("damage", ["removed", "truncated", "flipped", "swapped"])
def test_only_a_damaged_batch_is_redone_and_equals_the_first(
    network: Stages, data: ImageData, tmp_path: Path, damage: str
) -> None:
    search_solution(network, data.train, tmp_path, config=CONFIG)
    before = _files(tmp_path)
    paths = sorted(tmp_path.rglob("*.safetensors"))
    stamps = {path: path.stat().st_mtime_ns for path in paths}
    if damage == "removed":
        paths[1].unlink()
    elif damage == "truncated":
        paths[1].write_bytes(before[paths[1].name][:-9])
    elif damage == "flipped":
        data_bytes = bytearray(before[paths[1].name])
        data_bytes[-5] ^= 4
        paths[1].write_bytes(data_bytes)
    else:
        paths[1].write_bytes(before[paths[2].name])
    search_solution(network, data.train, tmp_path, config=CONFIG)
    assert _files(tmp_path) == before
    redone = [path for path in paths if path.stat().st_mtime_ns != stamps[path]]
    assert redone == [paths[1]]


def test_reading_a_damaged_store_names_the_file(network: Stages, data: ImageData, tmp_path: Path) -> None:
    shards = search_solution(network, data.train, tmp_path, config=CONFIG).shards
    shards[2].path.write_bytes(b"")
    with pytest.raises(DamagedFileError, match=r"batch-00002\.safetensors is missing, truncated"):
        TargetStore(shards)


def test_solutions_differ_and_do_not_depend_on_how_many_there_are(network: Stages, data: ImageData, tmp_path: Path) -> None:
    zero, one = (search_solution(network, data.train, tmp_path / "a", config=CONFIG, solution=s) for s in (0, 1))
    alone = search_solution(network, data.train, tmp_path / "b", config=CONFIG, solution=1)
    everything = torch.arange(72)
    assert torch.equal(one.rows(everything)[0], alone.rows(everything)[0])
    assert not torch.equal(one.rows(everything)[0], zero.rows(everything)[0])


def test_a_batch_does_not_depend_on_the_others(network: Stages, data: ImageData, tmp_path: Path) -> None:
    """The unit of independence is a search batch of fixed composition."""
    whole = search_solution(network, data.train, tmp_path / "a", config=CONFIG)
    first = data.train.subset(torch.arange(18))
    part = search_solution(network, first, tmp_path / "b", config=CONFIG)
    assert torch.equal(whole.rows(torch.arange(18))[0], part.rows(torch.arange(18))[0])


def _first_targets(network: Stages, split: Split, folder: Path, **changes: Any) -> torch.Tensor:
    return search_solution(network, split, folder, **{"config": CONFIG, **changes}).rows(torch.arange(9))[0]


@pytest.mark.parametrize("changed", ["settings", "labels", "images", "weights", "activation", "cut"])
def test_another_search_does_not_take_these_files_for_its_own(
    network: Stages, data: ImageData, tmp_path: Path, changed: str
) -> None:
    """In one folder as in a fresh one, whatever it is that differs."""
    split, other, arguments = data.train, network, {}
    _first_targets(network, split, tmp_path / "one")
    if changed == "settings":
        arguments = {"config": SearchConfig(points="all", batch=20, es=EsConfig(population=4, generations=3))}
    elif changed == "labels":
        split = replace(split, labels=2 - split.labels)
    elif changed == "images":
        split = replace(split, images=1 - split.images)
    else:
        other = copy.deepcopy(network)
        if changed == "weights":
            with torch.no_grad():
                other.stages[-1][1].weight.neg_()
        elif changed == "activation":
            assert isinstance(other.stages[1][0][3], torch.nn.GELU)
            other.stages[1][0][3] = torch.nn.ReLU()
        else:
            other = Stages([torch.nn.Sequential(*list(network)[:2]), network.stages[2]], ["block1", "logits"])
    in_use = _first_targets(other, split, tmp_path / "one", **arguments)
    fresh = _first_targets(other, split, tmp_path / "two", **arguments)
    assert in_use.shape == fresh.shape
    assert torch.equal(in_use, fresh)


class _Nameless(EvolutionStrategy):
    __repr__ = object.__repr__  # type: ignore[assignment]


def test_an_algorithm_of_ones_own_is_named_or_refused(network: Stages, data: ImageData, tmp_path: Path) -> None:
    split = data.train.subset(range(20))
    algorithm = _Nameless(CONFIG.es)
    with pytest.raises(ConfigError, match=r"_Nameless has no representation .* or pass identity='a name of your own'"):
        search_solution(network, split, tmp_path, config=CONFIG, algorithm=algorithm)
    for _ in range(2):
        search_solution(network, split, tmp_path, config=CONFIG, algorithm=_Nameless(CONFIG.es), identity="mine")
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_an_algorithm_that_was_changed_searches_anew(network: Stages, data: ImageData, tmp_path: Path) -> None:
    def versions(sign: float, *terms: tuple[float, Any]) -> EvolutionStrategy:
        class Mine(EvolutionStrategy):  # as a notebook's cell that is run again makes it
            def tell(self, state: Any, candidates: Tensor, fitness: Tensor) -> Any:
                return super().tell(state, candidates, fitness if sign > 0 else -fitness)

        class Other(EvolutionStrategy):
            def tell(self, state: Any, candidates: Tensor, fitness: Tensor) -> Any:
                return super().tell(state, candidates, -fitness)

        Other.__name__, Other.__qualname__ = Mine.__name__, Mine.__qualname__
        chosen = Mine if sign > 0 else Other
        chosen.terms = terms
        return chosen(CONFIG.es)

    split, counts = data.train.subset(range(20)), []
    for algorithm in (
        versions(1),
        versions(1),
        versions(-1),
        versions(1, (30.0, similarity)),
        versions(1, (3.0, similarity)),
    ):
        search_solution(network, split, tmp_path, config=CONFIG, algorithm=algorithm)
        counts.append(len(list(tmp_path.rglob("*.safetensors"))))
    assert counts == [1, 1, 2, 3, 4]
    for share, count in ((1, 5), (1, 5), (2, 6)):
        search_solution(network, split, tmp_path, config=CONFIG, algorithm=versions(1, (1.0, partial(_scaled, share=share))))
        assert len(list(tmp_path.rglob("*.safetensors"))) == count
    for term, count in ((_Bent(), 7), (_Bent(), 7), (_Straight(), 8)):
        search_solution(network, split, tmp_path, config=CONFIG, algorithm=versions(1, (1.0, term)))
        assert len(list(tmp_path.rglob("*.safetensors"))) == count


def _scaled(candidates: Candidates, share: float) -> Tensor:
    return share * similarity(candidates)


class _Bent:
    def __call__(self, candidates: Candidates) -> Tensor:
        return similarity(candidates).square()


class _Straight:
    def __call__(self, candidates: Candidates) -> Tensor:
        return similarity(candidates)


def test_a_probability_to_stop_at_is_refused_beside_the_algorithms_own_terms(
    network: Stages, data: ImageData, tmp_path: Path
) -> None:
    class Mine(EvolutionStrategy):
        terms = ((1.0, similarity),)

    with pytest.raises(
        ConfigError, match=r"target = 0\.9 is a probability of the class, and Mine searches with further terms"
    ):
        search_solution(network, data.train, tmp_path, config=replace(CONFIG, target=0.9), algorithm=Mine(CONFIG.es))


def test_targets_know_which_points_were_searched(network: Stages, data: ImageData, tmp_path: Path) -> None:
    every = search_solution(network, data.train, tmp_path / "a", config=CONFIG)
    last = search_solution(network, data.train, tmp_path / "b", config=replace(CONFIG, points="last"))
    assert (every.first_searched, last.first_searched) == (0, 1)
    assert last.shapes == every.shapes[1:], "what is before the first point is the network's own, and not kept"
    assert [tuple(rows.shape) for rows in last.rows(torch.arange(4))] == [(4, *shape) for shape in last.shapes]
    assert last.nbytes == 72 * 2 * sum(math.prod(shape) for shape in last.shapes)
    assert len(last.curves()) == len(last.diagnostics()["after"]) == len(every.shapes)
    assert set(last.stops()) == {"generations"}, "what was not searched had nothing to end it"


def test_the_targets_of_another_search_stay(network: Stages, data: ImageData, tmp_path: Path) -> None:
    one = search_solution(network, data.train, tmp_path, config=CONFIG, seed=0)
    before = {shard.path: shard.path.read_bytes() for shard in one.shards}
    search_solution(network, data.train, tmp_path, config=CONFIG, seed=1)
    search_solution(network, data.train, tmp_path, config=replace(CONFIG, algorithm="random"), seed=0)
    assert all(path.read_bytes() == contents for path, contents in before.items())


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (
            "paper",
            "algorithm is a str: expected an object of a subclass",
        ),
        (EvolutionStrategy, r"algorithm is the class EvolutionStrategy: expected an object; call it, EvolutionStrategy\(\)"),
    ],
)
def test_what_is_no_algorithm_is_refused(
    network: Stages, data: ImageData, tmp_path: Path, algorithm: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        search_solution(network, data.train, tmp_path, config=CONFIG, algorithm=algorithm)
