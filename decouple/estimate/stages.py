"""What searching and training are made of: done on a few images, to be counted or timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from decouple import device as devices
from decouple.config import LearnConfig, RunConfig
from decouple.data import ImageData, Split
from decouple.data.images import as_float
from decouple.estimate.work import Work, counted, of_images
from decouple.learn.objective import CrossEntropy, cross_entropy, regression
from decouple.networks import Stages
from decouple.networks.state import own_copy
from decouple.q0.trajectories import ChainObjective, gradient_steps
from decouple.search import Algorithm, Budget, Judge, SearchPoint, search_batch, search_points
from decouple.search.algorithm import chosen
from decouple.search.solutions import algorithm_of, terms_for
from decouple.tasks import ImageTask
from decouple.torch_state import device_of
from decouple.training.batches import epoch_batches, even_batches
from decouple.training.loop import Loop
from decouple.training.objectives import Objective, fetch_of
from decouple.training.optimizers import make_optimizer
from decouple.training.stream import Batch, ImageLoader

SAMPLE_IMAGES = 32
"""Images of a calibration batch, at most."""
SAMPLE_VALUES = 2**24
"""Values of all candidates of a calibration batch, at most: it takes seconds also at 256 channels."""

REPEATS = 3
"""Of what is timed."""

UPDATE = Work(kernels=20)
"""Of a step, beside the loss and its gradient: making the batch, clipping, the optimiser."""

Computation = Callable[[], object]


def learnings(config: RunConfig) -> list[LearnConfig]:
    """Settings of the learning of each round."""
    return [config.learn, *[config.rounds.learning(config.learn)] * config.rounds.count]


def learned_epochs(config: RunConfig) -> int:
    """Of learning from targets, all solutions and rounds."""
    return config.search.solutions * sum(learning.epochs for learning in learnings(config))


def steps(config: RunConfig, images: int) -> int:
    """Gradient steps of all trainings."""
    learned = learned_epochs(config) * len(even_batches(images, config.learn.batch))
    baselines = len(config.baselines) * config.sgd.epochs * len(even_batches(images, config.sgd.batch))
    return learned + baselines + config.trajectories * gradient_steps(config.q0, images)


@dataclass(frozen=True)
class Searching:
    """What the search does for an image."""

    algorithm: Algorithm
    scored: dict[int, int]
    """Candidates, by the index of the search point."""
    again: int
    """Candidates of later rounds."""
    population: int
    """Candidates of the largest generation."""

    @classmethod
    def of(cls, config: RunConfig, network: Stages, data: ImageData, points: list[SearchPoint]) -> Searching:
        """As the settings have it, on this network."""
        evolved = chosen(points, config.search.points)
        algorithm, pilot = algorithm_of(config.search, seed=0), data.train.images[:2].to(device_of(network))
        terms = terms_for(config.search, algorithm)
        judge = Judge(network, statistics=config.search.statistics, pilot=pilot, terms=terms)

        def scored(algorithm: Algorithm) -> dict[int, int]:
            every = {point.index: algorithm.evaluations(point, coupled=judge.couples(point)) for point in evolved}
            return _within(config.search.max_evaluations, algorithm, evolved, every)

        later = algorithm_of(replace(config.search, algorithm="es", es=config.rounds.es), seed=0)
        return cls(
            algorithm=algorithm,
            scored=scored(algorithm),
            again=config.rounds.count * sum(scored(later).values()),
            population=max(algorithm.candidates(point) for point in evolved),
        )

    def times(self, config: RunConfig, images: int) -> float:
        """How often the search of that many images is done: for all solutions, with the comparison's images and later rounds,
        whose candidates cost about as much."""
        later = self.again / max(1, sum(self.scored.values()))
        return config.search.solutions * (1 + config.compare.images / images + later)

    def work(self, config: RunConfig, network: Stages, data: ImageData, images: int) -> Work:
        """Of all searches of that many images."""
        batches = even_batches(images, config.search.batch)

        def few(number: int) -> Work:
            return self._measured(config, network, data, number, torch.float32, counted)

        work = of_images(few, batches[0][1]) * (len(batches) * self.times(config, images))
        return replace(work, moved=work.moved * (1.0 if config.precision == "float32" else 0.5))

    def seconds(self, config: RunConfig, network: Stages, data: ImageData, images: int) -> float:
        """Of all searches of that many images, on the network's device."""
        widest = max(torch.Size(point.shape).numel() for point in search_points(network, data.image_shape))
        number = max(2, min(SAMPLE_IMAGES, len(data.train), SAMPLE_VALUES // (widest * self.population)))
        dtype, device = devices.search_dtype(config.precision), device_of(network)
        found = self._measured(config, network, data, number, dtype, lambda run: _seconds(run, device))
        return max(0.0, found) / number * images * self.times(config, images)

    def _measured(
        self,
        config: RunConfig,
        network: Stages,
        data: ImageData,
        number: int,
        dtype: torch.dtype,
        measure: Callable[[Computation], Any],
    ) -> Any:
        """What `measure` gives for the search of that many images: of few generations at each point, and what each further one
        adds, scaled to all of them."""
        sample, device = data.train.subset(torch.arange(number)), device_of(network)
        images, labels = sample.images.to(device), sample.labels.to(device)
        terms = terms_for(config.search, self.algorithm)
        judge = Judge(network, statistics=config.search.statistics, dtype=dtype, pilot=images, terms=terms)

        def searched(points: Sequence[str], generations: int = 0) -> int:
            budget = Budget(evaluations=generations * self.population)
            return search_batch(judge, images, labels, self.algorithm, seed=0, points=points, budget=budget).evaluations

        def measured(name: str, generations: int) -> tuple[Any, int]:
            made: list[int] = []
            return measure(lambda: made.append(searched([name], generations))), made[-1]

        searched([])  # the first time more is done, to see what works in place
        total = idle = measure(lambda: searched([]))
        for point in search_points(network, data.image_shape):
            if wanted := self.scored.get(point.index, 0):
                searched([point.name])  # the first time more is done here, too
                (first, made), (more, made_more) = (measured(point.name, generations) for generations in (1, 3))
                further = (more - first) * ((wanted - made) / (made_more - made)) if made_more > made else first * 0
                total += first - idle + further
        return total


def _within(most: int | None, algorithm: Algorithm, points: Sequence[SearchPoint], scored: dict[int, int]) -> dict[int, int]:
    """Candidates by search point where at most so many are scored in all, which the search divides by generations: whole ones, and
    at least one at each point (see `Budget`)."""
    planned = [algorithm.generations(point) for point in points]
    if most is None or not sum(planned):
        return scored
    found: dict[int, int] = {}
    for number, point in enumerate(points, 1):
        allowed = int(sum(planned[:number]) / sum(planned) * most) - sum(found.values())
        each, whole = max(1, algorithm.candidates(point)), scored[point.index]
        rest = whole % each  # what the last update has made is scored too
        found[point.index] = min(whole, max(1, (allowed - rest) // each) * each + rest)
    return found


@dataclass(frozen=True)
class Zeros:
    """Targets of these shapes, for a step that is only counted or timed."""

    shapes: Sequence[tuple[int, ...]]
    dtype: torch.dtype = torch.float32
    first_searched: int = 0

    def check(self, split: Split) -> None:
        """Any split."""

    def rows(self, positions: Tensor) -> list[Tensor]:
        """See `Targets`."""
        return [torch.zeros(len(positions), *shape, dtype=self.dtype, device=positions.device) for shape in self.shapes]


def training_work(config: RunConfig, networks: dict[int, Stages], data: ImageData, images: int) -> tuple[Work, Work]:
    """Of learning with the baselines, and of q0, on that many images; `networks`: on the CPU, by their ConvGroups."""
    own, q0 = networks[config.network.groups], config.q0

    def trained(network: Stages, objective: Objective, batch: int, epochs: float) -> Work:
        batches = even_batches(images, batch)
        work = of_images(lambda few: counted_step(network, objective, data.train, few), batches[0][1]) + UPDATE
        work *= len(batches) * epochs
        return replace(work, moved=work.moved * (0.5 if config.precision == "bfloat16" else 1.0))

    targets = Zeros(own.shapes(data.image_shape))
    learned = trained(own, regression(targets, config.learn, len(own) - 1), config.learn.batch, learned_epochs(config))
    for groups in config.baselines:
        learned += trained(networks[groups], cross_entropy(config.sgd), config.sgd.batch, config.sgd.epochs)
    teacher = own_copy(own).eval().requires_grad_(False) if q0.alpha else None
    objective = ChainObjective(ImageTask(data), teacher, q0.alpha, q0.temperature)
    return learned, trained(own, objective, q0.batch, config.trajectories * q0.epochs_before(q0.cycles))


def counted_step(network: Stages, objective: Objective, train: Split, images: int) -> Work:
    """The loss of that many images, and its gradient."""
    positions = torch.arange(images)
    rows: list[Tensor] = list(getattr(objective, "fetch", lambda positions: [])(positions))
    batch = Batch(positions, as_float(train.images[positions]), train.labels[positions], rows)
    network.train()
    network.zero_grad()  # gradients that are there would be added to
    objective(network, batch)  # the first time more is done, to see what works in place
    return counted(lambda: objective(network, batch).backward())


def training_seconds(config: RunConfig, networks: dict[int, Stages], data: ImageData, images: int) -> tuple[float, float]:
    """As `training_work`, on the networks' device."""
    own = networks[config.network.groups]
    targets = Zeros(own.shapes(data.image_shape))

    def timed(network: Stages, objective: Objective) -> float:
        return _time_step(config, network, data, objective) * images

    learned = learned_epochs(config) * timed(own, regression(targets, config.learn, len(own) - 1))
    learned += config.sgd.epochs * sum(timed(networks[groups], cross_entropy(config.sgd)) for groups in config.baselines)
    teaching = 1 + (1 / 3 if config.q0.alpha else 0)
    epochs = config.trajectories * config.q0.epochs_before(config.q0.cycles) * teaching
    return learned, epochs * timed(own, CrossEntropy())


def _time_step(config: RunConfig, network: Stages, data: ImageData, objective: Objective) -> float:
    """Seconds that a training step takes for one image."""
    train = data.train.subset(torch.arange(min(config.learn.batch, 64)) % len(data.train))
    optimizer = make_optimizer(network, config.learn, batch=len(train))
    batches = epoch_batches(len(train), len(train), seed=0, epoch=0)
    loop = Loop(network, optimizer, objective, config.learn.clip, config.precision)
    fetch = fetch_of(objective, device_of(network))
    loader = ImageLoader(network, train, fetch, augmentation=config.learn.augment, precision=config.precision, seed=0)

    def step() -> None:
        loop.epoch(loader, batches, before_step=lambda number: None, seed=0, what="calibration")

    return _seconds(step, device_of(network)) / len(train)


def _seconds(run: Computation, device: torch.device) -> float:
    """Median time of a run, after a warm-up."""
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])
