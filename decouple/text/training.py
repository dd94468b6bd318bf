"""A trajectory on text: cycles of training that each leave a snapshot, distilled from the one before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from decouple import device as devices
from decouple.config import TextConfig
from decouple.errors import DataError, NotFiniteError
from decouple.files import save_tensors
from decouple.group import Group
from decouple.q0.distill import IGNORED, distillation_loss
from decouple.q0.optimizers import forget, restore_state, set_lr, state_tensors
from decouple.q0.perturb import perturb_, perturbation_scale
from decouple.q0.schedule import cyclic_multipliers
from decouple.q0.trajectories import Snapshot
from decouple.seeds import derive, generator
from decouple.text.gpt import Gpt
from decouple.text.optimizers import optimizer_of
from decouple.text.stream import Part
from decouple.torch_state import torch_defaults
from decouple.training.batches import epoch_batches, even_batches


class Steps:
    """A step's loss and gradient: cross-entropy, or mixed with the divergence from a teacher."""

    def __init__(self, network: Gpt, student: nn.Module, teacher: nn.Module, config: TextConfig, group: Group) -> None:
        self._network, self._student, self._teacher = network, student, teacher
        self._config, self._group = config, group

    def __call__(self, inputs: Tensor, targets: Tensor, *, distilled: bool, what: str) -> Tensor:
        """Leave the gradient of the mean over what counts in `targets`; returns this process's share of that mean.

        Each process takes its share of the rows (B, T). Gradients are averaged over the processes, so each weighs its mean by
        its share of the tokens that count.
        """
        group, q0 = self._group, self._config.q0
        if len(inputs) < group.size:
            raise DataError(
                f"{what} has {len(inputs)} rows for {group.size} processes: give --q0.batch a larger value, or start fewer"
            )
        counted = int((targets != IGNORED).sum())
        inputs = inputs.tensor_split(group.size)[group.rank].to(group.device)
        targets = targets.tensor_split(group.size)[group.rank].to(group.device)
        with devices.autocast(self._config.precision, group.device):
            logits = self._student(inputs)
            with torch.no_grad():
                taught = self._teacher(inputs) if distilled else None
        if taught is None:
            loss = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        else:
            loss = distillation_loss(logits, taught, targets, alpha=q0.alpha, temperature=q0.temperature)
        share = int((targets != IGNORED).sum()) / counted
        self._network.zero_grad(set_to_none=True)
        (loss * (share * group.size)).backward()
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), q0.clip or torch.inf)
        if not torch.isfinite(norm):
            raise NotFiniteError(
                f"{what}: the {'gradient' if torch.isfinite(loss) else 'loss'} is not finite; lower --q0.lr or set --q0.clip"
            )
        return loss.detach() * share


def text_snapshots(config: TextConfig, folder: Path, *, trajectory: int, identity: str) -> list[Snapshot]:
    """The snapshots that a trajectory consists of."""
    return [
        Snapshot(
            trajectory,
            cycle,
            Path(folder) / f"trajectory-{trajectory}" / f"cycle-{cycle:03d}.safetensors",
            f"q0-text/{identity}/seed-{config.seed}/trajectory-{trajectory}/cycle-{cycle}",
        )
        for cycle in range(config.q0.cycles)
    ]


@torch_defaults()
def train_text_trajectory(
    network: Gpt,
    train: Part,
    config: TextConfig,
    snapshots: list[Snapshot],
    *,
    seed: int,
    group: Group,
    advance: Callable[[int], None] = lambda epochs: None,
    log: Callable[[int, int, float], None] = lambda cycle, epoch, loss: None,
) -> None:
    """Run the cycles whose snapshots are not there yet, from `network`, which is changed.

    Each cycle is as in `decouple.q0.trajectories`: rates in anti-phase, the snapshot before as teacher. With `restart` =
    "continue" one optimiser serves the whole trajectory, and noise may be put on the weights after each snapshot but the last;
    with "new" every cycle trains a new network. The processes of `group` share every step's rows; what they compute differs
    from one process by rounding alone.

    Args:
        network: what the trajectory starts from, on the group's device; the same in every process.
        snapshots: from `text_snapshots`, on a disk that all processes see.
        seed: of this trajectory.
        advance: called with the number of epochs done since the last call.
        log: called by the first process with cycle, epoch in the cycle and mean loss (nats a token).

    Raises:
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
        DataError: a step has fewer rows than there are processes.
    """
    q0, context = config.q0, network.context
    optimizer = optimizer_of(network, q0)
    done = next((i for i, snapshot in enumerate(snapshots) if not snapshot.is_whole()), len(snapshots))
    group.wait()  # before anyone writes what another still looks for
    advance(q0.epochs_before(done))
    if 0 < done < len(snapshots):
        snapshots[done - 1].load_into(network)
        restore_state(optimizer, snapshots[done - 1].read())
    teacher = copy.deepcopy(network).eval().requires_grad_(False)
    student: nn.Module = network
    if group.size > 1:
        student = DistributedDataParallel(network, device_ids=[group.device] if group.device.type == "cuda" else None)
    step_of = Steps(network, _compiled(student, config), _compiled(teacher, config), config, group)

    number = q0.epochs_before(done)
    batches_per_epoch = len(even_batches(train.rows(context), q0.batch))
    for cycle in range(done, len(snapshots)):
        distilled = q0.alpha > 0 and cycle >= q0.distill_after
        if distilled:
            teacher.load_state_dict(network.state_dict())
        if cycle > 0 and q0.restart == "new":
            renewed = Gpt(config.network, vocabulary=network.vocabulary, seed=derive(seed, "restart", cycle))
            network.load_state_dict(renewed.state_dict())
            forget(optimizer)
        elif cycle > 0 and q0.perturb > 0:
            scale = perturbation_scale(cycle, len(snapshots), first=q0.perturb, last=q0.perturb * q0.perturb_last)
            perturb_(network, scale, generator(seed, "perturb", cycle))
        epochs = q0.epochs_in(cycle)
        for epoch in range(epochs):
            stream = train.stream(seed=seed, epoch=number)
            # Dropout draws from torch's global generator; every epoch seeds it anew, so that none need be saved.
            torch.manual_seed(derive(seed, "dropout", number, group.rank))
            total = torch.zeros((), device=group.device)
            network.train()
            for step, rows in enumerate(epoch_batches(train.rows(context), q0.batch, seed=seed, epoch=number)):
                lr, decay = cyclic_multipliers(
                    epoch * batches_per_epoch + step,
                    epochs * batches_per_epoch,
                    lr_floor=q0.lr_floor,
                    wd_floor=q0.wd_floor,
                    shape=q0.shape,
                )
                set_lr(optimizer, q0.lr * lr)
                torch._foreach_mul_([p.data for p in network.parameters()], 1 - q0.lr * lr * q0.weight_decay * decay)
                inputs, targets = stream.batch(rows, context)
                what = f"q0, cycle {cycle + 1}, epoch {epoch + 1}, step {step + 1}"
                total += step_of(inputs, targets, distilled=distilled, what=what) * int((targets != IGNORED).sum())
                optimizer.step()
            number += 1
            loss = float(group.sum(total)) / len(train)
            if group.first:
                log(cycle, epoch, loss)
            advance(1)
        if group.first:
            weights = {f"network.{name}": value for name, value in network.state_dict().items()}
            save_tensors(snapshots[cycle].path, weights | state_tensors(optimizer), {}, unit=snapshots[cycle].unit)
        group.wait()


def _compiled(module: nn.Module, config: TextConfig) -> nn.Module:
    return cast(nn.Module, torch.compile(module)) if config.compile else module
