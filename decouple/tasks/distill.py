"""Chain distillation: learning from the immediate predecessor."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from decouple.errors import DataError

IGNORED = -100
"""Labels with this value do not count, as in torch's cross-entropy."""


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, alpha: float, temperature: float
) -> Tensor:
    """(1 − α)·CE + α·T²·KL(teacher ‖ student), both sides softened by T in the second term; mean over what counts.

    CE is at temperature 1; T² keeps the size of the second term's gradient when T changes (Hinton et al. 2015). Logits in half
    precision are computed in float32. Source: Mandal et al., arXiv 2606.03938, whose public code takes α = 0.45 and T = 1.2.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> labels = torch.tensor([0, 1])
    >>> loss = distillation_loss(logits, logits, labels, alpha=0.25, temperature=2.0)
    >>> bool(torch.isclose(loss, 0.75 * functional.cross_entropy(logits, labels)))
    True

    Args:
        student_logits: (N, C), or (N, T, C) for tokens.
        teacher_logits: the same shape; no gradient enters it.
        labels: (N,) or (N, T) int64; −100 marks what does not count, in either term.
        alpha: weight of the teacher, 0..1; at 0 the loss is the cross-entropy, whatever the teacher says.
        temperature: T, above 0.

    Returns:
        A scalar, nats.

    Raises:
        ValueError: shapes that do not fit, or an argument out of its range.
        DataError: no label counts. On a GPU the loss is then NaN.
    """
    _check(student_logits, teacher_logits, labels, alpha, temperature)
    student, teacher, labels = student_logits.flatten(0, -2), teacher_logits.flatten(0, -2).detach(), labels.flatten()
    counted = labels != IGNORED
    count = counted.sum()
    if labels.device.type != "cpu":  # to ask how many count is to wait for the device
        student, teacher = (torch.where(counted[:, None], each, 0) for each in (student, teacher))
    elif not count:
        raise DataError(f"none of the {len(labels)} labels counts: every one is {IGNORED}, or there are none")
    elif count < len(labels):
        student, teacher, labels = student[counted], teacher[counted], labels[counted]
    student = student.to(torch.promote_types(student.dtype, torch.float32))
    teacher = teacher.to(student.dtype)
    cross_entropy = functional.cross_entropy(student, labels)
    if alpha == 0:
        return cross_entropy
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, -1),
        functional.log_softmax(teacher / temperature, -1),
        reduction="sum",
        log_target=True,
    )
    return (1 - alpha) * cross_entropy + alpha * temperature**2 * (divergence / count)


def _check(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, alpha: float, temperature: float) -> None:
    if student_logits.shape != teacher_logits.shape or student_logits.shape[:-1] != labels.shape or labels.dim() < 1:
        raise ValueError(
            f"student_logits {tuple(student_logits.shape)}, teacher_logits {tuple(teacher_logits.shape)} and labels "
            f"{tuple(labels.shape)} do not fit: expected (N, C), (N, C) and (N,), or (N, T, C), (N, T, C) and (N, T)"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha = {alpha}: expected 0..1")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature = {temperature}: expected a finite number above 0")
