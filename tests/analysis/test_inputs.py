"""What every measure of representations refuses, and how it says so."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from decouple.analysis import (
    class_entropy,
    collision_entropy,
    cosine_distance,
    effective_rank,
    effective_solutions,
    solution_diversity,
    unbiased_cka,
)
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
