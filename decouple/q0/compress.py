"""An ensemble compressed into one network, which answers at the cost of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from decouple.config import Q0Config
from decouple.data.images import Split
from decouple.networks.checks import check_batches, check_fit, check_trainable
from decouple.networks.stages import Stages
from decouple.q0.distill import distillation_loss
from decouple.q0.ensemble import Ensemble
from decouple.q0.optimizers import optimizer_of, set_lr
from decouple.q0.structure import first_difference
from decouple.q0.trajectories import multipliers
from decouple.seeds import derive
from decouple.settings import check_section
from decouple.tensors import whole_number
from decouple.torch_state import plain_torch, torch_defaults
from decouple.training.batches import epoch_batches, even_batches
from decouple.training.loop import train_epoch
from decouple.training.stream import Batch


@dataclass(frozen=True)
class _Taught:
    ensemble: Ensemble
    alpha: float
    temperature: float

    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        with torch.no_grad():
            taught = self.ensemble(batch.images)  # log-probabilities are logits
        logits = network(batch.images).float()
        return distillation_loss(logits, taught, batch.labels, alpha=self.alpha, temperature=self.temperature)


@plain_torch()
def distill(
    ensemble: Ensemble,
    student: Stages,
    train: Split,
    config: Q0Config,
    *,
    alpha: float = 0.9,
    seed: int = 0,
    precision: str = "float32",
    advance: Callable[[int], None] = lambda epochs: None,
) -> Ensemble:
    """Train `student` on the mixture's probabilities, for one cycle of `config`; returns it as an ensemble of one.

    Every view of an image that the augmentation makes is put to the ensemble anew, so augmentation and other images than the
    members saw are what a student learns more from than labels.

    Args:
        ensemble: the teacher, on the student's device.
        student: changed.
        train: images and labels.
        config: epochs, batch, rates, augmentation and temperature.
        alpha: weight of the teacher against the labels, 0..1.
        seed: of batches and augmentation.
        advance: called with 1 after each epoch.

    Raises:
        ConfigError: a setting out of its range.
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
    """
    config = check_section(config)
    check_fit(student, train)
    check_trainable(student)
    check_batches(student, train, config.batch)
    seed = whole_number(seed, "seed")
    student.train_on(train.images)
    optimizer = optimizer_of(student, config)
    parameters = [p.data for p in student.parameters() if p.requires_grad]
    steps = len(even_batches(len(train), config.batch))
    for epoch in range(config.epochs):

        def set_rates(step: int, first: int = epoch * steps) -> None:
            lr, decay = multipliers(config, first + step, config.epochs * steps)
            set_lr(optimizer, config.lr * lr)
            torch._foreach_mul_(parameters, 1 - config.lr * lr * config.weight_decay * decay)

        train_epoch(
            student,
            optimizer,
            train,
            epoch_batches(len(train), config.batch, seed=seed, epoch=epoch),
            _Taught(ensemble, alpha, config.temperature),
            before_step=set_rates,
            clip=config.clip,
            augmentation=config.augment,
            precision=precision,
            seed=derive(seed, "epoch", epoch),
            what=f"distillation, epoch {epoch + 1}",
        )
        advance(1)
    same = first_difference([ensemble.members[0], student], certain=True) is None
    with torch_defaults():
        return Ensemble([student], torch.ones(1), architecture=ensemble.architecture if same else None)
