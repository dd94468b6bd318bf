"""A search spread over worker processes, batch by batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from decouple.data.images import Split
from decouple.search.shards import Execution, Plan, ShardGroup
from decouple.torch_state import device_of
from decouple.workers import Job, distribute, prepare

__all__ = ["distribute_search", "prepare"]

Keep = Callable[[ShardGroup, list[bytes]], None]
"""What is done with the contents of a task's files, in this process."""


def distribute_search(
    plan: Plan, tasks: Sequence[ShardGroup], split: Split, keep: Keep, *, execution: Execution, result_bytes: int
) -> None:
    """Search every task, and `keep` each here as it comes; `decouple.workers.distribute` says what it raises."""
    device = device_of(plan.judge.network).type
    if device != "cpu":
        judge = copy.deepcopy(plan.judge)
        judge.network.cpu()
        plan = replace(plan, judge=judge)

    def job(task: ShardGroup) -> Job:
        name = f"searched {task.shards[0].path.parent.name}/{task.shards[0].path.stem}"
        return Job(name, lambda: (task, split.subset(range(*task.bounds))), partial(keep, task))

    distribute(
        _search,
        plan,
        [job(task) for task in tasks],
        device=device,
        workers=execution.workers,
        address=execution.ray_address,
        result_bytes=result_bytes,
        mend="--workers, --search.batch or the population",
    )


def _search(plan: Plan, device: str, task: ShardGroup, images: Split) -> list[bytes]:
    """Runs in a worker."""
    plan.judge.network.to(device)
    return plan.search(task, images)
