"""What every measure of representations refuses, and how it says so."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from decouple.analysis import (
    bootstrap_mean,
    brier_score,
    class_entropy,
    collision_entropy,
    cosine_distance,
    effective_rank,
    effective_solutions,
    fit_temperature,
    p_truth,
    reliability,
    solution_diversity,
    tempered,
    unbiased_cka,
)
from decouple.analysis.calibration import scores
from decouple.errors import NotFiniteError

OTHER = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(6) % 2

OF_ONE: dict[str, Callable[[Tensor], object]] = {
    "cosine_distance": lambda reps: cosine_distance(OTHER, reps),
    "collision_entropy": collision_entropy,
    "effective_solutions": effective_solutions,
    "solution_diversity": lambda reps: solution_diversity(torch.stack([reps, OTHER])),
    "class_entropy": lambda reps: class_entropy(reps, LABELS),
    "unbiased_cka": lambda reps: unbiased_cka(OTHER, reps),
    "effective_rank": effective_rank,
}


def made_up() -> Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_placed(name: str, value: float) -> None:
    reps = made_up()
    reps[4, 2] = value
    with pytest.raises(NotFiniteError, match=r": row 4 holds NaN, infinity"):
        OF_ONE[name](reps)


@pytest.mark.parametrize("name", ["cosine_distance", "collision_entropy", "solution_diversity", "class_entropy"])
def test_a_row_of_zeros_has_no_cosine(name: str) -> None:
    reps = made_up()
    reps[3] = 0
    with pytest.raises(ValueError, match=r"row 3 is all zeros: its cosine is undefined"):
        OF_ONE[name](reps)


@pytest.mark.parametrize("measure", [collision_entropy, effective_solutions, effective_rank])
@pytest.mark.parametrize("shape", [(), (5,), (0, 5), (5, 0)])
def test_samples_and_features_are_needed(measure: Callable[[Tensor], object], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(N, …\) with N > 0 samples and some features"):
        measure(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool])
def test_real_numbers_are_needed(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"reps holds {dtype}: expected real numbers"):
        collision_entropy(torch.ones(3, 4).to(dtype))


@pytest.mark.parametrize("name", OF_ONE)
def test_inputs_are_left_alone_and_need_not_be_contiguous(name: str) -> None:
    reps = made_up()
    before = reps.clone()
    whole = OF_ONE[name](reps)
    strided = OF_ONE[name](reps.T.contiguous().T)
    assert torch.equal(reps, before)
    for one, other in zip(*((r if isinstance(r, tuple) else (r,)) for r in (whole, strided)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["class_entropy", "unbiased_cka", "cosine_distance"])
def test_other_numbers_of_samples_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"\(5, 5\)|\(5,\)"):
        OF_ONE[name](made_up()[:5])


def test_a_single_sample_is_one_solution_or_too_few() -> None:
    one = made_up()[:1]
    assert float(effective_solutions(one)) == 1
    assert float(effective_rank(one)) == pytest.approx(1)
    with pytest.raises(ValueError, match="N = 1 samples: too few for CKA"):
        unbiased_cka(one, one)
    with pytest.raises(ValueError, match="0 classes have at least two samples"):
        class_entropy(one, LABELS[:1])


PROBABILITIES = torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).softmax(1)
CLASSES = torch.tensor([0, 2, 1, 0, 1, 2])
OF_CLASSES: dict[str, Callable[[Any, Any], Any]] = {
    "p_truth": p_truth,
    "scores": scores,
    "reliability": reliability,
    "brier_score": brier_score,
    "fit_temperature": fit_temperature,
}


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("kind", ["int32", "uint8", "int64"])
def test_arrays_and_integers_of_any_type_are_labels_and_probabilities(name: str, kind: str) -> None:
    measure = OF_CLASSES[name]
    expected = measure(PROBABILITIES, CLASSES)
    for probabilities, labels in (
        (PROBABILITIES.numpy(), CLASSES.numpy().astype(kind)),
        (PROBABILITIES, CLASSES.to(getattr(torch, kind))),
    ):
        found = measure(probabilities, labels)
        assert torch.equal(found, expected) if isinstance(expected, Tensor) else found == expected
    sure = torch.eye(3)[CLASSES]
    assert str(measure(sure.long(), CLASSES)) == str(measure(sure.double(), CLASSES)), "probabilities too"


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (CLASSES - 1, r"labels go from -1 to 1: expected 0 to C − 1 = 2"),
        (CLASSES + 1, r"labels go from 1 to 3: expected 0 to C − 1 = 2"),
        (CLASSES.double(), r"labels hold torch.float64: expected integers"),
        (CLASSES[:4], r"probabilities \(6, 3\) and labels \(4,\) do not fit: expected \(N, C\) and \(N,\)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(name: str, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OF_CLASSES[name](PROBABILITIES, labels)


def test_bins_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="bins must be a whole number from 1 on, not 0"):
        reliability(PROBABILITIES, CLASSES, bins=0)


def test_arrays_are_tempered_and_resampled() -> None:
    assert torch.equal(tempered(PROBABILITIES.numpy(), 0.5), tempered(PROBABILITIES, 0.5))  # type: ignore[arg-type]
    assert torch.equal(tempered(PROBABILITIES.numpy(), 1), PROBABILITIES)  # type: ignore[arg-type]
    values = np.array([1, 2, 4], dtype=np.int32)
    assert bootstrap_mean(values, seed=0) == bootstrap_mean(torch.tensor([1.0, 2.0, 4.0]), seed=0)  # type: ignore[arg-type]
