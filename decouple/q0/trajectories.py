"""A trajectory: cycles of training that each leave a snapshot, distilled from the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from decouple.config import Q0Config
from decouple.data.images import Split
from decouple.files import load_tensors, pack_tensors, try_tensors, write_bytes
from decouple.networks.stages import Stages
from decouple.networks.state import load_state, on_cpu, own_copy, state_of
from decouple.q0.distill import distillation_loss
from decouple.q0.optimizers import optimizer_of, restore_state, set_lr, state_tensors
from decouple.q0.perturb import perturb_, perturbation_scale
from decouple.q0.schedule import cyclic_multipliers
from decouple.seeds import derive, generator
from decouple.torch_state import plain_torch
from decouple.training.batches import epoch_batches, even_batches
from decouple.training.loop import train_epoch
from decouple.training.stream import Batch

PREFIX = "network."
"""Of the names of weights and buffers in a snapshot; the optimiser's state is beside them."""


@dataclass(frozen=True)
class Snapshot:
    """Where the network at the end of a cycle is kept."""

    trajectory: int
    cycle: int
    path: Path
    unit: str

    def read(self) -> dict[str, Tensor]:
        """Weights and buffers (`network.…`), and the optimiser's state.

        Raises:
            DamagedFileError: missing, damaged or another unit's file.
        """
        return load_tensors(self.path, unit=self.unit)[0]

    def weights(self) -> dict[str, Tensor]:
        """The network's state alone; raises as `read` does."""
        return weights_in(self.read())

    def load_into(self, network: nn.Module) -> None:
        """Give `network` this snapshot's weights."""
        load_state(network, self.weights())

    def is_whole(self) -> bool:
        """Whether the file is there and its checksum and identity are right."""
        return try_tensors(self.path, unit=self.unit) is not None


@dataclass(frozen=True)
class ChainObjective:
    """Cross-entropy, mixed with the divergence from the preceding snapshot once there is one to learn from."""

    teacher: Stages | None
    alpha: float
    temperature: float

    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        logits = network(batch.images).float()
        if self.teacher is None:
            return torch.nn.functional.cross_entropy(logits, batch.labels)
        with torch.no_grad():
            taught = self.teacher(batch.images).float()
        return distillation_loss(logits, taught, batch.labels, alpha=self.alpha, temperature=self.temperature)


@dataclass(frozen=True)
class Chain:
    """What the cycles of a trajectory share; it can be sent to another process."""

    network: Stages
    """What the trajectory starts from; never changed."""
    config: Q0Config
    seed: int
    """Of this trajectory."""
    precision: str = "float32"

    def cycle(
        self,
        number: int,
        before: Mapping[str, Tensor] | None,
        train: Split,
        device: torch.device | str,
        advance: Callable[[int], None] = lambda epochs: None,
    ) -> tuple[dict[str, Tensor], list[float]]:
        """Train cycle `number`: it depends on the snapshot before it and on nothing else that came earlier.

        Learning rate and weight decay go in anti-phase (`cyclic_multipliers`); the decay is decoupled (a step shrinks the
        weights by lr · decay). The teacher is the preceding snapshot, in eval mode and without gradient, once
        `distill_after` are there; the student begins at the same weights, with noise on them if `perturb` says so. The
        optimiser's state goes on.

        Args:
            before: what the preceding snapshot holds; None for cycle 0.
            device: to train on.
            advance: called with 1 after each epoch.

        Returns:
            What the snapshot is to hold, on the CPU; the mean loss of each epoch.

        Raises:
            NotFiniteError: a loss or gradient became NaN or infinite; names the step.
        """
        config = self.config
        network = own_copy(self.network).to(device)
        if before is not None:
            load_state(network, weights_in(before))
        optimizer = optimizer_of(network, config)
        teacher = None
        if before is not None:
            restore_state(optimizer, before)
            if config.alpha > 0 and number >= config.distill_after:
                teacher = own_copy(network).eval().requires_grad_(False)
            if config.perturb > 0:
                scale = perturbation_scale(
                    number, config.cycles, first=config.perturb, last=config.perturb * config.perturb_last
                )
                perturb_(network, scale, generator(self.seed, "perturb", number))
        objective = ChainObjective(teacher, config.alpha, config.temperature)
        parameters = [p.data for p in network.parameters() if p.requires_grad]
        batch = batch_of(config, number)
        epoch_steps = len(even_batches(len(train), batch))
        epochs, losses = config.epochs_in(number), []
        for epoch in range(epochs):

            def set_rates(step: int, first: int = epoch * epoch_steps) -> None:
                lr, decay = multipliers(config, first + step, epochs * epoch_steps)
                set_lr(optimizer, config.lr * lr)
                torch._foreach_mul_(parameters, 1 - config.lr * lr * config.weight_decay * decay)

            stream = config.epochs_before(number) + epoch
            loss = train_epoch(
                network,
                optimizer,
                train,
                epoch_batches(len(train), batch, seed=self.seed, epoch=stream),
                objective,
                before_step=set_rates,
                clip=config.clip,
                augmentation=config.augment,
                precision=self.precision,
                seed=derive(self.seed, "epoch", stream),
                what=f"q0, cycle {number + 1}, epoch {epoch + 1}",
            )
            losses.append(loss)
            advance(1)
        weights = {f"{PREFIX}{name}": value for name, value in on_cpu(state_of(network)).items()}
        return weights | {name: value.detach().cpu() for name, value in state_tensors(optimizer).items()}, losses


def weights_in(contents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's state among what a snapshot holds."""
    return {name.removeprefix(PREFIX): value for name, value in contents.items() if name.startswith(PREFIX)}


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


def missing_from(snapshots: Sequence[Snapshot]) -> int:
    """The first cycle whose snapshot is not there or not whole; their number if all are."""
    return next((i for i, snapshot in enumerate(snapshots) if not snapshot.is_whole()), len(snapshots))


@plain_torch()
def train_trajectory(
    chain: Chain,
    train: Split,
    snapshots: Sequence[Snapshot],
    *,
    device: torch.device | str | None = None,
    advance: Callable[[int], None] = lambda epochs: None,
    log: Callable[[int, int, float], None] = lambda cycle, epoch, loss: None,
) -> None:
    """Run the cycles whose snapshots are not there yet, from the last one that is.

    Args:
        snapshots: from `snapshots_of`.
        device: default: the network's.
        advance: called with the number of epochs that are done.
        log: called with cycle, epoch in the cycle and mean loss, once a cycle is kept.

    Raises:
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
    """
    place = device or next(chain.network.parameters()).device
    done = missing_from(snapshots)
    advance(chain.config.epochs_before(done))
    for number in range(done, len(snapshots)):
        before = snapshots[number - 1].read() if number else None
        contents, losses = chain.cycle(number, before, train, place, advance)
        write_bytes(snapshots[number].path, pack_tensors(contents, {}, unit=snapshots[number].unit))
        for epoch, loss in enumerate(losses):
            log(number, epoch, loss)
