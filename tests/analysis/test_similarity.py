"""Cosine distance: plain float64 references; what CKA asks of its two representations."""

import math

import numpy as np
import pytest
import torch

from decouple.analysis import cosine_distance, unbiased_cka

from .made_up import normal


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


class TestWhatCkaAsks:
    @pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1e6])
    def test_constant_activations_are_an_error(self, value: float) -> None:
        with pytest.raises(ValueError, match="b: the activations are the same for every sample"):
            unbiased_cka(normal(11, 5), torch.full((11, 5), value, dtype=torch.float64))

    def test_small_variation_about_a_large_mean_is_not_constant(self) -> None:
        a = normal(7, 5)
        assert float(unbiased_cka(a, 1e-6 * a + 1)) == pytest.approx(float(unbiased_cka(a, a)), abs=1e-6)

    def test_samples_must_be_the_same(self) -> None:
        with pytest.raises(ValueError, match=r"a has shape \(7, 5\) and b \(6, 5\): expected \(N, …\) twice, the same N"):
            unbiased_cka(normal(7, 5), normal(6, 5))
