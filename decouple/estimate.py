"""What a run will cost, before anything runs: counted where it can be, timed on a small sample where it cannot."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from decouple import device as devices
from decouple.config import LearnConfig, RunConfig
from decouple.data import ImageData, load_data
from decouple.errors import DataError
from decouple.formats import count, magnitude, plural, rough_duration, size
from decouple.learn.objective import CrossEntropy
from decouple.networks import Stages
from decouple.networks.build import build_network, network_to_search
from decouple.q0.trajectories import gradient_steps
from decouple.search import Algorithm, Budget, Judge, SearchPoint, search_batch, search_points
from decouple.search.algorithm import chosen
from decouple.search.solutions import algorithm_of
from decouple.search.store import IN_MEMORY_BYTES
from decouple.training.batches import epoch_batches, even_batches
from decouple.training.loop import Loop
from decouple.training.optimizers import make_optimizer
from decouple.training.stream import ImageLoader

GPU_NAME = "NVIDIA H100"
GPU_RATES = {"float32": 60e12, "bfloat16": 400e12}
"""FLOP/s that large convolutions may reach there: about half of the data sheet's dense 32-bit (TF32 off) and bfloat16
figures. The smaller the network, the less of it is reached."""

GPU_LAUNCH = 8e-6
"""Seconds to launch a kernel from Python: what bounds small networks."""
SEARCH_KERNELS, STEP_KERNELS = 15, 60
"""Kernels of a generation and of a training step, by search point: rough counts of the code."""

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

SAMPLE_IMAGES = 32
"""Images of a calibration batch, at most."""
SAMPLE_VALUES = 2**24
"""Values of all candidates of a calibration batch, at most: it takes seconds also at 256 channels."""


@dataclass(frozen=True)
class StageCost:
    """FLOPs count a multiplication and an addition as two."""

    flops: float
    seconds: float
    """On this machine, from the calibration."""


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
    gpu_seconds: float

    def text(self) -> str:
        """A table for people."""
        rows = [("search (and the probe)", self.search), ("learn (and SGD baselines)", self.learn), ("q0", self.q0)]
        lines = [f"{'stage':<27}{'FLOPs':>10}{'time here':>13}"]
        lines += [f"{name:<27}{magnitude(cost.flops):>10}{rough_duration(cost.seconds):>13}" for name, cost in rows]
        total = sum(cost.seconds for _, cost in rows)
        lines += [
            f"{'all':<27}{magnitude(sum(c.flops for _, c in rows)):>10}{rough_duration(total):>13}",
            "",
            f"evaluations    {count(self.evaluations)} ({count(self.evaluations_per_image)} an image and solution, "
            f"{plural(self.images, 'image')})",
            f"gradient steps {count(self.gradient_steps)}",
            f"disk           {size(self.disk_bytes)} (targets, networks, snapshots, records)",
            f"peak memory    about {size(self.memory_bytes)}",
            f"this machine   {self.device}: from a short calibration; expect ± 50 %",
            f"{GPU_NAME:<14} about {rough_duration(self.gpu_seconds)}, not measured: from {GPU_RATES['bfloat16'] / 1e12:.0f} TFLOP/s "
            f"(bfloat16) or {GPU_RATES['float32'] / 1e12:.0f} (float32), and {GPU_LAUNCH * 1e6:.0f} µs a kernel",
        ]
        return "\n".join(lines)


def estimate(config: RunConfig, *, device: str = "auto", data_root: Path | None = None) -> Estimate:
    """Count and calibrate a run of `config`; takes seconds and needs no data on disk, except for folders.

    Raises:
        ConfigError, DataError: as the run itself would.
    """
    place = devices.resolve(device)
    data, train_images, test_images = _stand_in(config, data_root)

    def network(groups: int) -> Stages:
        return build_network(config.network, data.train.images, data.num_classes, groups=groups, seed=0).to(place)

    searched = network_to_search(config, data.train.images, data.num_classes, seed=0).to(place)
    own = config.network.groups
    learned = {groups: network(groups) for groups in sorted({own, *config.baselines})}
    points = search_points(searched, data.image_shape)
    search = _searching(config, searched, data, points)
    live = sum(learning.evaluations for learning in _learnings(config))
    evaluations = sum(search.scored.values()) + search.again + live
    search_cost = _search_cost(config, searched, data, search, train_images)
    learn_cost, q0_cost = _training_costs(config, learned, data, train_images)
    # Candidates of live search pass through the head only.
    of_live = float(live * config.search.solutions * train_images * stage_flops(searched, data.image_shape)[-1])
    learn_cost = dataclasses.replace(learn_cost, flops=learn_cost.flops + of_live)
    steps = _steps(config, train_images)
    batches = config.search.solutions * len(even_batches(train_images, config.search.batch))
    weights = {groups: sum(v.numel() * 4 for v in net.state_dict().values()) for groups, net in learned.items()}
    rate = GPU_RATES["float32" if config.precision == "float32" else "bfloat16"]
    training_rate = GPU_RATES["bfloat16" if config.precision == "bfloat16" else "float32"]
    return Estimate(
        device=f"{devices.name_of(place)} ({place}, {plural(torch.get_num_threads(), 'thread')})",
        images=train_images,
        evaluations_per_image=evaluations,
        evaluations=evaluations * config.search.solutions * train_images,
        gradient_steps=steps,
        search=search_cost,
        learn=learn_cost,
        q0=q0_cost,
        disk_bytes=_disk(config, points, train_images, weights),
        memory_bytes=_memory(config, points, search, train_images + test_images, data, weights[own]),
        gpu_seconds=max(search_cost.flops / rate, batches * search.generations * SEARCH_KERNELS * len(points) * GPU_LAUNCH)
        + max((learn_cost.flops + q0_cost.flops) / training_rate, steps * STEP_KERNELS * len(points) * own * GPU_LAUNCH),
    )


def _learnings(config: RunConfig) -> list[LearnConfig]:
    """Settings of the learning of each round."""
    return [config.learn, *[config.rounds.learning(config.learn)] * config.rounds.count]


def _steps(config: RunConfig, images: int) -> int:
    """Gradient steps of all trainings."""
    learned = config.search.solutions * sum(learning.epochs for learning in _learnings(config))
    steps = learned * len(even_batches(images, config.learn.batch))
    steps += len(config.baselines) * config.sgd.epochs * len(even_batches(images, config.sgd.batch))
    return steps + _trajectories(config) * gradient_steps(config.q0, images)


def _trajectories(config: RunConfig) -> int:
    return config.q0.trajectories or config.search.solutions


def _search_cost(config: RunConfig, network: Stages, data: ImageData, search: _Searching, images: int) -> StageCost:
    """Of all solutions, with the images of the comparison and later rounds, whose candidates cost about as much."""
    behind = stage_flops(network, data.image_shape)
    flops = sum(scored * sum(behind[index + 1 :]) for index, scored in search.scored.items())
    again = 1 + config.compare.images / images + search.again / max(1, sum(search.scored.values()))
    times = config.search.solutions * images * again
    return StageCost(flops * times, _time_search(config, network, data, search) * times)


def _training_costs(
    config: RunConfig, networks: dict[int, Stages], data: ImageData, images: int
) -> tuple[StageCost, StageCost]:
    """Of learning with the baselines, and of q0; `networks`: by their ConvGroups."""
    own = config.network.groups
    forward = {groups: sum(stage_flops(network, data.image_shape)) for groups, network in networks.items()}
    seconds = {groups: _time_step(config, network, data) for groups, network in networks.items()}
    passes = {groups: float(config.sgd.epochs) for groups in config.baselines}
    learned = config.search.solutions * sum(learning.epochs for learning in _learnings(config))
    passes[own] = passes.get(own, 0.0) + learned
    epochs = _trajectories(config) * config.q0.epochs_before(config.q0.cycles)
    teaching = 1 + (1 / 3 if config.q0.alpha else 0)
    return (
        _training_cost(passes, forward, seconds, images),
        _training_cost({own: epochs * teaching}, forward, seconds, images),
    )


@dataclass(frozen=True)
class _Searching:
    """What the search does for an image."""

    algorithm: Algorithm
    scored: dict[int, int]
    """Candidates, by the index of the search point."""
    again: int
    """Candidates of later rounds."""
    population: int
    """Candidates of the largest generation."""
    generations: int


def _searching(config: RunConfig, network: Stages, data: ImageData, points: list[SearchPoint]) -> _Searching:
    evolved, pilot = chosen(points, config.search.points), data.train.images[:2].to(next(network.parameters()).device)
    judge = Judge(network, statistics=config.search.statistics, pilot=pilot)

    def scored(algorithm: Algorithm) -> dict[int, int]:
        return {point.index: algorithm.evaluations(point, coupled=judge.couples(point)) for point in evolved}

    algorithm = algorithm_of(config.search, seed=0)
    later = algorithm_of(dataclasses.replace(config.search, algorithm="es", es=config.rounds.es), seed=0)
    return _Searching(
        algorithm=algorithm,
        scored=scored(algorithm),
        again=config.rounds.count * sum(scored(later).values()),
        population=max(algorithm.candidates(point) for point in evolved),
        generations=sum(algorithm.generations(point) for point in evolved),
    )


def _disk(config: RunConfig, points: list[SearchPoint], images: int, weights: dict[int, int]) -> int:
    """Bytes of targets, networks, snapshots and records; `weights`: of a network, by its ConvGroups."""
    solutions, compare = config.search.solutions, config.compare
    itemsize = torch.empty(0, dtype=getattr(torch, config.search.dtype)).element_size()
    values = sum(torch.Size(point.shape).numel() for point in points)
    networks = solutions * (1 + config.rounds.count) + len(config.baselines)
    disk = values * itemsize * solutions * (images + compare.images)
    disk += networks * compare.records * compare.images * values * 2
    return (
        disk
        + networks * max(weights.values())
        + 2 * _trajectories(config) * config.q0.cycles * weights[config.network.groups]
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
    count = max(2 * classes, SAMPLE_IMAGES) + 2 * classes
    stream = torch.Generator().manual_seed(0)
    images = torch.rand(count, *shape, generator=stream)
    labels = torch.arange(count) % classes
    data = ImageData.from_tensors(images, labels, test_images=images, test_labels=labels, validation=classes, prior=classes)
    return data, wanted, config.data.test or test


def stage_flops(network: Stages, image_shape: tuple[int, ...]) -> list[int]:
    """FLOPs of each stage for one example."""
    device = next(network.parameters()).device
    values = torch.zeros(2, *image_shape, device=device)
    counts = []
    network.eval()
    for stage in network:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            values = stage(values)
        counts.append(counter.get_total_flops() // 2)
    return counts


def _time_search(config: RunConfig, network: Stages, data: ImageData, search: _Searching) -> float:
    """Seconds that the search takes for one image: a few generations at each point, scaled to all its evaluations."""
    points = search_points(network, data.image_shape)
    widest = max(torch.Size(point.shape).numel() for point in points)
    count = max(2, min(SAMPLE_IMAGES, len(data.train), SAMPLE_VALUES // (widest * search.population)))
    sample, device = data.train.subset(torch.arange(count)), next(network.parameters()).device
    images, labels = sample.images.to(device), sample.labels.to(device)
    dtype = devices.search_dtype(config.precision)
    judge = Judge(network, statistics=config.search.statistics, dtype=dtype, pilot=images)
    made = 0

    def run(*names: str) -> None:
        nonlocal made
        budget = Budget(evaluations=3 * search.population)
        made = search_batch(judge, images, labels, search.algorithm, seed=0, points=names, budget=budget).evaluations

    total = idle = _seconds(run, device, repeats=3)
    for point in points:
        if wanted := search.scored.get(point.index, 0):
            few = _seconds(lambda name=point.name: run(name), device, repeats=3)  # type: ignore[misc]
            total += max(0.0, few - idle) / max(1, made) * wanted
    return total / count


def _time_step(config: RunConfig, network: Stages, data: ImageData) -> float:
    """Seconds that a training step takes for one image."""
    train = data.train.subset(torch.arange(min(config.learn.batch, 64)) % len(data.train))
    optimizer = make_optimizer(network, config.learn, batch=len(train))
    batches = epoch_batches(len(train), len(train), seed=0, epoch=0)
    loop = Loop(network, optimizer, CrossEntropy(), config.learn.clip, config.precision)
    loader = ImageLoader(network, train, augmentation=config.learn.augment, precision=config.precision, seed=0)

    def step() -> None:
        loop.epoch(loader, batches, before_step=lambda number: None, seed=0, what="calibration")

    return _seconds(step, next(network.parameters()).device, repeats=3) / len(train)


def _training_cost(passes: dict[int, float], forward: dict[int, int], seconds: dict[int, float], images: int) -> StageCost:
    """A training pass costs about three forward passes."""
    flops = sum(3.0 * forward[groups] * count * images for groups, count in passes.items())
    return StageCost(flops, sum(seconds[groups] * count * images for groups, count in passes.items()))


def _memory(
    config: RunConfig, points: list[SearchPoint], searching: _Searching, images: int, data: ImageData, weights: int
) -> int:
    """Libraries, the data set, the widest moment of the search, and a training step."""
    values = [torch.Size(point.shape).numel() for point in points]
    itemsize = 4 if config.precision == "float32" else 2
    candidates = max(values) * config.search.batch * searching.population
    # A population of floats and about as many converted, convolved and normalised copies as a stage has alive at once.
    search = candidates * (4 * searching.algorithm.float_populations + 4 * itemsize)
    pixel = data.train.images.element_size() * torch.Size(data.image_shape).numel()
    step = max(config.learn.batch, config.sgd.batch) * sum(values) * 4 * 12 * config.network.groups
    # A solution that fits is held in memory, and is there twice while it is read (see TargetStore).
    targets = min(sum(values) * 2 * images, IN_MEMORY_BYTES) * (config.search.solutions + 1)
    return int(LIBRARIES_BYTES + 2 * images * pixel + targets + max(search, step) + 6 * weights)


def _seconds(work: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """Median time of `work`, after a warm-up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])
