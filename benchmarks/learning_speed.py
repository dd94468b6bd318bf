"""What a step of learning from searched targets costs beside a plain SGD step of the same network and batch.

    OMP_NUM_THREADS=1 python -m benchmarks.learning_speed      # about 10 minutes
    python -m benchmarks.learning_speed --device cuda

Plain is a loop as a tutorial has it: index the images, forward, cross-entropy, backward, step; no check and no clipping.
Both sides load their data: images from memory, targets from memory or from the files of a store above the limit of
what is read into memory (the operating system has cached them). "Learn" has targets at all blocks, as the paper; "learn by
default" at the last one, and searches there at every step (live search). Every figure is the median, over repeats, of the
ratio of two epochs taken one after the other, so that other load on the machine falls on both; `cpu_ratio` is the same for
the processor time of all threads. Images and targets are noise: speed does not depend on them. Writes
figures/learning-speed-DEVICE.json.
"""

from __future__ import annotations

import copy
import functools
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.command import launch
from benchmarks.receipt import write_receipt
from benchmarks.timing import SHAPES, compared, made_up, say
from decouple import device as devices
from decouple.config import EsConfig, LearnConfig, NetworkConfig, SearchConfig, TrainConfig
from decouple.data import Split
from decouple.data.images import as_float
from decouple.learn import CrossEntropy, Regression
from decouple.learn.objective import regression
from decouple.networks import Stages, paper_network
from decouple.search import TargetStore, search_solution, store
from decouple.search.store import Shard
from decouple.training.batches import epoch_batches
from decouple.training.loop import Loop
from decouple.training.objectives import Objective, fetch_of
from decouple.training.optimizers import make_optimizer
from decouple.training.stream import ImageLoader, Rows

LIMIT = 1.10
"""Ratio that the project sets itself."""
SHARD = 125
"""Images of a search batch."""


class Size(NamedTuple):
    width: int
    """Channels."""
    batch: int
    steps: int
    """Timed together, as an epoch."""


SIZES = {"cpu": (Size(32, 128, 6), Size(256, 32, 2)), "cuda": (Size(32, 512, 40), Size(256, 2000, 20))}


@dataclass(frozen=True)
class Arguments:
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    repeats: int = 7
    """Of every measurement."""
    groups: tuple[int, ...] = (1, 2)
    """ConvGroups a block: the fewer, the less a step has beside its targets."""


def main(arguments: Arguments) -> None:
    device = devices.resolve(arguments.device)
    devices.prepare()
    sizes = SIZES[device.type]
    rows = []
    for size, groups, precision in itertools.product(sizes, arguments.groups, ("float32", "bfloat16")):
        rows += measure(size, "28x28", groups, precision, device, arguments.repeats)
    settings = {"repeats": arguments.repeats, "sizes": [size._asdict() for size in sizes]}
    figures = {"limit": LIMIT, "rows": rows}
    print(write_receipt(f"learning-speed-{device.type}", figures, settings=settings, device=str(device)))


def measure(size: Size, shape: str, groups: int, precision: str, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Seconds of a step: plain, the baseline by our code path, and learning from a store in memory and on disk."""
    train = made_up(size.batch * size.steps, SHAPES[shape])
    network = paper_network(train.images, 10, NetworkConfig(width=size.width), groups=groups, seed=0).to(device)
    batches = epoch_batches(len(train), size.batch, seed=0, epoch=0)
    with tempfile.TemporaryDirectory() as folder:
        few = SearchConfig(points="all", batch=SHARD, es=EsConfig(population=2, generations=1))
        shards = search_solution(network, train, folder, config=few).shards
        in_memory, on_disk = opened(shards, 2**40), opened(shards, 0)
        plain = functools.partial(_plain, copy.deepcopy(network), train, batches, precision)
        blocks = len(list(network)) - 1
        objectives: dict[str, Objective] = {
            "sgd": CrossEntropy(),
            "learn, store in memory": Regression(in_memory),
            "learn, store on disk": Regression(on_disk),
            "learn by default, store in memory": regression(in_memory, LearnConfig(), blocks),
            "learn by default, store on disk": regression(on_disk, LearnConfig(), blocks),
        }
        found = []
        for name, objective in objectives.items():
            fetch = fetch_of(objective, device)
            ours = functools.partial(_ours, copy.deepcopy(network), train, batches, objective, fetch, precision)
            row = {"step": name, "width": size.width, "input": shape, "groups": groups, "precision": precision}
            row |= compared(ours, plain, device, repeats, size.steps)
            found.append(row)
            say(
                f"{name}, {size.width} channels, {shape}, {groups} groups, {precision}: {row['ratio']:.3f} x plain "
                f"({row['plain_seconds']:.4f} s), processor time {row['cpu_ratio']:.3f} x"
            )
    return found


def opened(shards: Sequence[Shard], limit: int) -> TargetStore:
    """The store, with this limit of what is read into memory."""
    kept, store.IN_MEMORY_BYTES = store.IN_MEMORY_BYTES, limit
    try:
        found = TargetStore(shards)
        found.rows(torch.tensor([0]))  # here it is decided
        return found
    finally:
        store.IN_MEMORY_BYTES = kept


def _plain(network: Stages, train: Split, batches: Sequence[Tensor], precision: str) -> None:
    """The step that all else is compared with."""
    device = next(network.parameters()).device
    optimizer = make_optimizer(network, TrainConfig(), batch=len(batches[0]))
    network.train()
    for positions in batches:
        images, labels = as_float(train.images[positions].to(device)), train.labels[positions].to(device)
        with devices.autocast(precision, device):
            loss = functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _ours(
    network: Stages, train: Split, batches: Sequence[Tensor], objective: Objective, fetch: Rows | None, precision: str
) -> None:
    settings = TrainConfig()
    loop = Loop(network, make_optimizer(network, settings, batch=len(batches[0])), objective, settings.clip, precision)
    loader = ImageLoader(network, train, fetch, augmentation=settings.augment, precision=precision, seed=0)
    loop.epoch(loader, batches, before_step=lambda step: None, seed=0, what="benchmark")


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
