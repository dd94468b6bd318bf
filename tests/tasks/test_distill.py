"""The distillation loss against a plain float64 reference and its degenerate settings."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from decouple.errors import DataError
from decouple.q0 import distillation_loss


def made_up(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(*shape, generator=stream, dtype=torch.float64) for _ in range(2))
    return student.to(dtype), teacher.to(dtype), torch.randint(shape[-1], shape[:-1], generator=stream)


def reference(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray, alpha: float, temperature: float) -> float:
    """Example by example, class by class."""

    def softmax(row: np.ndarray) -> np.ndarray:
        e = np.exp(row)
        return e / e.sum()

    terms = []
    for s, t, label in zip(student, teacher, labels, strict=True):
        if label == -100:
            continue
        q, p = softmax(s / temperature), softmax(t / temperature)
        kl = sum(p[c] * (np.log(p[c]) - np.log(q[c])) for c in range(len(p)))
        terms.append((1 - alpha) * -np.log(softmax(s)[label]) + alpha * temperature**2 * kl)
    return float(np.mean(terms))


@pytest.mark.parametrize(("alpha", "temperature"), [(0.45, 1.2), (1.0, 3.0), (0.0, 1.0), (0.5, 0.5)])
def test_it_equals_the_reference(alpha: float, temperature: float) -> None:
    student, teacher, labels = made_up(7, 5)
    labels[[1, 4]] = -100
    found = distillation_loss(student, teacher, labels, alpha=alpha, temperature=temperature)
    expected = reference(student.numpy(), teacher.numpy(), labels.numpy(), alpha, temperature)
    assert float(found) == pytest.approx(expected, abs=1e-10)


def test_tokens_are_examples() -> None:
    student, teacher, labels = made_up(3, 4, 6)
    labels[0, 2:] = -100
    found = distillation_loss(student, teacher, labels, alpha=0.3, temperature=1.5)
    flat = distillation_loss(student.reshape(12, 6), teacher.reshape(12, 6), labels.reshape(12), alpha=0.3, temperature=1.5)
    assert float(found) == float(flat)


def test_without_a_teachers_share_it_is_the_cross_entropy_even_of_a_broken_teacher() -> None:
    student, teacher, labels = made_up(6, 4)
    found = distillation_loss(student, teacher * torch.nan, labels, alpha=0.0, temperature=2.0)
    assert float(found) == float(functional.cross_entropy(student, labels))


def test_an_identical_teacher_leaves_the_cross_entropys_share() -> None:
    student, _, labels = made_up(6, 4)
    found = distillation_loss(student, student, labels, alpha=0.45, temperature=1.2)
    assert float(found) == pytest.approx(0.55 * float(functional.cross_entropy(student, labels)), abs=1e-12)


def test_no_gradient_enters_the_teacher_and_the_students_is_right() -> None:
    student, teacher, labels = made_up(4, 3)
    student.requires_grad_(True)
    teacher.requires_grad_(True)
    distillation_loss(student, teacher, labels, alpha=0.45, temperature=1.2).backward()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(
        lambda s: distillation_loss(s, teacher.detach(), labels, alpha=0.45, temperature=1.2), (student,)
    )


def test_what_is_not_counted_gets_no_gradient_even_where_it_is_not_finite() -> None:
    student, teacher, labels = made_up(4, 3)
    labels[2] = -100
    student[2], teacher[2] = torch.inf, torch.nan
    student.requires_grad_(True)
    distillation_loss(student, teacher, labels, alpha=0.45, temperature=1.2).backward()
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())
    assert student.grad[2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher, labels = made_up(8, 5, dtype=dtype)
    found = distillation_loss(student, teacher, labels, alpha=0.45, temperature=1.2)
    exact = distillation_loss(student.double(), teacher.double(), labels, alpha=0.45, temperature=1.2)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 1.5}, "alpha = 1.5: expected 0..1"),
        ({"alpha": float("nan")}, "alpha = nan"),
        ({"temperature": 0.0}, "temperature = 0.0: expected a finite number above 0"),
        ({"temperature": float("inf")}, "temperature = inf"),
        ({"teacher_logits": torch.zeros(4, 2)}, r"teacher_logits \(4, 2\) and labels \(4,\) do not fit"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels \(3,\) do not fit: expected \(N, C\)"),
    ],
)
def test_arguments_that_do_not_fit_are_named(changes: dict, message: str) -> None:
    student, teacher, labels = made_up(4, 3)
    arguments = {"student_logits": student, "teacher_logits": teacher, "labels": labels, "alpha": 0.5, "temperature": 1.0}
    with pytest.raises(ValueError, match=message):
        distillation_loss(**{**arguments, **changes})


def test_labels_that_all_do_not_count_are_an_error_not_nan() -> None:
    student, teacher, labels = made_up(4, 3)
    with pytest.raises(DataError, match="none of the 4 labels counts"):
        distillation_loss(student, teacher, torch.full_like(labels, -100), alpha=0.5, temperature=1.0)
