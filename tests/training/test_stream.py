"""Batches made ahead: the same as without, errors where they belong, no thread left behind."""

import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from decouple.config import EsConfig, NetworkConfig, SearchConfig, TrainConfig
from decouple.data import ImageData, Split
from decouple.learn import Regression
from decouple.networks import Stages, paper_network
from decouple.search import TargetStore, search_solution, store
from decouple.training.batches import epoch_batches
from decouple.training.loop import Loop
from decouple.training.objectives import Objective, fetch_of
from decouple.training.optimizers import make_optimizer
from decouple.training.stream import AHEAD, Batch, ImageLoader, layout, made_ahead


@dataclass
class _Targets:
    """Noise that notes who asks for it."""

    points: list[Tensor]
    threads: set[str] = field(default_factory=set)
    broken_at: int = -1
    asked: int = 0

    first_searched = 0

    def check(self, split: Split) -> None:
        pass

    def rows(self, positions: Tensor) -> list[Tensor]:
        self.threads.add(threading.current_thread().name)
        self.asked += 1
        if self.asked == self.broken_at:
            raise OSError("the disk is gone")
        return [point[positions] for point in self.points]


@pytest.fixture
def targets(data: ImageData) -> _Targets:
    stream = torch.Generator().manual_seed(0)
    return _Targets([torch.randn(72, *shape, generator=stream).half() for shape in ((8, 3, 3), (8, 1, 1), (3,))])


def _network(data: ImageData) -> Stages:
    return paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=1)


def _epoch(network: Stages, data: ImageData, objective: Objective, *, ahead: int, precision: str = "float32") -> float:
    loop = Loop(network, make_optimizer(network, TrainConfig(), batch=10), objective, 1.0, precision)
    fetch = fetch_of(objective, torch.device("cpu"))
    loader = ImageLoader(network, data.train, fetch, augmentation="flip-crop", precision=precision, seed=0)
    batches = epoch_batches(len(data.train), 10, seed=0, epoch=0)
    return loop.epoch(loader, batches, before_step=lambda step: None, seed=0, what="test", ahead=ahead)


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decouple-batches")]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_thread_changes_no_bit(data: ImageData, targets: _Targets, precision: str) -> None:
    networks = [_network(data) for _ in range(3)]
    losses = [
        _epoch(network, data, Regression(targets), ahead=ahead, precision=precision)
        for network, ahead in zip(networks, (0, 1, 5), strict=True)
    ]
    assert losses[0] == losses[1] == losses[2]
    for other in networks[1:]:
        assert all(torch.equal(a, b) for a, b in zip(networks[0].parameters(), other.parameters(), strict=True))
    assert targets.threads == {"MainThread", "decouple-batches_0"}, "they were read in a thread"


def test_a_store_on_disk_gives_what_one_in_memory_gives(
    data: ImageData, network: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SearchConfig(batch=24, points="all", es=EsConfig(population=4, generations=1))
    in_memory = search_solution(network, data.train, tmp_path, config=config)
    losses = [_epoch(_network(data), data, Regression(in_memory), ahead=2, precision="bfloat16")]
    monkeypatch.setattr(store, "IN_MEMORY_BYTES", 0)
    on_disk = TargetStore(in_memory.shards)
    losses.append(_epoch(_network(data), data, Regression(on_disk), ahead=2, precision="bfloat16"))
    assert losses[0] == losses[1]
    with torch.autocast("cpu", torch.bfloat16):  # asked for directly, inside of an autocast
        assert torch.equal(on_disk.rows(torch.tensor([3, 60]))[0], in_memory.rows(torch.tensor([3, 60]))[0])


def test_what_fails_in_the_thread_is_raised_here(data: ImageData, targets: _Targets) -> None:
    targets.broken_at = 4
    with pytest.raises(OSError, match="the disk is gone"):
        _epoch(_network(data), data, Regression(targets), ahead=AHEAD)
    assert not _threads()


def test_ctrl_c_leaves_no_thread(data: ImageData, targets: _Targets) -> None:
    @dataclass(frozen=True)
    class Interrupted(Regression):
        def __call__(self, network: Stages, batch: Batch) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _epoch(_network(data), data, Interrupted(targets), ahead=AHEAD)
    assert not _threads()
    assert targets.asked <= AHEAD + 1


def test_no_more_is_held_than_asked_for() -> None:
    made: list[int] = []
    with closing(made_ahead(lambda item: made.append(item) or item, range(9), ahead=3)) as items:  # type: ignore[func-returns-value]
        for number, item in enumerate(items):
            assert item == number
            assert len(made) <= number + 3
    assert made == list(range(9))


def test_threads_of_the_steps_stay_as_they_are() -> None:
    before = torch.get_num_threads()
    assert list(made_ahead(lambda item: torch.get_num_threads(), [0])) == [1]
    assert torch.get_num_threads() == before


def test_rows_lie_as_the_network_does(data: ImageData) -> None:
    assert layout(_network(data)) == torch.channels_last
    assert layout(_network(data).to(memory_format=torch.contiguous_format)) == torch.contiguous_format
