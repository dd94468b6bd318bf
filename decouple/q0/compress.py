"""An ensemble compressed into one network, which answers at the cost of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from decouple.config import Q0Config
from decouple.data.images import Split
from decouple.errors import expect
from decouple.networks.checks import check_batches, check_fit, check_trainable
from decouple.networks.stages import Stages
from decouple.q0.ensemble import Ensemble
from decouple.q0.structure import first_difference
from decouple.q0.trajectories import ChainObjective, train_cycle
from decouple.tasks.images import ImageTask
from decouple.tensors import whole_number
from decouple.torch_state import plain_torch, torch_defaults
from decouple.training.loop import Loop
from decouple.training.optimizers import cyclic_optimizer


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
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
    """
    expect(config, Q0Config, "config")
    check_fit(student, train)
    check_trainable(student)
    check_batches(student, train, config.batch)
    seed = whole_number(seed, "seed")
    student.train_on(train.images)
    config = replace(config, cycles=1, first_epochs=None)
    task = ImageTask(train, config.augment)
    optimizer = cyclic_optimizer(student, config, task.hidden(student))
    loop = Loop(student, optimizer, ChainObjective(task, ensemble, alpha, config.temperature), config.clip, precision)
    train_cycle(loop, task, config, 0, seed, "distillation", advance)
    same = first_difference([ensemble.members[0], student], certain=True) is None
    with torch_defaults():
        return Ensemble([student], torch.ones(1), architecture=ensemble.architecture if same else None)
