"""An ensemble compressed into one network, which answers at the cost of one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from decouple.config import Q0Config
from decouple.device import memory_for, send
from decouple.errors import expect
from decouple.loggers import LoggerLike, Loggers
from decouple.networks.checks import check_trainable
from decouple.networks.stages import trusting
from decouple.networks.structure import first_difference
from decouple.q0.ensemble import Ensemble
from decouple.q0.trajectories import ChainObjective, train_cycle, undecayed
from decouple.tasks.base import Task
from decouple.tasks.images import ImageTask
from decouple.tensors import whole_number
from decouple.torch_state import device_of, plain_torch, torch_defaults
from decouple.training.evaluate import logits
from decouple.training.loop import Loop
from decouple.training.objectives import Objective
from decouple.training.stream import Batch


@dataclass(frozen=True)
class KnownAnswers:
    """The task's distillation where the teacher has answered each image once."""

    task: Task
    answers: Tensor
    """(N, C) logits, by position in what is learned from, on the network's device."""
    alpha: float
    temperature: float

    def __call__(self, network: nn.Module, batch: Batch) -> Tensor:
        taught = self.answers[send(batch.positions, self.answers.device)]
        return self.task.distillation_loss(network, lambda _: taught, batch, alpha=self.alpha, temperature=self.temperature)


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
    logger: LoggerLike = None,
) -> Ensemble:
    """Train `student` on the mixture's probabilities, for one cycle of `config`; returns it as an ensemble of one.

    The ensemble answers every augmented view of an image anew, so a student learns more than the labels hold from augmentation and
    from images that the members have not seen. Images that are not augmented are answered once, and an epoch then costs what it
    costs without a teacher.

    Args:
        ensemble: the teacher, on the student's device.
        student: changed.
        task: what to train on, such as an `ImageTask`.
        config: epochs, batch, rates and temperature.
        alpha: weight of the teacher against the labels, 0..1.
        seed: of batches and augmentation.
        logger: told the loss of each epoch at the end; a `decouple.Progress` shows a bar.

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
    loop = Loop(student, optimizer, _objective(ensemble, student, task, alpha, config.temperature), config.clip, precision)
    loggers = Loggers(logger)
    with (
        memory_for("a training step", "--q0.batch"),
        trusting(ensemble),
        loggers.task("distillation", config.epochs, "epochs") as advance,
    ):
        losses = train_cycle(loop, task, config, 0, seed, "distillation", advance)
    for epoch, loss in enumerate(losses, 1):
        loggers.log("q0", "distillation", epoch, {"loss": loss})
    same = first_difference([ensemble.members[0], student], certain=True) is None
    with torch_defaults():
        return Ensemble([student], torch.ones(1), architecture=ensemble.architecture if same else None)


def _objective(ensemble: Ensemble, student: nn.Module, task: Task, alpha: float, temperature: float) -> Objective:
    if alpha == 0:
        return ChainObjective(task, None, alpha, temperature)
    if type(task) is ImageTask and task.augment == "none":  # one that is derived from it may show other views
        return KnownAnswers(task, logits(ensemble, task.data.train).to(device_of(student)), alpha, temperature)
    return ChainObjective(task, ensemble, alpha, temperature)
