"""Cosine distance and Procrustes distance: invariances and plain float64 references; what CKA and Procrustes both ask."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from decouple.analysis import cosine_distance, linear_cka, minibatch_cka, procrustes_distance, unbiased_cka


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(features: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(features, features, seed=seed)).Q


class TestCosineDistance:
    def test_it_equals_the_plain_reference(self) -> None:
        a, b = normal(9, 2, 3), normal(9, 2, 3, seed=1)
        for x, y, found in zip(a, b, cosine_distance(a, b), strict=True):
            u, v = x.flatten().numpy(), y.flatten().numpy()
            assert float(found) == pytest.approx(1 - u @ v / np.sqrt((u @ u) * (v @ v)), abs=1e-10)

    def test_parallel_orthogonal_and_opposite(self) -> None:
        a = torch.tensor([[1.0, 2.0]])
        assert cosine_distance(a, a).tolist() == [0]
        assert cosine_distance(a, 3 * a).tolist() == pytest.approx([0], abs=1e-7)
        assert cosine_distance(a, torch.tensor([[-2.0, 1.0]])).tolist() == pytest.approx([1])
        assert cosine_distance(a, -a).tolist() == pytest.approx([2])

    def test_small_angles_are_not_lost(self) -> None:
        angle = 1e-6
        a, b = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        assert float(cosine_distance(a, b)) == pytest.approx(angle**2 / 2, rel=1e-9)

    def test_types(self) -> None:
        a, b = normal(4, 6), normal(4, 6, seed=1)
        assert cosine_distance(a.half(), b).dtype == torch.float64
        assert cosine_distance(a.half(), b.bfloat16()).dtype == torch.float32
        torch.testing.assert_close(
            cosine_distance(a.half(), b.half()).double(),
            cosine_distance(a.half().double(), b.half().double()),
            rtol=0,
            atol=1e-6,
        )

    def test_shapes_must_be_the_same(self) -> None:
        with pytest.raises(
            ValueError, match=r"a has shape \(4, 2, 3\) and b \(4, 3, 2\): expected \(N, …\) twice, the same"
        ):
            cosine_distance(normal(4, 2, 3), normal(4, 3, 2))


class TestProcrustesDistance:
    @pytest.mark.parametrize(("count", "width_a", "width_b"), [(20, 5, 5), (20, 5, 8), (6, 30, 10), (6, 30, 40), (6, 3, 40)])
    def test_it_equals_scipys_rotation(self, count: int, width_a: int, width_b: int) -> None:
        a, b = normal(count, width_a), normal(count, width_b, seed=1)
        padded = [np.pad(x.numpy() - x.numpy().mean(0), ((0, 0), (0, 40 - x.shape[1]))) for x in (a, b)]
        one, other = (x / np.linalg.norm(x) for x in padded)
        _, nuclear = orthogonal_procrustes(one, other)
        assert float(procrustes_distance(a, b)) == pytest.approx(math.acos(nuclear), abs=1e-10)

    @pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
    def test_of_itself_moved_turned_and_scaled_it_is_zero(self, shape: tuple[int, int]) -> None:
        a = normal(*shape)
        assert float(procrustes_distance(a, 3 * a @ rotation(shape[1]) - 7)) == pytest.approx(0, abs=1e-12)

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 1000), count=st.integers(2, 12), width=st.integers(1, 12))
    def test_it_is_a_metric(self, seed: int, count: int, width: int) -> None:
        a, b, c = (normal(count, width + i, seed=seed + i) for i in range(3))
        ab, bc, ac = (float(procrustes_distance(x, y)) for x, y in ((a, b), (b, c), (a, c)))
        assert float(procrustes_distance(b, a)) == pytest.approx(ab, abs=1e-8)
        assert 0 <= ac <= ab + bc + 1e-8
        assert ab <= math.pi / 2 + 1e-12

    def test_orthogonal_patterns_are_a_right_angle_apart(self) -> None:
        patterns = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        assert float(procrustes_distance(patterns[:, :1], patterns[:, 1:])) == pytest.approx(math.pi / 2, abs=1e-10)


def in_one_batch(a: Tensor, b: Tensor) -> Tensor:
    return minibatch_cka([(a, b)])


@pytest.mark.parametrize("measure", [linear_cka, unbiased_cka, in_one_batch, procrustes_distance])
class TestWhatBothAsk:
    @pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1e6])
    def test_constant_activations_are_an_error(self, measure, value: float) -> None:
        with pytest.raises(ValueError, match="b: the activations are the same for every sample"):
            measure(normal(11, 5), torch.full((11, 5), value, dtype=torch.float64))

    def test_small_variation_about_a_large_mean_is_not_constant(self, measure) -> None:
        a = normal(7, 5)
        assert float(measure(a, 1e-6 * a + 1)) == pytest.approx(float(measure(a, a)), abs=1e-6)

    def test_samples_must_be_the_same(self, measure) -> None:
        with pytest.raises(ValueError, match=r"a has shape \(7, 5\) and b \(6, 5\): expected \(N, …\) twice, the same N"):
            measure(normal(7, 5), normal(6, 5))
