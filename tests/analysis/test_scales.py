"""Measures that do not depend on scale do not: not at the ends of what a type holds, in any type, whatever torch is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from decouple import analysis
from decouple.errors import DataError

COUNT = 12
LABELS = torch.arange(COUNT) % 3
MOST = torch.finfo(torch.float32).max


def numbers(found: Any) -> Tensor:
    found = found if isinstance(found, tuple) else (found,)
    return torch.cat([torch.as_tensor(part).flatten().double() for part in found])


Measure = Callable[[Tensor, Tensor], Any]

OF_ROWS: dict[str, Measure] = {
    "cosine_distance": analysis.cosine_distance,
    "collision_entropy": lambda a, b: analysis.collision_entropy(a),
    "effective_solutions": lambda a, b: analysis.effective_solutions(a),
    "class_entropy": lambda a, b: analysis.class_entropy(a, LABELS),
    "solution_diversity": lambda a, b: analysis.solution_diversity(torch.stack([a, b])),
}
"""Which do not depend on the length of any row."""

OF_WHOLES: dict[str, Measure] = {
    "unbiased_cka": analysis.unbiased_cka,
    "cka_matrix": lambda a, b: analysis.cka_matrix(analysis.centred_grams([a, b]), torch.arange(1, COUNT)),
    "effective_rank": lambda a, b: analysis.effective_rank(a),
}
"""Which do not depend on one factor of all rows."""

EVERY = OF_ROWS | OF_WHOLES


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(found: Any, expected: Any, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(numbers(found), numbers(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=25)
@given(
    exponents=st.tuples(st.floats(-36, 37), st.floats(-36, 37)),
    width=st.sampled_from([3, 40]),
    seed=st.integers(0, 50),
    double=st.booleans(),
)
def test_one_factor_changes_nothing(name: str, exponents: tuple[float, float], width: int, seed: int, double: bool) -> None:
    dtype, reach = (torch.float64, 8.0) if double else (torch.float32, 1.0)  # up to 10^±296
    a, b = normal(COUNT, width, seed=seed, dtype=dtype), normal(COUNT, width, seed=seed + 1, dtype=dtype)
    scaled = [values * 10.0 ** (reach * exponent) for values, exponent in zip((a, b), exponents, strict=True)]
    close(EVERY[name](*scaled), EVERY[name](a, b))


@pytest.mark.parametrize("name", OF_ROWS)
@settings(deadline=None, max_examples=25)
@given(exponents=st.lists(st.floats(-36, 37), min_size=COUNT, max_size=COUNT), seed=st.integers(0, 50), double=st.booleans())
def test_factors_of_each_row_change_nothing(name: str, exponents: list[float], seed: int, double: bool) -> None:
    dtype, reach = (torch.float64, 8.0) if double else (torch.float32, 1.0)
    a, b = normal(COUNT, 5, seed=seed, dtype=dtype), normal(COUNT, 5, seed=seed + 1, dtype=dtype)
    lengths = 10.0 ** (reach * torch.tensor(exponents, dtype=torch.float64)[:, None])
    close(OF_ROWS[name]((a * lengths).to(dtype), b), OF_ROWS[name](a, b))


@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 50), share=st.floats(0.05, 0.6), value=st.sampled_from([-MOST, MOST, -1e30, 1e25]))
def test_masks_are_computed_as_the_numbers_that_they_are(name: str, seed: int, share: float, value: float) -> None:
    """Beside a mask nothing else counts; the same in float64, where all of it is brought near 1 first, is the reference."""
    a, b = normal(COUNT, 9, seed=seed), normal(COUNT, 9, seed=seed + 1)
    masked = torch.rand(COUNT, 9, generator=torch.Generator().manual_seed(seed)) < share
    masked[:, 0] = True
    masked[:, 1:5] = torch.arange(COUNT)[:, None] // 2 ** torch.arange(4) % 2 == 1  # another mask for each row
    a = a.masked_fill(masked, value)
    close(EVERY[name](a, b), EVERY[name](a.double() / abs(value), b.double()))


@pytest.mark.parametrize("name", sorted(OF_WHOLES.keys() - {"effective_rank"}))  # it takes rows with what they share
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mask_that_all_samples_share_does_not_hide_how_they_differ(name: str, dtype: torch.dtype) -> None:
    a, b = normal(COUNT, 6, dtype=dtype), normal(COUNT, 6, seed=1, dtype=dtype)
    mask = torch.full((COUNT, 3), torch.finfo(torch.float32).min, dtype=dtype)
    mask[:, 1] = 1e30 / 3
    close(OF_WHOLES[name](torch.cat([mask, a], 1), torch.cat([b, mask], 1)), OF_WHOLES[name](a, b))


def test_the_least_and_the_greatest_numbers_have_a_direction() -> None:
    for dtype in (torch.float32, torch.float64):
        ends = torch.finfo(dtype)
        rows = torch.tensor([[ends.max, ends.max, -ends.max], [ends.tiny, ends.tiny, -ends.tiny], [1, 1, -1]], dtype=dtype)
        least = rows[1] * torch.finfo(dtype).eps  # the least that is not zero
        assert float(least[0]) > 0
        assert analysis.cosine_distance(rows, torch.stack([rows[2], least, rows[0]])).tolist() == pytest.approx([0, 0, 0])
        assert float(analysis.effective_solutions(rows)) == pytest.approx(1)
        assert float(analysis.effective_rank(rows[:1])) == pytest.approx(1)


@pytest.mark.parametrize("name", EVERY)
def test_arrays_of_numpy_give_what_tensors_do(name: str) -> None:
    a, b = normal(COUNT, 5), normal(COUNT, 5, seed=1)
    if name == "solution_diversity":
        found = analysis.solution_diversity(np.stack([a.numpy(), b.numpy()]))  # type: ignore[arg-type]
    elif name == "class_entropy":
        found = analysis.class_entropy(a.numpy(), LABELS.numpy().astype("uint8"))  # type: ignore[arg-type, assignment]
    else:
        found = EVERY[name](a.numpy(), b.numpy())  # type: ignore[arg-type]
    assert torch.equal(numbers(found), numbers(EVERY[name](a, b)))


@pytest.mark.parametrize("name", EVERY)
def test_autocast_and_inference_mode_change_nothing(name: str) -> None:
    a, b = normal(COUNT, 50), normal(COUNT, 50, seed=1)
    expected = numbers(EVERY[name](a, b))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(numbers(EVERY[name](a, b)), expected)
    with torch.inference_mode():
        assert torch.equal(numbers(EVERY[name](a, b)), expected)


def test_half_samples_are_the_same_with_any_default_type_and_device() -> None:
    def drawn() -> Tensor:
        return analysis.half_samples(11, 5, torch.Generator().manual_seed(0))

    expected = drawn()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = drawn()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_classes_of_any_whole_type_are_classes(dtype: torch.dtype) -> None:
    labels, predicted = LABELS.to(dtype), (LABELS.flip(0) % 2).to(torch.int16)
    assert float(analysis.disagreement(predicted, labels)) == float(analysis.disagreement(predicted.long(), LABELS))
    same = torch.arange(COUNT)
    assert float(analysis.error_overlap(predicted, same.to(dtype), labels)) == float(
        analysis.error_overlap(predicted.long(), same, LABELS)
    )
    probabilities = normal(2, COUNT, 3).softmax(2)
    assert analysis.ambiguity_decomposition(probabilities, labels) == analysis.ambiguity_decomposition(probabilities, LABELS)
    assert analysis.ambiguity_decomposition(probabilities.numpy(), labels.numpy()) == analysis.ambiguity_decomposition(  # type: ignore[arg-type]
        probabilities, LABELS
    )


def test_other_objects_and_devices_are_named() -> None:
    with pytest.raises(DataError, match="a must be a tensor or a numpy array of numbers, not str"):
        analysis.cosine_distance("abc", normal(3, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a is on cpu and b on meta: expected one device"):
        analysis.unbiased_cka(normal(5, 3), normal(5, 3).to("meta"))
    with pytest.raises(DataError, match="reps must be a tensor or a numpy array of numbers, not NoneType"):
        analysis.effective_rank(None)  # type: ignore[arg-type]
