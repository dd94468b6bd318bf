"""Two processes train as one does, up to rounding."""

import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from decouple.config import LearnConfig, LiveConfig, NetworkConfig
from decouple.data import ImageData, Split
from decouple.errors import ConfigError
from decouple.files import load_tensors, save_tensors
from decouple.learn import Checkpoint, Fit, fit
from decouple.learn.objective import regression
from decouple.networks import Stages, paper_network
from decouple.training.augment import augment

CONFIG = LearnConfig(epochs=3, batch=25, lr=0.05, augment="flip-crop", clip=0.5, live=LiveConfig(weight=0))
LIVE = replace(CONFIG, live=LiveConfig())


@dataclass
class _Targets:
    points: list[Tensor]

    first_searched = 0

    def check(self, split: Split) -> None:
        pass

    def rows(self, positions: Tensor) -> list[Tensor]:
        return [point[positions] for point in self.points]


def _train(folder: Path, kind: str, checkpoint: Checkpoint | None = None) -> tuple[Stages, Fit, list[int]]:
    tensors = load_tensors(folder / "data", unit="data")[0]
    train, validation = (
        Split(tensors["images"][a:b], tensors["labels"][a:b], torch.arange(a, b)) for a, b in ((0, 71), (71, 90))
    )
    rank = (
        dist.get_rank() if dist.is_initialized() else 0
    )  # every process starts from weights of its own: the first one's count
    config = LIVE if kind == "live" else CONFIG
    if kind != "plain":
        network = paper_network(train.images, 3, NetworkConfig(width=8), groups=1, seed=rank)
    else:
        torch.manual_seed(rank)
        plain = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8, momentum=None), nn.Flatten(), nn.Linear(72, 3))
        network = Stages.from_sequential(plain, ["1", "3"])
    stream = torch.Generator().manual_seed(0)
    targets = _Targets([torch.randn(71, *shape, generator=stream) for shape in network.shapes((1, 8, 8))])
    seen: list[int] = []
    found = fit(
        network,
        train,
        validation,
        regression(targets, config, len(network) - 1),
        config,
        seed=1,
        checkpoint=checkpoint,
        record=lambda e, n: seen.append(e),
    )
    return network, found, seen


def _process(rank: int, port: int, folder: Path, kind: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    checkpoint = Checkpoint(folder / f"{kind}.checkpoint", "unit", seconds=0)
    network, found, seen = _train(folder, kind, checkpoint)
    own = checkpoint if rank == 0 else Checkpoint(folder / "elsewhere", "unit")
    with pytest.raises(
        ConfigError, match="the processes go on after 0 to 3 epochs: every one must find the same checkpoint"
    ):
        _train(folder, kind, own)
    meta = {"losses": found.losses, "validation": found.validation, "seen": seen}
    save_tensors(folder / f"{kind}-{rank}", network.state_dict(), meta, unit="result")
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["paper", "plain", "live"])
def test_two_processes_give_what_one_gives(data: ImageData, tmp_path: Path, kind: str) -> None:
    splits = (data.train, data.validation, data.prior)
    tensors = {name: torch.cat([getattr(split, name) for split in splits]) for name in ("images", "labels")}
    save_tensors(tmp_path / "data", tensors, {}, unit="data")
    network, found, seen = _train(tmp_path, kind)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_process, (port, tmp_path, kind), nprocs=2)
    (weights, meta), (others, other) = (load_tensors(tmp_path / f"{kind}-{rank}", unit="result") for rank in (0, 1))
    assert meta["losses"] == other["losses"] == pytest.approx(found.losses, rel=1e-4 if kind == "live" else 1e-5)
    assert meta["validation"] == found.validation
    assert (meta["seen"], other["seen"]) == (seen, []), "the first process alone records"
    for name, value in network.state_dict().items():
        assert torch.equal(weights[name], others[name]), name
        assert torch.allclose(weights[name], value, rtol=1e-3, atol=1e-5), name
    assert all("forward" not in vars(module) for module in network.modules())


def test_parts_of_a_batch_get_the_views_of_the_batch() -> None:
    images = torch.rand(10, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    whole = augment(images, "flip-crop", torch.Generator().manual_seed(1))
    for part in (slice(0, 4), slice(4, 10)):
        view = augment(images[part], "flip-crop", torch.Generator().manual_seed(1), batch=10, part=part)
        assert torch.equal(view, whole[part])
