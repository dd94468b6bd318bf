"""Chain distillation: learning from the immediate predecessor."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

IGNORED = -100
"""Labels with this value do not count, as in torch's cross-entropy."""


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, alpha: float, temperature: float
) -> Tensor:
    """(1 − α)·CE + α·T²·KL(teacher ‖ student), both softened by T in the second term; mean over examples.

    Args:
        student_logits: (N, C), or (N, T, C) for tokens.
        teacher_logits: the same shape; no gradient enters it.
        labels: (N,) or (N, T) int64; −100 marks what does not count.
        alpha: 0..1.
        temperature: above 0.

    Raises:
        ValueError: shapes that do not fit, or an argument out of its range.
    """
    if student_logits.shape != teacher_logits.shape or student_logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"student {tuple(student_logits.shape)}, teacher {tuple(teacher_logits.shape)} and labels {tuple(labels.shape)} do "
            "not fit: expected (…, C), (…, C) and (…)"
        )
    if not 0 <= alpha <= 1 or temperature <= 0:
        raise ValueError(f"alpha = {alpha}, temperature = {temperature}: expected 0 ≤ alpha ≤ 1 and temperature > 0")
    counted = labels.reshape(-1) != IGNORED
    student = student_logits.flatten(0, -2)[counted]
    teacher = teacher_logits.flatten(0, -2)[counted].detach()
    cross_entropy = functional.cross_entropy(student, labels.reshape(-1)[counted])
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, -1),
        functional.log_softmax(teacher / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - alpha) * cross_entropy + alpha * temperature**2 * divergence
