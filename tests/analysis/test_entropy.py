"""Collision entropy: closed forms, eigenvalues, plain float64 loops, and blocks against the whole."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from decouple.analysis import class_entropy, collision_entropy, effective_solutions, solution_diversity
from decouple.errors import DataError

from .made_up import normal


def cosines(reps: Tensor) -> list[list[float]]:
    """Pair by pair, number by number."""
    rows = [row.flatten().tolist() for row in reps]
    return [
        [
            sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
            for b in rows
        ]
        for a in rows
    ]


def reference(reps: Tensor) -> float:
    k = cosines(reps)
    return -math.log(sum(x * x for row in k for x in row) / sum(k[i][i] for i in range(len(k))) ** 2)


@pytest.mark.parametrize("shape", [(6, 3), (6, 2, 2, 4), (3, 40), (1, 5), (5, 1)])
def test_it_equals_the_plain_reference(shape: tuple[int, ...]) -> None:
    reps = normal(*shape)
    assert float(collision_entropy(reps)) == pytest.approx(reference(reps), abs=1e-10)
    assert float(effective_solutions(reps)) == pytest.approx(math.exp(reference(reps)), abs=1e-10)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_it_is_the_vendi_score_of_order_2(shape: tuple[int, int]) -> None:
    reps = normal(*shape)
    unit = reps / reps.norm(dim=1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(unit @ unit.T / len(reps))
    assert float(effective_solutions(reps)) == pytest.approx(float(1 / eigenvalues.square().sum()), abs=1e-10)


def test_equal_orthogonal_and_single_representations() -> None:
    assert float(effective_solutions(normal(1, 7).expand(5, 7))) == pytest.approx(1, abs=1e-12)
    assert float(effective_solutions(normal(1, 7) * torch.tensor([[1.0], [-2.0], [0.5]]))) == pytest.approx(1, abs=1e-12)
    assert float(effective_solutions(torch.linalg.qr(normal(9, 9)).Q[:6])) == pytest.approx(6, abs=1e-10)
    assert float(collision_entropy(normal(1, 7))) == 0
    two_groups = torch.eye(2, dtype=torch.float64).repeat_interleave(4, 0)
    assert float(collision_entropy(two_groups)) == pytest.approx(math.log(2), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 25), features=st.integers(1, 25), block=st.integers(1, 30), seed=st.integers(0, 1000))
def test_blocks_equal_the_whole_and_the_result_stays_in_range(count: int, features: int, block: int, seed: int) -> None:
    reps = normal(count, features, seed=seed)
    whole, blocked = float(collision_entropy(reps)), float(collision_entropy(reps, block=block))
    assert blocked == pytest.approx(whole, abs=1e-10)
    assert 0 <= whole <= math.log(count)
    assert float(effective_solutions(reps)) <= min(count, features) + 1e-9


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_size_does_not_matter(scale: float) -> None:
    reps = normal(8, 6).float()
    assert float(collision_entropy(reps * scale)) == pytest.approx(float(collision_entropy(reps)), abs=1e-5)


class LargestResult(TorchFunctionMode):
    """Notes how many numbers the largest new tensor holds."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given = given.untyped_storage().data_ptr()
        self.numbers = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() != self.given:  # a view takes no memory
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.mark.parametrize("shape", [(2500, 2800), (2800, 2500)])
def test_neither_the_gram_matrix_nor_a_copy_is_ever_whole(shape: tuple[int, int]) -> None:
    reps = normal(*shape).float()
    with LargestResult(reps) as largest:
        collision_entropy(reps, block=256)
    assert 256 * 2800 <= largest.numbers < 0.5 * 2500**2
    with LargestResult(reps) as largest:
        class_entropy(reps, torch.arange(len(reps)) % 3, block=256)
    assert largest.numbers < 0.5 * 2500**2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    reps = (300 * normal(20, 50)).to(dtype)  # the squares overflow float16
    found = collision_entropy(reps)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(collision_entropy(reps.double())), abs=1e-5)


class TestSolutionDiversity:
    @pytest.mark.parametrize("block", [1, 3, 128])
    def test_it_is_the_effective_number_of_each_sample(self, block: int) -> None:
        targets = normal(4, 7, 2, 3)
        found = solution_diversity(targets, block=block)
        expected = torch.stack([effective_solutions(targets[:, n]) for n in range(7)])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)

    def test_equal_and_single_solutions_count_as_one(self) -> None:
        assert solution_diversity(normal(1, 3, 5).expand(4, 3, 5)).tolist() == pytest.approx([1, 1, 1], abs=1e-12)
        assert solution_diversity(normal(1, 3, 5)).tolist() == [1, 1, 1]

    def test_shapes_and_zeros_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"shape \(3, 5\): expected \(S, N, …\)"):
            solution_diversity(normal(3, 5))
        targets = normal(2, 4, 5)
        targets[1, 3] = 0
        with pytest.raises(ValueError, match="solution 1, samples 2 and on: row 1 is all zeros"):
            solution_diversity(targets, block=2)


class TestClassEntropy:
    @pytest.mark.parametrize("block", [1, 4, 1024])
    def test_it_equals_the_plain_reference(self, block: int) -> None:
        reps, labels = normal(11, 3, 2), torch.tensor([7, 0, 0, 3, 7, 3, 3, 0, 7, 7, 9])  # 9 has one sample
        k = cosines(reps)
        members = {c: [i for i in range(11) if labels[i] == c] for c in (0, 3, 7)}

        def entropy(c: int, d: int) -> float:
            squares = [k[i][j] ** 2 for i in members[c] for j in members[d]]
            return -math.log(sum(squares) / len(squares))

        within, between = class_entropy(reps, labels, block=block)
        assert float(within) == pytest.approx(sum(entropy(c, c) for c in members) / 3, abs=1e-10)
        assert float(between) == pytest.approx((entropy(0, 3) + entropy(0, 7) + entropy(3, 7)) / 3, abs=1e-10)

    def test_within_is_the_mean_collision_entropy_of_the_classes(self) -> None:
        reps, labels = normal(12, 5), torch.arange(12) % 3
        expected = torch.stack([collision_entropy(reps[labels == c]) for c in range(3)]).mean()
        assert float(class_entropy(reps, labels)[0]) == pytest.approx(float(expected), abs=1e-10)

    def test_collapsed_classes(self) -> None:
        labels = torch.arange(6) // 2
        within, between = class_entropy(torch.eye(3)[labels], labels)
        assert (float(within), float(between)) == (0, math.inf)
        within, between = class_entropy(torch.ones(6, 4), labels)
        assert (float(within), float(between)) == pytest.approx((0, 0), abs=1e-6)

    def test_labels_that_do_not_serve_are_named(self) -> None:
        reps = normal(4, 3)
        with pytest.raises(DataError, match="0 classes have at least two samples"):
            class_entropy(reps, torch.arange(4))
        with pytest.raises(DataError, match="1 classes have at least two samples"):
            class_entropy(reps, torch.zeros(4, dtype=torch.int64))
        with pytest.raises(ValueError, match=r"shape \(3,\) and type torch.int64: expected \(N,\) = \(4,\) integers"):
            class_entropy(reps, torch.arange(3))
        with pytest.raises(ValueError, match=r"type torch\.float32"):
            class_entropy(reps, torch.zeros(4))
