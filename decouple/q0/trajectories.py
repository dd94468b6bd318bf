"""A trajectory: cycles of training that each leave a snapshot, distilled from the one before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from decouple.config import Q0Config
from decouple.data.images import Split
from decouple.files import load_tensors, save_tensors, try_tensors
from decouple.networks.stages import Stages
from decouple.q0.distill import distillation_loss
from decouple.q0.perturb import perturb_, perturbation_scale
from decouple.q0.schedule import cyclic_multipliers
from decouple.seeds import derive, generator
from decouple.training.batches import epoch_batches, even_batches
from decouple.training.loop import train_epoch
from decouple.training.optimizer import momentum_buffers, restore_momentum


@dataclass(frozen=True)
class Snapshot:
    """Where the network at the end of a cycle is kept."""

    trajectory: int
    cycle: int
    path: Path
    unit: str

    def read(self) -> dict[str, Tensor]:
        """Weights (`network.…`) and momentum (`momentum.…`).

        Raises:
            DamagedFileError: missing, damaged or another unit's file.
        """
        return load_tensors(self.path, unit=self.unit)[0]

    def load_into(self, network: nn.Module) -> None:
        """Give `network` this snapshot's weights."""
        prefix = "network."
        weights = {name.removeprefix(prefix): v for name, v in self.read().items() if name.startswith(prefix)}
        network.load_state_dict(weights)

    def is_whole(self) -> bool:
        """Whether the file is there and its checksum and identity are right."""
        return try_tensors(self.path, unit=self.unit) is not None


@dataclass(frozen=True)
class ChainObjective:
    """Cross-entropy, mixed with the divergence from the preceding snapshot once there is one to learn from."""

    teacher: Stages | None
    alpha: float
    temperature: float

    def __call__(self, network: Stages, images: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        logits = network(images).float()
        if self.teacher is None:
            return torch.nn.functional.cross_entropy(logits, labels)
        with torch.no_grad():
            taught = self.teacher(images).float()
        return distillation_loss(logits, taught, labels, alpha=self.alpha, temperature=self.temperature)


def snapshots_of(config: Q0Config, folder: Path, *, trajectory: int, seed: int, identity: str) -> list[Snapshot]:
    """The snapshots that a trajectory consists of."""
    return [
        Snapshot(
            trajectory,
            cycle,
            Path(folder) / f"trajectory-{trajectory}" / f"cycle-{cycle:03d}.safetensors",
            f"q0/{identity}/seed-{seed}/trajectory-{trajectory}/cycle-{cycle}",
        )
        for cycle in range(config.cycles)
    ]


def train_trajectory(
    network: Stages,
    train: Split,
    config: Q0Config,
    snapshots: list[Snapshot],
    *,
    seed: int,
    precision: str = "float32",
    advance: Callable[[int], None] = lambda epochs: None,
    log: Callable[[int, int, float], None] = lambda cycle, epoch, loss: None,
) -> None:
    """Run the cycles whose snapshots are not there yet, from `network`, which is changed.

    Each cycle: learning rate and weight decay in anti-phase (`cyclic_multipliers`), decoupled decay (a step shrinks the
    weights by lr · decay), one optimiser for the whole trajectory, distillation from the immediate predecessor once
    `distill_after` snapshots are there, and optionally noise on the weights after each snapshot but the last.

    Args:
        network: what the trajectory starts from, on the device to train on.
        snapshots: from `snapshots_of`.
        seed: of this trajectory.
        advance: called with 1 after each epoch.
        log: called with cycle, epoch in the cycle and mean loss.

    Raises:
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    batches_per_epoch = len(even_batches(len(train), config.batch))
    cycle_steps = config.epochs * batches_per_epoch
    done = next((i for i, snapshot in enumerate(snapshots) if not snapshot.is_whole()), len(snapshots))
    advance(done * config.epochs)
    if 0 < done < len(snapshots):
        snapshots[done - 1].load_into(network)
        restore_momentum(optimizer, snapshots[done - 1].read())

    for cycle in range(done, len(snapshots)):
        teacher = None
        if config.alpha > 0 and cycle >= config.distill_after:
            teacher = copy.deepcopy(network).eval().requires_grad_(False)
        if config.perturb > 0 and cycle > 0:
            scale = perturbation_scale(cycle, len(snapshots), first=config.perturb, last=config.perturb / 5)
            perturb_(network, scale, generator(seed, "perturb", cycle))
        objective = ChainObjective(teacher, config.alpha, config.temperature)
        for epoch in range(config.epochs):

            def set_rates(step: int, first: int = epoch * batches_per_epoch) -> None:
                lr, decay = cyclic_multipliers(first + step, cycle_steps, lr_floor=config.lr_floor, wd_floor=config.wd_floor)
                optimizer.param_groups[0]["lr"] = config.lr * lr
                torch._foreach_mul_([p.data for p in parameters], 1 - config.lr * lr * config.weight_decay * decay)

            number = cycle * config.epochs + epoch
            loss = train_epoch(
                network,
                optimizer,
                train,
                epoch_batches(len(train), config.batch, seed=seed, epoch=number),
                objective,
                before_step=set_rates,
                clip=config.clip,
                augmentation=config.augment,
                precision=precision,
                seed=derive(seed, "epoch", number),
                what=f"q0, cycle {cycle + 1}, epoch {epoch + 1}",
            )
            log(cycle, epoch, loss)
            advance(1)
        weights = {f"network.{name}": value for name, value in network.state_dict().items()}
        save_tensors(snapshots[cycle].path, weights | momentum_buffers(optimizer), {}, unit=snapshots[cycle].unit)
