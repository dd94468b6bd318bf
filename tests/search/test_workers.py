"""Batches searched by Ray's worker processes: the files of one process, whatever happens to the workers."""

import copy
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from decouple import own_code, workers
from decouple.config import EsConfig, PaperConfig, SearchConfig
from decouple.data import ImageData
from decouple.device import threads_of
from decouple.errors import ConfigError, NotFiniteError, WorkerError
from decouple.networks import Stages
from decouple.search import EvolutionStrategy, Execution, search_solution, search_solutions
from decouple.search.algorithm import Fitness, SearchPoint
from decouple.seeds import derive

CONFIG = SearchConfig(points="all", batch=20, es=EsConfig(population=4, generations=2))


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Two workers for every test here: starting them takes seconds."""
    with workers._ray(2, None, workers.STORE_BYTES) as (module, started):
        assert started
        module.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # pytest's modules cannot be imported
        yield module


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_a_cluster_that_is_not_there_is_named_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with (
        pytest.raises(ConfigError, match=rf"no Ray cluster to use at '{address}' \(.*refused\); .* leave ray_address out"),
        workers._ray(2, address, workers.STORE_BYTES),
    ):
        pass


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        (CONFIG, torch.float32),
        (replace(CONFIG, statistics="frozen", dtype="bfloat16"), torch.bfloat16),
        (
            replace(
                CONFIG,
                algorithm="paper",
                paper=PaperConfig(population=6, parents=2, explorers=2, generations=2, blur=1),
            ),
            torch.float32,
        ),
    ],
)
def test_two_workers_write_the_files_of_one(
    ray: Any, network: Stages, data: ImageData, tmp_path: Path, config: SearchConfig, dtype: torch.dtype
) -> None:
    told: list[tuple[str, str, int]] = []
    logger = SimpleNamespace(log=lambda stage, unit, step, values: told.append((stage, unit, step)))
    arguments = {"config": config, "dtype": dtype, "solutions": [0, 3]}
    one = search_solutions(network, data.train, tmp_path / "one", **arguments)  # type: ignore[arg-type]
    two = search_solutions(
        network,
        data.train,
        tmp_path / "two",
        **arguments,  # type: ignore[arg-type]
        execution=Execution(2, logger=logger),
    )
    assert len(_files(tmp_path / "one")) == 8
    assert _files(tmp_path / "two") == _files(tmp_path / "one")
    expected = [("search", f"solution-{number}", step) for number in (0, 3) for step in (18, 36, 54, 72)]
    assert sorted(told) == expected
    assert [store.evaluations for store in two] == [store.evaluations for store in one]
    assert ray.is_initialized(), "who started Ray keeps it"


def test_whole_batches_are_not_searched_again(ray: Any, network: Stages, data: ImageData, tmp_path: Path) -> None:
    shards = search_solution(network, data.train, tmp_path, config=CONFIG).shards
    before, stamps = _files(tmp_path), [shard.path.stat().st_mtime_ns for shard in shards]
    shards[2].path.write_bytes(b"damaged")
    told: list[int] = []
    logger = SimpleNamespace(log=lambda stage, unit, step, values: told.append(step))
    search_solution(network, data.train, tmp_path, config=CONFIG, execution=Execution(2, logger=logger))
    assert _files(tmp_path) == before
    assert [shard.path.stat().st_mtime_ns != stamp for shard, stamp in zip(shards, stamps, strict=True)] == [
        False,
        False,
        True,
        False,
    ]
    assert told == [54]


@dataclass(frozen=True)
class _Deadly(EvolutionStrategy):
    """Kills its process at `seed`, once `others` files are there, as long as `marker` is not."""

    seed: int = 0
    folder: Path = Path()
    others: int = 0
    marker: Path | None = None

    def init(self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness) -> Any:
        if seed == self.seed and not (self.marker is not None and self.marker.exists()):
            until = time.monotonic() + 60
            while len(list(self.folder.rglob("*.safetensors"))) < self.others and time.monotonic() < until:
                time.sleep(0.01)
            if self.marker is not None:
                self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().init(start, point, seed, population, fitness)


def _deadly(folder: Path, **changes: Any) -> _Deadly:
    """At the first search point of batch 1 of solution 0."""
    seed = derive(derive(derive(0, "search", 0), 1), "block0")
    return _Deadly(CONFIG.es, seed=seed, folder=folder, **changes)


def test_a_worker_that_is_killed_is_replaced(
    ray: Any, network: Stages, data: ImageData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search_solution(
        network, data.train, tmp_path / "one", config=CONFIG, algorithm=EvolutionStrategy(CONFIG.es), identity="same"
    )
    folder, marker = tmp_path / "two", tmp_path / "marker"
    with caplog.at_level(logging.WARNING, "decouple"):
        search_solution(
            network,
            data.train,
            folder,
            config=CONFIG,
            algorithm=_deadly(folder, marker=marker),
            identity="same",
            execution=Execution(2),
        )
    assert marker.exists()
    assert _files(folder) == _files(tmp_path / "one")
    assert caplog.messages == [
        "a worker died while it searched solution-0/batch-00001 (WorkerCrashedError); it is done again"
    ]


OWN = """
from torch import nn
from decouple.networks import Stages


class Halved(nn.Linear):
    def forward(self, values):
        return super().forward(values) / 2


def build(features, classes):
    return Stages([nn.Sequential(nn.Flatten(), Halved(features, 12), nn.ReLU()), Halved(12, classes)], ["body", "out"])
"""


def test_a_network_of_ones_own_code_reaches_the_workers(ray: Any, data: ImageData, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    torch.manual_seed(0)
    network = own_code.load(f"{tmp_path / 'mine.py'}:build", "network.name")(data.train.images[0].numel(), 3)
    for folder, execution in (("one", Execution()), ("two", Execution(2))):
        search_solution(network, data.train, tmp_path / folder, config=CONFIG, execution=execution)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def test_a_batch_that_kills_every_worker_ends_the_search(
    ray: Any, network: Stages, data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ATTEMPTS", 2)
    arguments: dict[str, Any] = {"config": CONFIG, "identity": "same", "execution": Execution(2)}
    with pytest.raises(
        WorkerError, match=r"2 workers in turn died while they searched solution-0/batch-00001 .* workers, search.batch"
    ):
        search_solution(network, data.train, tmp_path, algorithm=_deadly(tmp_path, others=3), **arguments)
    kept = _files(tmp_path)
    assert sorted(kept) == [f"solution-0/batch-0000{number}.safetensors" for number in (0, 2, 3)]
    search_solution(network, data.train, tmp_path, algorithm=EvolutionStrategy(CONFIG.es), **arguments)
    assert len(_files(tmp_path)) == 4
    assert kept.items() <= _files(tmp_path).items()


@dataclass(frozen=True)
class _Faulty(EvolutionStrategy):
    def init(self, *arguments: Any) -> Any:
        raise ZeroDivisionError("a mistake")


def test_errors_in_a_worker_surface_as_themselves(ray: Any, network: Stages, data: ImageData, tmp_path: Path) -> None:
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.stages[1][0][0].weight.fill_(torch.nan)
    with pytest.raises(
        NotFiniteError, match="the network's output for image 0 of those searched together is not finite"
    ) as ours:
        search_solution(broken, data.train, tmp_path, config=CONFIG, execution=Execution(2))
    assert type(ours.value) is NotFiniteError
    with pytest.raises(ZeroDivisionError, match="a mistake") as theirs:
        search_solution(network, data.train, tmp_path, config=CONFIG, algorithm=_Faulty(), execution=Execution(2))
    assert type(theirs.value) is ZeroDivisionError
    assert "in init" in str(theirs.value.__cause__), "the worker's traceback is there"


def test_other_versions_are_refused(
    ray: Any, network: Stages, data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("decouple.workers.__version__", "0.0")
    with pytest.raises(
        ConfigError, match=r"and this process .*'decouple': '0\.0'.* install the same versions on every node"
    ):
        search_solution(network, data.train, tmp_path, config=CONFIG, execution=Execution(2))


def test_a_worker_takes_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert [threads_of(count) for count in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert [threads_of(count) for count in (1, 2, 4, 8)] == [2, 2, 2, 1], "OMP_NUM_THREADS is kept"


def test_no_workers_are_refused(network: Stages, data: ImageData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers = 0: expected at least 1; give workers another value"):
        search_solution(network, data.train, tmp_path, execution=Execution(0))


def test_one_process_does_without_ray(tmp_path: Path) -> None:
    code = f"""
import sys, torch, decouple
network = decouple.Stages([torch.nn.Flatten(), torch.nn.Linear(4, 2)], ["pixels", "logits"])
split = decouple.Split(torch.rand(4, 1, 2, 2), torch.arange(4) % 2, torch.arange(4))
config = decouple.SearchConfig(es=decouple.EsConfig(population=2, generations=1))
decouple.search_solution(network, split, {str(tmp_path)!r}, config=config)
import decouple.cli, decouple.pipeline
sys.exit('ray' in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=100).returncode == 0
