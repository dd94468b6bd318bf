"""What one search batch takes to be searched, in this process or in another."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from decouple.data.images import Split
from decouple.loggers import LoggerLike
from decouple.search.algorithm import Algorithm
from decouple.search.engine import Budget, search_batch
from decouple.search.judge import Judge
from decouple.search.store import Shard
from decouple.torch_state import device_of


@dataclass(frozen=True)
class Execution:
    """How to search: nothing here decides a result."""

    workers: int = 1
    """Processes that search at once; more than one are Ray's."""
    ray_address: str | None = None
    """A Ray cluster that is there already, to search on in place of this machine: "host:port" or "auto"."""
    factored: bool = True
    """Whether candidates that share directions go through the network as these (see `decouple.networks.factored`), which differs by
    rounding; False: each by itself."""
    logger: LoggerLike = None
    """Told the cross-entropy of the logits and the share of images solved, at the last search point, of each batch, by the number
    of images up to its end; a `decouple.Progress` shows a bar."""

    @property
    def distributed(self) -> bool:
        return self.workers > 1 or self.ray_address is not None


@dataclass(frozen=True)
class Task:
    """One shard that is not there yet."""

    shard: Shard
    solution: int
    """Position in the plan's algorithms."""
    seed: int

    @property
    def images(self) -> int:
        return self.shard.bounds[1] - self.shard.bounds[0]


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

    def search(self, task: Task, searched: Split) -> bytes:
        """The contents of the task's file, for the images that its shard is of; on the judge's device. Raises
        NotFiniteError: the network's own output is not finite for some image."""
        device = device_of(self.judge.network)
        result = search_batch(
            self.judge,
            searched.images.to(device),
            searched.labels.to(device),
            self.algorithms[task.solution],
            seed=task.seed,
            budget=self.budget,
            points=self.points,
        )
        return task.shard.contents(result, searched, self.dtype)
