"""What one search batch takes to be searched, in this process or in another."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from decouple.data.images import Split
from decouple.errors import ConfigError
from decouple.loggers import LoggerLike
from decouple.search.algorithm import Algorithm
from decouple.search.engine import Budget, search_batches
from decouple.search.judge import Judge
from decouple.search.store import Shard
from decouple.tensors import whole_number
from decouple.torch_state import device_of


@dataclass(frozen=True)
class Execution:
    """How work is carried out. It changes results at most by rounding. Raises ConfigError: workers are no whole number from 1 on."""

    workers: int = 1
    """Number of processes that search in parallel; more than one run in Ray."""
    ray_address: str | None = None
    """Existing Ray cluster to search on instead of this machine: "host:port" or "auto"."""
    factored: bool = True
    """Pass the directions that candidates share through affine layers, instead of every candidate (see `decouple.networks.factored`).
    Results differ by rounding."""
    logger: LoggerLike = None
    """Gets, after each batch, the mean cross-entropy and the share of images solved at the last search point; the step is the
    position of the batch's last image, from 1. A `decouple.Progress` shows a bar."""

    def __post_init__(self) -> None:
        workers = whole_number(self.workers, "workers")
        if workers < 1:
            raise ConfigError(f"workers = {workers}: expected at least 1; give --workers another value")
        object.__setattr__(self, "workers", workers)

    @property
    def distributed(self) -> bool:
        return self.workers > 1 or self.ray_address is not None


@dataclass(frozen=True)
class ShardGroup:
    """Neighbouring shards that are searched together; not all of them are there yet."""

    shards: tuple[Shard, ...]
    solution: int
    """Position in the plan's algorithms."""
    seed: int

    @property
    def bounds(self) -> tuple[int, int]:
        return self.shards[0].bounds[0], self.shards[-1].bounds[1]

    @property
    def images(self) -> int:
        start, end = self.bounds
        return end - start


@dataclass(frozen=True)
class Plan:
    """What all tasks of a search share."""

    judge: Judge
    algorithms: tuple[Algorithm, ...]
    """By solution."""
    budget: Budget
    dtype: torch.dtype
    """Of the stored targets."""
    points: str | tuple[str, ...]
    """What is evolved: `SearchConfig.points`."""

    def search(self, task: ShardGroup, searched: Split) -> list[bytes]:
        """The contents of the task's files, for the images that its shards are of; on the judge's device. Raises
        NotFiniteError: the network's own output is not finite for some image."""
        device, first = device_of(self.judge.network), task.bounds[0]
        parts = [searched.subset(range(shard.bounds[0] - first, shard.bounds[1] - first)) for shard in task.shards]
        results = search_batches(
            self.judge,
            [(part.images.to(device), part.labels.to(device)) for part in parts],
            self.algorithms[task.solution],
            seed=task.seed,
            budget=self.budget,
            points=self.points,
        )
        return [
            shard.contents(result, part, self.dtype) for shard, result, part in zip(task.shards, results, parts, strict=True)
        ]
