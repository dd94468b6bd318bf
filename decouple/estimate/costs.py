"""What a run will cost, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from decouple import device as devices
from decouple.config import RunConfig
from decouple.data import ImageData, load_data
from decouple.errors import DataError
from decouple.estimate.gpus import CUDA_BYTES, GPUS, Gpu, named
from decouple.estimate.stages import (
    SAMPLE_IMAGES,
    Searching,
    learnings,
    steps,
    training_seconds,
    training_work,
)
from decouple.estimate.work import Work
from decouple.formats import count, magnitude, plural, rough_duration, size
from decouple.networks import Stages
from decouple.networks.build import build_network, network_to_search
from decouple.search import SearchPoint, search_points
from decouple.search.solutions import target_bytes
from decouple.search.store import IN_MEMORY_BYTES

SIZES = {
    "digits": ((1, 8, 8), 10, 1438, 359),
    "mnist": ((1, 28, 28), 10, 60_000, 10_000),
    "fashion-mnist": ((1, 28, 28), 10, 60_000, 10_000),
    "cifar10": ((3, 32, 32), 10, 50_000, 10_000),
    "cifar100": ((3, 32, 32), 100, 50_000, 10_000),
}
"""Image shape, classes, training and test images: an estimate needs no files."""

LIBRARIES_BYTES = 900 * 2**20
"""What torch, EvoTorch, scikit-learn and matplotlib take, and torch's working space."""


@dataclass(frozen=True)
class StageCost:
    work: Work
    seconds: float | None
    """On this machine, from the calibration; None: a GPU was named instead."""
    gpu_seconds: float
    """On the GPU, not measured."""


@dataclass(frozen=True)
class Estimate:
    device: str
    images: int
    evaluations_per_image: int
    evaluations: int
    gradient_steps: int
    search: StageCost
    learn: StageCost
    q0: StageCost
    disk_bytes: int
    memory_bytes: int
    gpu: Gpu
    """The one that is named, or an H100."""
    gpu_bytes: int
    """What the run takes of its memory."""
    runs: int = 1
    """One after the other: what all of them take together, and memory of one."""

    def of_runs(self, runs: int) -> Estimate:
        """Of that many runs, one for each seed."""

        def all_of(cost: StageCost) -> StageCost:
            seconds = None if cost.seconds is None else cost.seconds * runs
            return StageCost(cost.work * runs, seconds, cost.gpu_seconds * runs)

        return replace(
            self,
            evaluations=self.evaluations * runs,
            gradient_steps=self.gradient_steps * runs,
            search=all_of(self.search),
            learn=all_of(self.learn),
            q0=all_of(self.q0),
            disk_bytes=self.disk_bytes * runs,
            runs=self.runs * runs,
        )

    def text(self) -> str:
        """A table for people."""
        stages = {"search (and the probe)": self.search, "learn (and SGD baselines)": self.learn, "q0": self.q0}
        measured = all(cost.seconds is not None for cost in stages.values())
        kinds = ["FLOPs", "bytes moved", *(["time here"] if measured else []), self.gpu.name]
        lines = [f"{'stage':<27}" + "".join(f"{kind:>13}" for kind in kinds)]
        for name, costs in [*((name, [cost]) for name, cost in stages.items()), ("all", list(stages.values()))]:
            cells = [magnitude(sum(cost.work.flops for cost in costs)), magnitude(sum(cost.work.moved for cost in costs))]
            cells += [rough_duration(sum(cost.seconds or 0.0 for cost in costs))] if measured else []
            cells.append(rough_duration(sum(cost.gpu_seconds for cost in costs)))
            lines.append(f"{name:<27}" + "".join(f"{cell:>13}" for cell in cells))
        lines += [
            "",
            f"evaluations    {count(self.evaluations)} ({count(self.evaluations_per_image)} an image and solution, "
            f"{plural(self.images, 'image')})",
            f"gradient steps {count(self.gradient_steps)}",
            f"disk           {size(self.disk_bytes)} (targets, networks, snapshots, records)",
            f"peak memory    about {size(self.memory_bytes)}; on a GPU about {size(self.gpu_bytes)} of its "
            f"{size(int(self.gpu.memory))}",
        ]
        lines += [f"runs           {self.runs}, one for each seed: all figures are of all of them, the memory of one"] * (
            self.runs > 1
        )
        lines += [f"this machine   {self.device}: from a short calibration; expect ± 50 %"] if measured else []
        return "\n".join([*lines, f"{self.gpu.name:<14} {self.gpu.assumptions()}"])


def estimate(config: RunConfig, *, device: str = "auto", data_root: Path | None = None) -> Estimate:
    """Count and calibrate a run of `config`; takes seconds and needs no data on disk, except for folders.

    Args:
        device: as in `decouple.run`, for times on it; or the name of a GPU (see `GPUS`), for which nothing is timed.

    Raises:
        ConfigError, DataError: as the run itself would.
    """
    gpu = named(device)
    place = devices.resolve("cpu" if gpu else device)
    data, train_images, test_images = _stand_in(config, data_root)

    def network(groups: int) -> Stages:
        return build_network(config.network, data.train.images, data.num_classes, groups=groups, seed=0)

    searched = network_to_search(config, data.train.images, data.num_classes, seed=0)
    own = config.network.groups
    learned = {groups: network(groups) for groups in sorted({own, *config.baselines})}
    points = search_points(searched, data.image_shape)
    search = Searching.of(config, searched, data, points)
    live = sum(learning.evaluations(len(points) - 1) for learning in learnings(config))
    evaluations = sum(search.scored.values()) + search.again + live
    weights = {groups: sum(v.numel() * 4 for v in net.state_dict().values()) for groups, net in learned.items()}
    memory = partial(_memory, config, points, search, train_images + test_images, data, weights[own])
    works = [search.work(config, searched, data, train_images), *training_work(config, learned, data, train_images)]
    times: list[float | None] = [None] * 3
    if gpu is None:
        placed = {groups: net.to(place) for groups, net in learned.items()}
        times = [search.seconds(config, searched.to(place), data, train_images)]
        times += training_seconds(config, placed, data, train_images)
    gpu = gpu or GPUS["h100"]
    training = "bfloat16" if config.precision == "bfloat16" else "float32"
    kinds = (config.precision, training, training)
    costs = [StageCost(work, here, gpu.seconds(work, kind)) for work, here, kind in zip(works, times, kinds, strict=True)]
    return Estimate(
        device=f"{devices.name_of(place)} ({place}, {plural(torch.get_num_threads(), 'thread')})",
        images=train_images,
        evaluations_per_image=evaluations,
        evaluations=evaluations * config.search.solutions * train_images,
        gradient_steps=steps(config, train_images),
        search=costs[0],
        learn=costs[1],
        q0=costs[2],
        disk_bytes=_disk(config, points, train_images, weights),
        memory_bytes=LIBRARIES_BYTES + memory(solutions=config.search.solutions + 1),
        gpu=gpu,
        gpu_bytes=CUDA_BYTES + memory(solutions=1),
    )


def _disk(config: RunConfig, points: list[SearchPoint], images: int, weights: dict[int, int]) -> int:
    """Bytes of targets, networks, snapshots and records; `weights`: of a network, by its ConvGroups."""
    solutions, compare = config.search.solutions, config.compare
    values = sum(torch.Size(point.shape).numel() for point in points)
    networks = solutions * (1 + config.rounds.count) + len(config.baselines)
    disk = target_bytes(points, config.search) * solutions * (images + compare.images)
    disk += networks * compare.records * compare.images * values * 2
    return (
        disk + networks * max(weights.values()) + 2 * config.trajectories * config.q0.cycles * weights[config.network.groups]
    )


def _stand_in(config: RunConfig, data_root: Path | None) -> tuple[ImageData, int, int]:
    """A few images of the right shape, and how many there will be for training and test."""
    name = config.data.name
    if name in SIZES:
        shape, classes, train, test = SIZES[name]
    else:
        data = load_data(config.data, data_root=data_root)
        return data, len(data.train), len(data.test)
    left = train - config.data.validation - config.data.prior
    wanted = config.data.train or left
    if wanted < 1 or wanted > left:
        raise DataError(
            f"{name} has {train} training images: validation {config.data.validation}, prior {config.data.prior} and train "
            f"{config.data.train} do not fit; give --data.train at most {max(left, 0)}"
        )
    if (config.data.test or 0) > test:
        raise DataError(f"{name} has {test} test images, not {config.data.test}; give --data.test at most {test}")
    count = max(2 * classes, SAMPLE_IMAGES) + 2 * classes
    stream = torch.Generator().manual_seed(0)
    images = torch.rand(count, *shape, generator=stream)
    labels = torch.arange(count) % classes
    data = ImageData.from_tensors(images, labels, test_images=images, test_labels=labels, validation=classes, prior=classes)
    return data, wanted, config.data.test or test


def _memory(
    config: RunConfig,
    points: list[SearchPoint],
    searching: Searching,
    images: int,
    data: ImageData,
    weights: int,
    *,
    solutions: int,
) -> int:
    """The data set, the widest moment of the search, a training step, and the targets of so many solutions."""
    values = [torch.Size(point.shape).numel() for point in points]
    itemsize = 4 if config.precision == "float32" else 2
    first = min(searching.scored, default=0)  # behind it there are only candidates
    candidates = max(values[first:]) * config.search.batch * searching.population
    # A population of floats and about as many converted, convolved and normalised copies as a stage has alive at once.
    search = candidates * (4 * searching.algorithm.float_populations + 4 * itemsize)
    pixel = data.train.images.element_size() * torch.Size(data.image_shape).numel()
    step = max(config.learn.batch, config.sgd.batch) * sum(values) * 4 * 12 * config.network.groups
    # A solution that fits is held in memory, and is there twice while it is read (see TargetStore).
    targets = min(target_bytes(points, config.search) * images, IN_MEMORY_BYTES) * solutions
    return int(2 * images * pixel + targets + max(search, step) + 6 * weights)
