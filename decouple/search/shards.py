"""Search batches as jobs, done in this process or in others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from decouple.data.images import Split
from decouple.search.algorithm import Algorithm
from decouple.search.engine import Budget, search_batches
from decouple.search.judge import Judge
from decouple.search.store import Shard
from decouple.torch_state import device_of
from decouple.workers import Execution, Job, distribute


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


def search_all(
    plan: Plan,
    tasks: Sequence[ShardGroup],
    split: Split,
    keep: Callable[[ShardGroup, list[bytes]], None],
    *,
    execution: Execution,
    result_bytes: int,
) -> None:
    """Search every task, and `keep` the contents of each one's files here as they come; `decouple.workers.distribute` says what it
    raises."""
    device = device_of(plan.judge.network)
    if execution.distributed and device.type != "cpu":
        judge = copy.deepcopy(plan.judge)
        judge.network.cpu()
        plan = replace(plan, judge=judge)

    def job(task: ShardGroup) -> Job:
        name = f"searched {task.shards[0].path.parent.name}/{task.shards[0].path.stem}"
        return Job(name, lambda: (task, split.subset(range(*task.bounds))), partial(keep, task))

    mend = "--workers, --search.batch or the population"
    jobs = [job(task) for task in tasks]
    distribute(_search, plan, jobs, device=str(device), execution=execution, result_bytes=result_bytes, mend=mend)


def _search(plan: Plan, device: str, task: ShardGroup, images: Split) -> list[bytes]:
    """Runs in a worker, or here."""
    plan.judge.network.to(device)
    return plan.search(task, images)
