"""Trajectories side by side in worker processes, cycle by cycle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from decouple.q0.trajectories import Chain, Snapshot, State, missing_from
from decouple.training.processes import Group
from decouple.workers import Execution, Job, distribute


def distribute_trajectories(
    chains: Sequence[Chain],
    snapshots: Sequence[Sequence[Snapshot]],
    *,
    execution: Execution,
    advance: Callable[[int], None],
    log: Callable[[int, int, int, float], None],
) -> None:
    """What `train_trajectory` does for each chain, several at a time. A worker that dies costs one cycle.

    Args:
        chains: what the trajectories start from, on the device that says what workers compute on.
        snapshots: those of each chain, at least one of them missing.
        log: called with the chain's position, cycle, epoch in the cycle and mean loss.
        execution: as in `decouple.workers.distribute`, which says what it raises."""
    device = next(chains[0].network.parameters()).device.type
    for chain in chains:
        chain.network.cpu()

    def job(position: int, number: int, before: State | None) -> Job:
        snapshot, chain = snapshots[position][number], chains[position]

        def keep(made: tuple[State, list[float]]) -> tuple[Job, ...]:
            state, losses = made
            snapshot.write(state)
            advance(chain.config.epochs_in(number))
            for epoch, loss in enumerate(losses):
                log(position, number, epoch, loss)
            return (job(position, number + 1, state),) if number + 1 < len(snapshots[position]) else ()

        return Job(
            f"trained cycle {number + 1} of trajectory {snapshot.trajectory + 1}", lambda: (position, number, before), keep
        )

    jobs = []
    for position, own in enumerate(snapshots):
        done = missing_from(own)
        advance(chains[position].config.epochs_before(done))
        if done < len(own):
            jobs.append(job(position, done, own[done - 1].read() if done else None))
    size = 3 * sum(value.nbytes for value in chains[0].network.state_dict().values())
    mend = "--workers or --q0.batch"
    distribute(_cycle, tuple(chains), jobs, device=device, execution=execution, result_bytes=size, mend=mend)


def _cycle(
    chains: tuple[Chain, ...], device: str, position: int, number: int, before: State | None
) -> tuple[State, list[float]]:
    """Runs in a worker."""
    return chains[position].cycle(number, before, Group(torch.device(device)))
