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
from decouple.data.images import Split, check_scale, in_unit_scale
from decouple.errors import ConfigError, NetworkError, expect
from decouple.files import save_tensors, try_tensors
from decouple.learn.objective import CrossEntropy, Targets, regression
from decouple.networks.checks import check_batches, check_fit, check_trainable
from decouple.networks.stages import Stages
from decouple.networks.state import load_state, state_of
from decouple.seeds import derive
from decouple.tensors import whole_number
from decouple.torch_state import plain_torch
from decouple.training.batches import epoch_batches, even_batches
from decouple.training.evaluate import BATCH, accuracy
from decouple.training.loop import Loop, Objective, Remembering, fetch_of
from decouple.training.optimizers import Factory, make_optimizer, rates, set_rates
from decouple.training.schedules import multiplier
from decouple.training.state import pack_state, restore_state
from decouple.training.stream import ImageLoader
from decouple.training.team import team_of

PRECISIONS = ("float32", "bfloat16", "mixed")


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
        """Number of the epoch, from 1, with the best validation accuracy; the latest of equals, whose learning rate is the lowest:
        a small validation set is often answered all right in the middle of the training."""
        return 1 + max(range(len(self.validation)), key=lambda epoch: (self.validation[epoch], epoch))

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


@plain_torch()
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
    optimizer: Factory | None = None,
) -> Fit:
    """Train `network` in place and leave it with the weights of its best epoch on `validation`.

    Where `torch.distributed` is initialised (under torchrun, say) every process calls this with the same arguments but for
    the network's device. They share each batch, and all end with the same weights; only the first one calls `record` and
    `advance` and writes the checkpoint. The result is that of one process up to rounding.

    Args:
        network: on the device to train on.
        objective: the loss; see `decouple.learn.objective`.
        seed: of batches and augmentation.
        name: for messages.
        precision: "float32" or "bfloat16" (autocast); "mixed", of a search in bfloat16, is float32 here.
        checkpoint: where to keep the state between epochs; None: nowhere.
        record: called before the first epoch (epoch 0) and after each, with the network as it is then.
        advance: called with 1 after each epoch, for a progress bar.
        optimizer: makes one of your own from the list of trainable parameters, in place of the one that the settings
            name; its learning rates are the peaks of the schedule, and its step must not need a closure.

    Raises:
        ConfigError: an unknown precision, a seed that is no whole number, or an optimiser that cannot be used or kept.
        DataError: no images, or a negative label.
        NetworkError: the network does not fit the images, or nothing in it can be trained.
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision = {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if not callable(record):
        raise ConfigError(f"record must be a function of the epoch and the network, not a {type(record).__name__}")
    seed = whole_number(seed, "seed")
    check_fit(network, train)
    check_fit(network, validation, "validation")
    check_scale(validation.images, in_unit_scale(train.images), "the images of validation")
    check_trainable(network)
    if checkpoint is not None:
        state_of(network)
    check_batches(network, train, settings.batch)
    check_batches(network, validation, BATCH, "validation", training=False)
    network.train_on(train.images)
    batches_per_epoch = len(even_batches(len(train), settings.batch))
    steps = settings.epochs * batches_per_epoch
    stepper = make_optimizer(
        network,
        settings,
        batch=min(settings.batch, len(train)),
        hidden=list(network.stages[:-1].parameters()),
        factory=optimizer,
    )
    peaks = rates(stepper)
    state = Fit()
    best = copy.deepcopy(network.state_dict())
    if checkpoint is not None:
        best = _restore(checkpoint, network, stepper, objective, state, best)
    with team_of(network, objective, len(state.losses)) as team:
        loop = Loop(network, stepper, objective, settings.clip, precision, team)
        leads = team is None or team.leads
        if leads:
            advance(len(state.losses))
        if leads and not state.losses:
            record(0, network)
        if checkpoint is not None and leads and not state.losses:
            _save(checkpoint, network, stepper, objective, state, best)  # what cannot be kept or written shows now
        written = time.monotonic()
        began = len(state.losses) * batches_per_epoch

        for epoch in range(len(state.losses), settings.epochs):

            def set_rate(step: int, first: int = epoch * batches_per_epoch) -> None:
                set_rates(stepper, peaks, multiplier(settings.schedule, first + step, steps))
                if checkpoint is not None and first + step == began + 1:
                    pack_state(stepper)  # after a step the state is as it will be: what cannot be kept shows now

            drawn = derive(seed, "epoch", epoch)
            loss = loop.epoch(
                ImageLoader(
                    network,
                    train,
                    fetch_of(objective),
                    augmentation=settings.augment,
                    precision=precision,
                    seed=drawn,
                    team=team,
                ),
                epoch_batches(len(train), settings.batch, seed=seed, epoch=epoch, shuffle=settings.shuffle),
                before_step=set_rate,
                seed=drawn,
                what=f"{name}, epoch {epoch + 1}",
            )
            state.losses.append(loss)
            state.validation.append(accuracy(network, validation))
            state.gradient_steps += batches_per_epoch
            if state.best_epoch == epoch + 1:
                best = copy.deepcopy(network.state_dict())
            if not leads:
                continue
            record(epoch + 1, network)
            if checkpoint is not None and time.monotonic() - written >= checkpoint.seconds:
                _save(checkpoint, network, stepper, objective, state, best)
                written = time.monotonic()
            advance(1)
    network.load_state_dict(best)
    return state


@plain_torch()
def learn_targets(
    network: Stages,
    train: Split,
    targets: Targets,
    *,
    validation: Split,
    config: LearnConfig = LearnConfig(),  # noqa: B008 (frozen)
    seed: int = 0,
    precision: str = "float32",
    optimizer: Factory | None = None,
    record: Callable[[int, Stages], None] = lambda epoch, network: None,
) -> Fit:
    """Fit `network` in place to searched targets of `train`; no classification gradient enters its body.

    Args:
        network: its search points have the shapes of the targets; it may be deeper between them.
        targets: from `decouple.search_solution`.
        precision, optimizer: see `fit`.
        record: called before the first epoch and after each: a `decouple.Recorder`, say.

    Raises:
        DataError: the targets are those of other images.
        NetworkError: the network's search points have other shapes than the targets.
        NotFiniteError: see `fit`.
    """
    expect(config, LearnConfig, "config")
    shapes = check_fit(network, train)
    if not all(hasattr(targets, name) for name in ("check", "rows", "first_searched")):
        raise ConfigError(
            f"targets must be those of one solution, as search_solution gives them, not a {type(targets).__name__}"
        )
    targets.check(train)
    searched = [tuple(rows.shape[1:]) for rows in targets.rows(torch.tensor([0], device="cpu"))]
    if shapes != searched:
        raise NetworkError(
            f"the network's search points have shapes {shapes}, the targets {searched}: expected the same; search on a network "
            "with the same points, or cut this one elsewhere"
        )
    return fit(
        network,
        train,
        validation,
        regression(targets, config, len(shapes) - 1),
        config,
        seed=seed,
        name="learn",
        precision=precision,
        optimizer=optimizer,
        record=record,
    )


def train_sgd(
    network: Stages,
    train: Split,
    *,
    validation: Split,
    config: SgdConfig = SgdConfig(),  # noqa: B008 (frozen)
    seed: int = 0,
    precision: str = "float32",
    optimizer: Factory | None = None,
    record: Callable[[int, Stages], None] = lambda epoch, network: None,
) -> Fit:
    """The baseline: train `network` in place with cross-entropy, by the same code path. The arguments are those of `fit`."""
    expect(config, SgdConfig, "config")
    return fit(
        network,
        train,
        validation,
        CrossEntropy(),
        config,
        seed=seed,
        name="sgd",
        precision=precision,
        optimizer=optimizer,
        record=record,
    )


def _save(
    checkpoint: Checkpoint,
    network: Stages,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    state: Fit,
    best: dict[str, Tensor],
) -> None:
    tensors = {f"network.{name}": value for name, value in state_of(network).items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    if isinstance(objective, Remembering):
        tensors |= {f"objective.{name}": value for name, value in objective.memory().items()}
    kept, rest = pack_state(optimizer)
    meta = {"losses": state.losses, "validation": state.validation, "gradient_steps": state.gradient_steps}
    save_tensors(checkpoint.path, tensors | kept, meta | {"optimizer": rest}, unit=checkpoint.unit)


def _restore(
    checkpoint: Checkpoint,
    network: Stages,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    state: Fit,
    best: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Go on from the checkpoint where there is a sound one; returns the best weights so far."""
    state_of(network)  # refuses now what cannot be kept later
    found = try_tensors(checkpoint.path, unit=checkpoint.unit)
    if found is None:
        return best
    tensors, meta = found
    load_state(network, _with_prefix(tensors, "network."))
    restore_state(optimizer, tensors, meta["optimizer"])
    if isinstance(objective, Remembering):
        objective.remember(_with_prefix(tensors, "objective."))
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
