"""Training one network to its best epoch on validation, resumable at every epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from decouple.config import LearnConfig, SgdConfig, TrainConfig
from decouple.data.images import Split
from decouple.errors import ConfigError, NetworkError, expect
from decouple.files import save_tensors, try_tensors
from decouple.learn.objective import CrossEntropy, Regression, Targets
from decouple.networks.stages import Stages
from decouple.seeds import derive
from decouple.settings import check_section
from decouple.training.batches import epoch_batches, even_batches
from decouple.training.evaluate import accuracy
from decouple.training.loop import Objective, train_epoch
from decouple.training.optimizer import momentum_buffers, restore_momentum, sgd
from decouple.training.schedule import multiplier


@dataclass
class Fit:
    """What a training gave. The network that was trained holds the weights of the best epoch."""

    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch."""
    validation: list[float] = field(default_factory=list)
    """Validation accuracy after each epoch, 0..1."""
    gradient_steps: int = 0

    @property
    def best_epoch(self) -> int:
        """Number of the epoch, from 1, with the best validation accuracy; the earliest of equals."""
        return 1 + max(range(len(self.validation)), key=lambda epoch: (self.validation[epoch], -epoch))

    @property
    def best_validation(self) -> float:
        return self.validation[self.best_epoch - 1]


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its state between epochs, so that a killed one goes on from there."""

    path: Path
    unit: str
    seconds: float = 30.0
    """Time between two writes, at least."""


def fit(
    network: Stages,
    train: Split,
    validation: Split,
    objective: Objective,
    settings: TrainConfig,
    *,
    seed: int,
    name: str = "training",
    precision: str = "float32",
    checkpoint: Checkpoint | None = None,
    record: Callable[[int, Stages], None] = lambda epoch, network: None,
    advance: Callable[[int], None] = lambda epochs: None,
) -> Fit:
    """Train `network` in place and leave it with the weights of its best epoch on `validation`.

    Args:
        network: on the device to train on.
        objective: the loss; see `decouple.learn.objective`.
        seed: of batches and augmentation.
        name: for messages.
        precision: "float32" or "bfloat16" (autocast).
        checkpoint: where to keep the state between epochs; None: nowhere.
        record: called before the first epoch (epoch 0) and after each, with the network as it is then.
        advance: called with 1 after each epoch, for a progress bar.

    Raises:
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
    """
    batches_per_epoch = len(even_batches(len(train), settings.batch))
    steps = settings.epochs * batches_per_epoch
    optimizer = sgd(network, settings, batch=min(settings.batch, len(train)))
    base_lr = optimizer.param_groups[0]["lr"]
    state = Fit()
    best = copy.deepcopy(network.state_dict())
    if checkpoint is not None:
        best = _restore(checkpoint, network, optimizer, state, best)
    advance(len(state.losses))
    if not state.losses:
        record(0, network)
    written = time.monotonic()

    for epoch in range(len(state.losses), settings.epochs):

        def set_rate(step: int, first: int = epoch * batches_per_epoch) -> None:
            optimizer.param_groups[0]["lr"] = base_lr * multiplier(settings.schedule, first + step, steps)

        loss = train_epoch(
            network,
            optimizer,
            train,
            epoch_batches(len(train), settings.batch, seed=seed, epoch=epoch, shuffle=settings.shuffle),
            objective,
            before_step=set_rate,
            clip=settings.clip,
            augmentation=settings.augment,
            precision=precision,
            seed=derive(seed, "epoch", epoch),
            what=f"{name}, epoch {epoch + 1}",
        )
        state.losses.append(loss)
        state.validation.append(accuracy(network, validation))
        state.gradient_steps += batches_per_epoch
        if state.best_epoch == epoch + 1:
            best = copy.deepcopy(network.state_dict())
        record(epoch + 1, network)
        if checkpoint is not None and time.monotonic() - written >= checkpoint.seconds:
            _save(checkpoint, network, optimizer, state, best)
            written = time.monotonic()
        advance(1)
    network.load_state_dict(best)
    return state


def learn_targets(
    network: Stages,
    train: Split,
    targets: Targets,
    *,
    validation: Split,
    config: LearnConfig = LearnConfig(),  # noqa: B008 (frozen)
    seed: int = 0,
    record: Callable[[int, Stages], None] = lambda epoch, network: None,
) -> Fit:
    """Fit `network` in place to searched targets of `train`; no classification gradient enters its body.

    Args:
        network: its search points have the shapes of the targets; it may be deeper between them.
        targets: from `decouple.search_solution`.
        record: called before the first epoch and after each: a `decouple.Recorder`, say.

    Raises:
        DataError: the targets are those of other images.
        NetworkError: the network's search points have other shapes than the targets.
        NotFiniteError: see `fit`.
    """
    _check_arguments(network, train, validation)
    expect(config, LearnConfig, "config")
    check_section(config)
    targets.check(train)
    shapes = network.check(train.images.shape[1:], train.labels)
    searched = [tuple(rows.shape[1:]) for rows in targets.rows(torch.tensor([0]))]
    if shapes != searched:
        raise NetworkError(
            f"the network's search points have shapes {shapes}, the targets {searched}: expected the same; search on a network "
            "with the same points, or cut this one elsewhere"
        )
    skip = 1 if config.supervise == "skip-first" else 0
    if skip >= len(shapes) - 1:
        raise ConfigError("supervise = skip-first leaves no target: the network has one block; use supervise='all'")
    objective = Regression(targets, config.kl_weight, skip)
    return fit(network, train, validation, objective, config, seed=seed, name="learn", record=record)


def train_sgd(
    network: Stages,
    train: Split,
    *,
    validation: Split,
    config: SgdConfig = SgdConfig(),  # noqa: B008 (frozen)
    seed: int = 0,
    record: Callable[[int, Stages], None] = lambda epoch, network: None,
) -> Fit:
    """The baseline: train `network` in place with cross-entropy, by the same code path; `record` as in `learn_targets`."""
    _check_arguments(network, train, validation)
    expect(config, SgdConfig, "config")
    check_section(config)
    network.check(train.images.shape[1:], train.labels)
    return fit(network, train, validation, CrossEntropy(), config, seed=seed, name="sgd", record=record)


def _check_arguments(network: Stages, train: Split, validation: Split) -> None:
    expect(network, Stages, "network", "cut it with Stages.from_module or Stages.from_sequential")
    expect(train, Split, "train", "pass data.train, say")
    expect(validation, Split, "validation", "pass data.validation, say")


def _save(
    checkpoint: Checkpoint, network: Stages, optimizer: torch.optim.Optimizer, state: Fit, best: dict[str, Tensor]
) -> None:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    meta = {"losses": state.losses, "validation": state.validation, "gradient_steps": state.gradient_steps}
    save_tensors(checkpoint.path, tensors | momentum_buffers(optimizer), meta, unit=checkpoint.unit)


def _restore(
    checkpoint: Checkpoint, network: Stages, optimizer: torch.optim.Optimizer, state: Fit, best: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Go on from the checkpoint where there is a sound one; returns the best weights so far."""
    found = try_tensors(checkpoint.path, unit=checkpoint.unit)
    if found is None:
        return best
    tensors, meta = found
    network.load_state_dict(_with_prefix(tensors, "network."))
    restore_momentum(optimizer, tensors)
    state.losses, state.validation = meta["losses"], meta["validation"]
    state.gradient_steps = meta["gradient_steps"]
    return {name: value.clone() for name, value in _with_prefix(tensors, "best.").items()}


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def recorded_epochs(epochs: int, records: int) -> Sequence[int]:
    """The epochs, 0 (before training) to the last, at which a trajectory is recorded: `records` of them, evenly spread.

    >>> recorded_epochs(10, 3), recorded_epochs(2, 9)
    ([0, 5, 10], [0, 1, 2])
    """
    return sorted({round(i * epochs / (records - 1)) for i in range(records)})
