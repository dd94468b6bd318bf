"""Training one network to its best epoch on validation, resumable at every epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from decouple.config import LearnConfig, SgdConfig, TrainConfig
from decouple.data.images import Split, check_scale, in_unit_scale
from decouple.device import memory_for
from decouple.errors import ConfigError, expect
from decouple.files import save_tensors, try_tensors
from decouple.formats import percent, plural
from decouple.learn.objective import Regression, Targets, cross_entropy, regression
from decouple.loggers import LoggerLike, Loggers
from decouple.networks.checks import check_batches, check_fit, check_trainable, expect_stages
from decouple.networks.stages import Stages
from decouple.networks.state import load_state, state_of
from decouple.seeds import derive
from decouple.tensors import under, whole_number
from decouple.torch_state import device_of, plain_torch
from decouple.training.batches import epoch_batches, largest_batch
from decouple.training.evaluate import BATCH, accuracy
from decouple.training.loop import Loop
from decouple.training.objectives import Objective, Remembering, fetch_of
from decouple.training.optimizers import Factory, make_optimizer, rates, set_rates
from decouple.training.processes import Group
from decouple.training.schedules import multiplier
from decouple.training.state import pack_state, restore_state
from decouple.training.stream import ImageLoader, Rows


@dataclass
class Fit:
    """The result of a training. The trained network holds the weights of the best epoch."""

    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch."""
    validation: list[float] = field(default_factory=list)
    """Validation accuracy after each epoch, 0..1."""
    gradient_steps: int = 0

    @property
    def best_epoch(self) -> int:
        """The epoch, counted from 1, with the best validation accuracy. Ties, which are common on a small validation set, go to the
        latest epoch, whose learning rate is lowest."""
        return 1 + max(range(len(self.validation)), key=lambda epoch: (self.validation[epoch], epoch))

    @property
    def best_validation(self) -> float:
        return self.validation[self.best_epoch - 1]

    def __repr__(self) -> str:
        """
        >>> Fit([2.3, 0.5], [0.4, 0.9], 20)
        Fit(2 epochs, 20 steps: loss 2.3 → 0.5, validation 90.0 % at epoch 2)
        """
        done = f"Fit({plural(len(self.losses), 'epoch')}, {plural(self.gradient_steps, 'step')}"
        if not self.losses:
            return f"{done})"
        loss = f"loss {self.losses[0]:.4g} → {self.losses[-1]:.4g}"
        return f"{done}: {loss}, validation {percent(self.best_validation)} % at epoch {self.best_epoch})"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its state between epochs, so that one that is killed, or that its `record` stops, resumes from there."""

    path: Path
    unit: str
    seconds: float = 30.0
    """Time between two writes, at least."""


@dataclass(frozen=True)
class Watch:
    """What is told of a training as it goes, by the first of its processes."""

    record: Callable[[int, Stages], None] = lambda epoch, network: None
    """Called before the first epoch (epoch 0, or where a killed training resumes) and after each, with the network."""
    logger: LoggerLike = None
    """Told loss and validation accuracy after each epoch, of the stage learn; see `decouple.Logger`."""
    unit: str = "network"
    """What loggers call the training."""

    def __post_init__(self) -> None:
        if not callable(self.record):
            raise ConfigError(f"record must be a function of the epoch and the network, not a {type(self.record).__name__}")
        Loggers(self.logger)  # raises ConfigError


@plain_torch()
def fit(
    network: Stages,
    train: Split,
    validation: Split,
    objective: Objective,
    settings: TrainConfig,
    *,
    seed: int,
    precision: str = "float32",
    optimizer: Factory | None = None,
    checkpoint: Checkpoint | None = None,
    watch: Watch = Watch(),
) -> Fit:
    """Train `network` in place and leave it with the weights of its best epoch on `validation`.

    Where `torch.distributed` is initialised (under torchrun, say) every process calls this with the same arguments but for
    the network's device. They share each batch, and all end with the same weights; only the first one calls `watch` and
    writes the checkpoint. The result is that of one process up to rounding.

    Args:
        network: on the device to train on.
        objective: the loss; see `decouple.learn.objective`.
        seed: of batches and augmentation.
        precision: "float32" or "bfloat16" (autocast); "mixed", of a search in bfloat16, is float32 here.
        optimizer: makes one of your own from the list of trainable parameters, in place of the one that the settings
            name; its learning rates are the peaks of the schedule, and its step must not need a closure.
        checkpoint: where to keep the state between epochs; None: nowhere.
        watch: what is told of it.

    Raises:
        ConfigError: an unknown precision, a seed that is no whole number, or an optimiser that cannot be used or kept.
        DataError: no images, or a negative label.
        NetworkError: the network does not fit the images, or nothing in it can be trained.
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
        MemoryLimitError: the device's memory does not suffice.
    """
    seed = whole_number(seed, "seed")
    _check(network, train, validation, settings, objective)
    network.train_on(train.images, train.classes)
    training = _Training(network, objective, settings, checkpoint)
    training.begin(optimizer, len(train))
    group = Group.current(device_of(network))
    shares = group.sharing(network, objective, len(training.fit.losses))
    with memory_for("a training step", _mend(settings)), shares as shared:
        loop = Loop(network, training.optimizer, shared, settings.clip, precision, group)
        training.run(loop, train, validation, seed, watch)
    network.load_state_dict(training.best)
    return training.fit


def _mend(settings: TrainConfig) -> str:
    """What to lower where the memory does not suffice."""
    sections: dict[type, str] = {SgdConfig: "sgd.", LearnConfig: "learn."}
    return f"--{sections.get(type(settings), '')}batch or --network.width"


def _check(network: Stages, train: Split, validation: Split, settings: TrainConfig, objective: Objective) -> None:
    """Refuse before the first step what cannot be trained."""
    shapes = check_fit(network, train)
    if isinstance(objective, Regression):
        objective.check(train, shapes)
    check_fit(network, validation, "validation")
    check_scale(validation.images, in_unit_scale(train.images), "the images of validation")
    check_trainable(network)
    check_batches(network, train, settings.batch)
    check_batches(network, validation, BATCH, "validation", training=False)


@dataclass
class _Training:
    """A training under way: what its checkpoint holds."""

    network: Stages
    objective: Objective
    settings: TrainConfig
    checkpoint: Checkpoint | None
    fit: Fit = field(default_factory=Fit)
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best epoch so far."""

    def begin(self, factory: Factory | None, images: int) -> None:
        """Make the optimiser, and continue from the checkpoint if there is a sound one."""
        self.optimizer = make_optimizer(
            self.network,
            self.settings,
            batch=largest_batch(images, self.settings.batch),
            hidden=list(self.network.stages[:-1].parameters()),
            factory=factory,
        )
        self.peaks = rates(self.optimizer)
        self.best = copy.deepcopy(self.network.state_dict())
        if isinstance(self.objective, Remembering):
            self.objective.remember({})  # of an earlier training
        if self.checkpoint is not None:
            self._restore(self.checkpoint)

    def run(self, loop: Loop, train: Split, validation: Split, seed: int, watch: Watch) -> None:
        """Train the epochs that are left."""
        leads, began = loop.group.first, len(self.fit.losses)
        logger = Loggers(watch.logger if leads else None)
        self.network.eval()  # as `watch.record` and the caller get it, here and after every epoch
        if leads:
            self.save()  # what cannot be kept or written shows now
            watch.record(began, self.network)
        written, fetch = time.monotonic(), fetch_of(self.objective, loop.group.device)
        with logger.task(f"learn, {watch.unit}", self.settings.epochs, "epochs") as advance:
            advance(began)
            for epoch in range(began, self.settings.epochs):
                self._epoch(loop, train, fetch, epoch, seed, first=epoch == began)
                self.network.eval()
                self.fit.validation.append(accuracy(self.network, validation))
                if self.fit.best_epoch == len(self.fit.losses):
                    self.best = copy.deepcopy(self.network.state_dict())
                if leads:
                    try:
                        figures = {"loss": self.fit.losses[-1], "validation_accuracy": self.fit.validation[-1]}
                        logger.log("learn", watch.unit, epoch + 1, figures)
                        watch.record(epoch + 1, self.network)
                        advance(1)
                    except BaseException:
                        self.save()
                        raise
                    if self.checkpoint is not None and time.monotonic() - written >= self.checkpoint.seconds:
                        self.save()
                        written = time.monotonic()
        self.network.zero_grad()  # gradients may be those of a CUDA graph, and keep its memory

    def _epoch(self, loop: Loop, train: Split, fetch: Rows | None, epoch: int, seed: int, *, first: bool) -> None:
        """Take the steps of an epoch."""
        settings, drawn = self.settings, derive(seed, "epoch", epoch)
        batches = epoch_batches(len(train), settings.batch, seed=seed, epoch=epoch, shuffle=settings.shuffle)
        loader = ImageLoader(
            self.network,
            train,
            fetch,
            augmentation=settings.augment,
            precision=loop.precision,
            seed=drawn,
            group=loop.group,
        )
        name = "training" if self.checkpoint is None else self.checkpoint.unit
        before_step = self._before_step(epoch * len(batches), settings.epochs * len(batches), first=first)
        loss = loop.epoch(loader, batches, before_step=before_step, seed=drawn, what=f"{name}, epoch {epoch + 1}")
        self.fit.losses.append(loss)
        self.fit.gradient_steps += len(batches)

    def _before_step(self, taken: int, steps: int, *, first: bool) -> Callable[[int], None]:
        """What sets the rates of an epoch, before which so many of all `steps` were taken."""

        def set_rate(step: int) -> None:
            set_rates(self.optimizer, self.peaks, multiplier(self.settings.schedule, taken + step, steps))
            if self.checkpoint is not None and first and step == 1:
                pack_state(self.optimizer)  # after a step the state is as it will be: what cannot be kept shows now

        return set_rate

    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.checkpoint is None:
            return
        tensors = {f"network.{name}": value for name, value in state_of(self.network).items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        if isinstance(self.objective, Remembering):
            tensors |= {f"objective.{name}": value for name, value in self.objective.memory().items()}
        kept, rest = pack_state(self.optimizer)
        meta = vars(self.fit) | {"optimizer": rest}
        save_tensors(self.checkpoint.path, tensors | kept, meta, unit=self.checkpoint.unit)

    def _restore(self, checkpoint: Checkpoint) -> None:
        state_of(self.network)  # refuses now what cannot be kept later
        kept = try_tensors(checkpoint.path, unit=checkpoint.unit)
        if kept is None:
            return
        tensors, meta = kept
        load_state(self.network, under(tensors, "network."))
        restore_state(self.optimizer, tensors, meta.pop("optimizer"))
        if isinstance(self.objective, Remembering):
            self.objective.remember(under(tensors, "objective."))
        self.fit = Fit(**meta)
        self.best = {name: value.clone() for name, value in under(tensors, "best.").items()}


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
    logger: LoggerLike = None,
) -> Fit:
    """Train `network` in place on searched targets of `train`; no classification gradient enters its body.

    Args:
        network: its search points have the shapes of the targets; it may be deeper between them.
        train: the images that were searched, in the same order, with their labels.
        targets: of one solution, as `decouple.search_solution` returns them.
        validation: images that decide which epoch's weights are kept.
        config: epochs, batch size, learning rate, loss weights and live search.
        seed: of the batches, the augmentation and live search.
        precision, optimizer: see `fit`.
        record: called with the epoch and the network before the first epoch and after each one, such as a `decouple.Recorder`.
        logger: gets loss and validation accuracy after each epoch; a `decouple.Progress` shows a bar.

    Returns:
        Loss and validation accuracy of every epoch. `network` then holds the weights of the best epoch.

    Raises:
        ConfigError: a block to supervise was not searched; or see `fit`.
        DataError: the targets belong to other images; or see `fit`.
        NetworkError: the targets do not have the shapes of the network's search points; or see `fit`.
        NotFiniteError, MemoryLimitError: see `fit`.
    """
    expect(config, LearnConfig, "config")
    expect_stages(network)
    if not all(hasattr(targets, name) for name in ("check", "rows", "first_searched")):
        raise ConfigError(
            f"targets must be those of one solution, as search_solution gives them, not a {type(targets).__name__}"
        )
    objective, watch = regression(targets, config, len(network) - 1), Watch(record, logger, "search")
    options: dict[str, Any] = {"seed": seed, "precision": precision, "optimizer": optimizer, "watch": watch}
    return fit(network, train, validation, objective, config, **options)


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
    logger: LoggerLike = None,
) -> Fit:
    """The baseline: train `network` in place with cross-entropy, by the same code path. The arguments are those of
    `learn_targets`."""
    expect(config, SgdConfig, "config")
    watch = Watch(record, logger, "sgd")
    options: dict[str, Any] = {"seed": seed, "precision": precision, "optimizer": optimizer, "watch": watch}
    return fit(network, train, validation, cross_entropy(config), config, **options)


def recorded_epochs(epochs: int, records: int) -> Sequence[int]:
    """The epochs, 0 (before training) to the last, at which a trajectory is recorded: `records` of them, evenly spread.

    >>> recorded_epochs(10, 3), recorded_epochs(2, 9)
    ([0, 5, 10], [0, 1, 2])
    """
    return sorted({round(i * epochs / (records - 1)) for i in range(records)})
