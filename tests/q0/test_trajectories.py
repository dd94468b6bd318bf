"""A trajectory: a cycle depends on the snapshot before it alone, so stopping, resuming and other processes change nothing."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from decouple.config import Q0Config
from decouple.data import ImageData
from decouple.errors import DamagedFileError
from decouple.networks import Stages
from decouple.q0.trajectories import (
    Chain,
    Snapshot,
    State,
    batch_of,
    gradient_steps,
    missing_from,
    multipliers,
    snapshots_of,
    train_trajectory,
    weights_in,
)
from decouple.tasks import ImageTask
from decouple.training.processes import Group

CONFIG = Q0Config(cycles=3, epochs=1, batch=24, alpha=0.45, perturb=0.1, augment="crop")


def task_of(data: ImageData) -> ImageTask:
    return ImageTask(data, CONFIG.augment)


def chains(network: Stages, task: ImageTask, config: Q0Config = CONFIG, count: int = 2) -> list[Chain]:
    return [Chain(network, task, config, seed) for seed in range(count)]


def places(folder: Path, config: Q0Config = CONFIG, trajectory: int = 0) -> list[Snapshot]:
    return snapshots_of(config, folder, trajectory=trajectory, seed=0, identity="same")


def contents(snapshots: list[Snapshot]) -> list[bytes]:
    return [snapshot.path.read_bytes() for snapshot in snapshots]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_resumed_after_any_cycle_the_snapshots_are_the_same(
    network: Stages, data: ImageData, tmp_path: Path, optimizer: Any
) -> None:
    config = replace(CONFIG, optimizer=optimizer, lr=0.1 if optimizer == "sgd" else 0.003, batch_edges=0.75)
    chain, before = Chain(network, task_of(data), config, 0), {name: v.clone() for name, v in network.state_dict().items()}
    whole, resumed = places(tmp_path / "whole", config), places(tmp_path / "resumed", config)
    done: list[int] = []
    train_trajectory(chain, whole, advance=done.append)
    assert sum(done) == 3
    for cycle in (1, 2, 3):
        done.clear()
        train_trajectory(chain, resumed[:cycle], advance=done.append)
        assert sum(done) == cycle
    assert contents(resumed) == contents(whole)
    assert all(torch.equal(v, before[name]) for name, v in network.state_dict().items()), "the start is not changed"


def test_cycles_done_elsewhere_make_the_same_snapshots(
    network: Stages, data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers do them: here each in its turn, on copies. With Ray's own processes, see the tests of runs."""
    from decouple.q0.workers import distribute_trajectories
    from decouple.workers import Execution

    def distribute(function: Any, shared: Any, jobs: Any, *, device: str, **limits: Any) -> None:
        waiting, sent = list(jobs), pickle.dumps(shared)
        while waiting:
            job = waiting.pop()
            waiting += job.keep(function(pickle.loads(sent), device, *pickle.loads(pickle.dumps(job.arguments()))))  # noqa: S301

    monkeypatch.setattr("decouple.q0.workers.distribute", distribute)
    logged: list[tuple[int, int, int]] = []
    one = [places(tmp_path / "one", trajectory=t) for t in range(2)]
    two = [places(tmp_path / "two", trajectory=t) for t in range(2)]
    for chain, own in zip(chains(network, task_of(data)), one, strict=True):
        train_trajectory(chain, own)
    train_trajectory(chains(network, task_of(data))[1], two[1][:1])  # where another process went on
    done: list[int] = []
    distribute_trajectories(
        chains(network, task_of(data)),
        two,
        execution=Execution(2),
        advance=done.append,
        log=lambda *entry: logged.append(entry[:3]),
    )
    assert [contents(own) for own in two] == [contents(own) for own in one]
    assert sum(done) == 6
    assert sorted(logged) == [(0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 1, 0), (1, 2, 0)]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "swapped"])
def test_a_tampered_snapshot_is_refused_by_name(network: Stages, data: ImageData, tmp_path: Path, damage: str) -> None:
    snapshots = places(tmp_path)
    train_trajectory(chains(network, task_of(data))[0], snapshots)
    path = snapshots[1].path
    whole = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(whole[:-5])
    elif damage == "flipped":
        whole[-9] ^= 4
        path.write_bytes(whole)
    else:
        path.write_bytes(snapshots[0].path.read_bytes())
    with pytest.raises(DamagedFileError, match=r"trajectory-0/cycle-001\.safetensors"):
        snapshots[1].load_into(network)
    assert missing_from(snapshots) == 1


def test_the_teacher_is_the_snapshot_before_the_perturbation_in_eval_mode(
    network: Stages, data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[Stages | None] = []
    import decouple.q0.trajectories as module

    objective = module.ChainObjective

    def spy(task: ImageTask, teacher: Stages | None, *rest: Any) -> Any:
        taught.append(teacher)
        return objective(task, teacher, *rest)

    monkeypatch.setattr(module, "ChainObjective", spy)
    chain = Chain(network, task_of(data), replace(CONFIG, distill_after=2, cycles=4), 0)
    before: State | None = None
    for number in range(3):
        given = before
        before, _ = chain.cycle(number, before, Group())
    assert taught[:2] == [None, None]
    teacher = taught[2]
    assert teacher is not None
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert given is not None
    # After a cycle of training its weights and BatchNorm averages are still those of the snapshot.
    assert all(torch.equal(value, weights_in(given)[name]) for name, value in teacher.state_dict().items())


def test_the_batch_is_smaller_at_both_ends_of_a_trajectory() -> None:
    config = replace(CONFIG, batch=40, batch_edges=0.5, cycles=4)
    assert [batch_of(config, cycle) for cycle in range(4)] == [20, 40, 40, 20]
    assert [batch_of(replace(config, batch_edges=1.0), cycle) for cycle in range(4)] == [40] * 4
    assert batch_of(replace(config, cycles=1), 0) == 20
    assert gradient_steps(config, 80) == 4 + 2 + 2 + 4


def test_the_settings_reach_the_schedule() -> None:
    config = replace(CONFIG, shape="cosine", warmup=0.2, warmdown=0.3, lr_floor=0.1, wd_floor=0.5)
    lr = [multipliers(config, step, 10)[0] for step in range(10)]
    assert lr[0] == 0.1
    assert lr[2] == 1.0
    assert min(lr) == lr[-1] < 0.1
    assert multipliers(config, 2, 10)[1] == 0.5
