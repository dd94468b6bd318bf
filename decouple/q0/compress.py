"""An ensemble compressed into one network, which answers at the cost of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from decouple.config import Q0Config
from decouple.device import memory_for
from decouple.errors import expect
from decouple.networks.checks import check_trainable
from decouple.networks.stages import trusting
from decouple.q0.ensemble import Ensemble
from decouple.q0.structure import first_difference
from decouple.q0.trajectories import ChainObjective, train_cycle, undecayed
from decouple.tasks.base import Task
from decouple.tensors import whole_number
from decouple.torch_state import plain_torch, torch_defaults
from decouple.training.loop import Loop


@plain_torch()
def distill(
    ensemble: Ensemble,
    student: nn.Module,
    task: Task,
    config: Q0Config,
    *,
    alpha: float = 0.9,
    seed: int = 0,
    precision: str = "float32",
    advance: Callable[[int], None] = lambda epochs: None,
) -> Ensemble:
    """Train `student` on the mixture's probabilities, for one cycle of `config`; returns it as an ensemble of one.

    The ensemble answers every augmented view of an image anew, so a student learns more than the labels hold from augmentation and
    from images that the members have not seen.

    Args:
        ensemble: the teacher, on the student's device.
        student: changed.
        task: what to train on, such as an `ImageTask`.
        config: epochs, batch, rates and temperature.
        alpha: weight of the teacher against the labels, 0..1.
        seed: of batches and augmentation.
        advance: called with 1 after each epoch.

    Raises:
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.
    """
    expect(config, Q0Config, "config")
    task.check(student, config.batch)
    check_trainable(student)
    seed = whole_number(seed, "seed")
    task.mark(student)
    config = replace(config, cycles=1, first_epochs=None)
    optimizer = undecayed(student, task, config)
    loop = Loop(student, optimizer, ChainObjective(task, ensemble, alpha, config.temperature), config.clip, precision)
    with memory_for("a training step", "--q0.batch"), trusting(ensemble):
        train_cycle(loop, task, config, 0, seed, "distillation", advance)
    same = first_difference([ensemble.members[0], student], certain=True) is None
    with torch_defaults():
        return Ensemble([student], torch.ones(1), architecture=ensemble.architecture if same else None)
