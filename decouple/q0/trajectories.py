"""A trajectory: cycles of training that each leave a snapshot, distilled from the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from decouple.config import Q0Config
from decouple.device import memory_for
from decouple.files import load_tensors, save_tensors, try_tensors
from decouple.networks.stages import trusting
from decouple.networks.state import load_state, on_cpu, own_copy, state_of
from decouple.q0.perturb import perturb_, perturbation_scale
from decouple.seeds import derive, generator
from decouple.tasks.base import Task, Teacher
from decouple.tensors import under
from decouple.torch_state import device_of, plain_torch
from decouple.training.batches import epoch_batches, even_batches
from decouple.training.loop import Loop
from decouple.training.optimizers import make_optimizer, set_rates
from decouple.training.processes import Group
from decouple.training.schedules import cyclic_multipliers
from decouple.training.state import pack_state, restore_state
from decouple.training.stream import Batch

PREFIX = "network."
"""Of the names of weights and buffers in a snapshot; the optimiser's state is beside them."""

State = tuple[dict[str, Tensor], Any]
"""What a snapshot holds: weights and buffers (`network.…`) with the optimiser's tensors, and the rest of its state as JSON."""


@dataclass(frozen=True)
class Snapshot:
    """Where the network at the end of a cycle is kept."""

    trajectory: int
    cycle: int
    path: Path
    unit: str

    def read(self) -> State:
        """What it holds. Raises DamagedFileError: missing, damaged or another unit's file."""
        return load_tensors(self.path, unit=self.unit)

    def write(self, state: State) -> None:
        """Keep `state`, whole or not at all."""
        save_tensors(self.path, *state, unit=self.unit)

    def weights(self) -> dict[str, Tensor]:
        """The network's state; raises as `read` does."""
        return weights_in(self.read())

    def load_into(self, network: nn.Module) -> None:
        """Give `network` this snapshot's weights."""
        load_state(network, self.weights())

    def is_whole(self) -> bool:
        """Whether the file is there and its checksum and identity are right."""
        return try_tensors(self.path, unit=self.unit) is not None


@dataclass(frozen=True)
class ChainObjective:
    """The task's loss, mixed with the divergence from the preceding snapshot once there is one to learn from."""

    task: Task
    teacher: Teacher | None
    alpha: float
    temperature: float
    compiled: nn.Module | None = None
    """The network that is trained, compiled."""

    def networks(self) -> list[nn.Module] | None:
        """See `Capturable`; what torch.compile has made may be graphs already."""
        ours = type(self.task).__module__.startswith("decouple.") and self.compiled is None
        if not ours or not isinstance(self.teacher, nn.Module | None):
            return None
        return [] if self.teacher is None else [self.teacher]

    def __call__(self, network: nn.Module, batch: Batch) -> Tensor:
        network = self.compiled or network
        if self.teacher is None:
            return self.task.loss(network, batch)
        return self.task.distillation_loss(network, self.teacher, batch, alpha=self.alpha, temperature=self.temperature)


@dataclass(frozen=True)
class Chain:
    """What the cycles of a trajectory share; it can be sent to another process."""

    network: nn.Module
    """What the trajectory starts from; never changed."""
    task: Task
    config: Q0Config
    seed: int
    """Of this trajectory."""
    precision: str = "float32"
    compile: bool = False
    """Train a network compiled by torch.compile."""

    @memory_for("a training step of q0", "--q0.batch or --network.width")
    def cycle(
        self, number: int, before: State | None, group: Group, advance: Callable[[int], None] = lambda epochs: None
    ) -> tuple[State, list[float]]:
        """Train cycle `number`: it depends on the snapshot before it and on nothing else that came earlier.

        The teacher is the preceding snapshot, in eval mode and without gradient, once `distill_after` are there. The student
        begins at the same weights, with noise on them if `perturb` asks for it, and keeps the optimiser's state; with
        `restart` = "new" it is a new network.

        Args:
            before: what the preceding snapshot holds; None for cycle 0.

        Returns:
            What the snapshot is to hold, on the CPU; the mean loss of each epoch."""
        config = self.config
        network = own_copy(self.network).to(group.device)
        optimizer = undecayed(network, self.task, config)
        teacher = None
        if before is not None:
            load_state(network, weights_in(before))
            if config.alpha > 0 and number >= config.distill_after:
                teacher = own_copy(network).eval().requires_grad_(False)
            if config.restart == "new":
                network.load_state_dict(self.task.build(derive(self.seed, "restart", number)).state_dict())
            else:
                self._go_on(number, before, network, optimizer)
        objective = ChainObjective(
            self.task,
            _compiled(teacher) if self.compile and teacher is not None else teacher,
            config.alpha,
            config.temperature,
            _compiled(network) if self.compile else None,
        )
        with trusting(*([] if teacher is None else [teacher])), group.sharing(network, objective, number) as shared:
            loop = Loop(network, optimizer, shared, config.clip, self.precision, group)
            losses = train_cycle(loop, self.task, config, number, self.seed, f"q0, cycle {number + 1}", advance)
        weights = {f"{PREFIX}{name}": value for name, value in on_cpu(state_of(network)).items()}
        kept, rest = pack_state(optimizer)
        return (weights | {name: value.cpu() for name, value in kept.items()}, rest), losses

    def _go_on(self, number: int, before: State, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        config = self.config
        if before[1] is not None:  # or the trajectory starts here, from a network that was trained elsewhere
            restore_state(optimizer, *before)
        if config.perturb > 0:
            scale = perturbation_scale(
                number, config.cycles, first=config.perturb, last=config.perturb * config.perturb_last
            )
            perturb_(network, scale, generator(self.seed, "perturb", number))


def undecayed(network: nn.Module, task: Task, config: Q0Config) -> torch.optim.Optimizer:
    """The optimiser of cycles, which decay the weights themselves."""
    return make_optimizer(
        network, replace(config, weight_decay=0.0), batch=config.batch, hidden=task.muon_parameters(network)
    )


def train_cycle(
    loop: Loop, task: Task, config: Q0Config, number: int, seed: int, what: str, advance: Callable[[int], None]
) -> list[float]:
    """Take the steps of cycle `number`; returns the mean loss of each epoch.

    Learning rate and weight decay go in anti-phase (`cyclic_multipliers`); the decay is decoupled: a step shrinks the weights by
    lr · decay."""
    parameters = [p.data for p in loop.network.parameters() if p.requires_grad]
    batch = batch_of(config, number)
    steps, peaks = len(even_batches(task.examples, batch)), [config.lr] * len(loop.optimizer.param_groups)
    epochs, losses = config.epochs_in(number), []
    for epoch in range(epochs):

        def before_step(step: int, first: int = epoch * steps) -> None:
            lr, decay = multipliers(config, first + step, epochs * steps)
            set_rates(loop.optimizer, peaks, lr)
            torch._foreach_mul_(parameters, 1 - config.lr * lr * config.weight_decay * decay)

        done = config.epochs_before(number) + epoch
        loss = loop.epoch(
            task.loader(loop.network, precision=loop.precision, seed=seed, epoch=done, group=loop.group),
            epoch_batches(task.examples, batch, seed=seed, epoch=done),
            before_step=before_step,
            seed=derive(seed, "epoch", done),
            what=f"{what}, epoch {epoch + 1}",
        )
        losses.append(loss)
        advance(1)
    return losses


def _compiled(network: nn.Module) -> nn.Module:
    return cast(nn.Module, torch.compile(network))


def weights_in(state: State) -> dict[str, Tensor]:
    """The network's state among what a snapshot holds."""
    return under(state[0], PREFIX)


def multipliers(config: Q0Config, step: int, cycle_steps: int) -> tuple[float, float]:
    """`cyclic_multipliers` as the settings have them."""
    return cyclic_multipliers(
        step,
        cycle_steps,
        lr_floor=config.lr_floor,
        wd_floor=config.wd_floor,
        warmup=config.warmup,
        warmdown=config.warmdown,
        shape=config.shape,
    )


def batch_of(config: Q0Config, cycle: int) -> int:
    """Images a step in a cycle: `batch` in the middle half of the cycles, `batch_edges` of it before and after.

    >>> [batch_of(Q0Config(batch=100, batch_edges=0.75, cycles=8), cycle) for cycle in range(8)]
    [75, 75, 100, 100, 100, 100, 75, 75]
    """
    edge = 4 * cycle < config.cycles or 4 * cycle >= 3 * config.cycles
    return max(2, round(config.batch_edges * config.batch)) if edge else config.batch


def gradient_steps(config: Q0Config, images: int) -> int:
    """Steps of a whole trajectory."""
    return sum(
        config.epochs_in(cycle) * len(even_batches(images, batch_of(config, cycle))) for cycle in range(config.cycles)
    )


def snapshots_of(
    config: Q0Config, folder: Path, *, trajectory: int, seed: int, identity: str, origin: str = ""
) -> list[Snapshot]:
    """The snapshots that a trajectory consists of; `origin`: what its name ends in, where its number does not tell
    what it starts from."""
    name = f"trajectory-{trajectory}{origin}"
    return [
        Snapshot(
            trajectory,
            cycle,
            Path(folder) / name / f"cycle-{cycle:03d}.safetensors",
            f"q0/{identity}/seed-{seed}/{name}/cycle-{cycle}",
        )
        for cycle in range(config.cycles)
    ]


def missing_from(snapshots: Sequence[Snapshot]) -> int:
    """The first cycle whose snapshot is not there or not whole; their number if all are."""
    return next((i for i, snapshot in enumerate(snapshots) if not snapshot.is_whole()), len(snapshots))


@plain_torch()
def train_trajectory(
    chain: Chain,
    snapshots: Sequence[Snapshot],
    *,
    group: Group | None = None,
    advance: Callable[[int], None] = lambda epochs: None,
    log: Callable[[int, int, float], None] = lambda cycle, epoch, loss: None,
) -> None:
    """Run the cycles whose snapshots are not there yet, from the last one that is.

    Args:
        snapshots: from `snapshots_of`; on a disk that all processes see.
        group: the processes that share every step, each with its device; None: those of `torch.distributed` where it is initialised,
            or else this one, on the network's device.
        advance: called with the number of epochs that are done.
        log: called by the first process with cycle, epoch in the cycle and mean loss, once a cycle is kept.

    Raises:
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
        MemoryLimitError: the device's memory does not suffice.
    """
    group = group or Group.current(device_of(chain.network))
    done = missing_from(snapshots)
    group.wait()  # before anyone writes what another still looks for
    advance(chain.config.epochs_before(done))
    for number in range(done, len(snapshots)):
        before = snapshots[number - 1].read() if number else None
        state, losses = chain.cycle(number, before, group, advance)
        if group.first:
            snapshots[number].write(state)
            for epoch, loss in enumerate(losses):
                log(number, epoch, loss)
        group.wait()
