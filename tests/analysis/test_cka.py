"""CKA: invariances, plain float64 references with Gram matrices, every pair of many at once."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from decouple.analysis import centred_grams, cka_matrix, unbiased_cka

from .made_up import normal


def rotation(features: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(features, features, seed=seed)).Q


def related(count: int, width_a: int, width_b: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two representations that share their first features."""
    a, b = normal(count, width_a, seed=seed) + 5, normal(count, width_b, seed=seed + 1)
    shared = min(width_a, width_b, 3)
    b[:, :shared] += a[:, :shared]
    return a, b


def song(a: Tensor, b: Tensor) -> float:
    """HSIC without bias, from whole Gram matrices of what is not centred (Song et al. 2012, eq. 5)."""
    n = len(a)
    k, m = (x.numpy() @ x.numpy().T for x in (a, b))
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    rest = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ m).sum()
    return (np.trace(k @ m) + rest) / (n * (n - 3))


class TestUnbiasedCka:
    @pytest.mark.parametrize(("count", "width_a", "width_b"), [(30, 4, 7), (8, 50, 20), (12, 3, 100), (4, 9, 9)])
    def test_it_equals_songs_estimate_of_whole_gram_matrices(self, count: int, width_a: int, width_b: int) -> None:
        a, b = related(count, width_a, width_b)
        expected = song(a, b) / np.sqrt(song(a, a) * song(b, b))
        assert float(unbiased_cka(a, b)) == pytest.approx(expected, abs=1e-10)
        assert float(unbiased_cka(b, a)) == pytest.approx(expected, abs=1e-10)

    def test_songs_estimate_is_the_mean_over_all_quadruples(self) -> None:
        """What is unbiased about it: U-statistic of four different samples (Song et al. 2012, theorem 3)."""
        a, b = related(6, 3, 4)
        k, m = a @ a.T, b @ b.T
        terms = [float(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])) for i, j, q, r in permutations(range(6), 4)]
        assert song(a, b) == pytest.approx(sum(terms) / len(terms), abs=1e-10)

    @pytest.mark.parametrize("shape", [(40, 6), (6, 40), (5, 2, 3)])
    def test_of_itself_moved_turned_and_scaled_it_is_one(self, shape: tuple[int, ...]) -> None:
        a = normal(*shape)
        turned = 3 * a.flatten(1) @ rotation(a[0].numel()) - 7
        assert float(unbiased_cka(a, a)) == pytest.approx(1, abs=1e-12)
        assert float(unbiased_cka(a, turned)) == pytest.approx(1, abs=1e-10)

    def test_float32_far_from_zero_keeps_its_digits(self) -> None:
        a, b = (normal(50, 10, seed=seed).float() + 1000 for seed in (0, 1))
        assert float(unbiased_cka(a, b)) == pytest.approx(
            float(unbiased_cka(a.double() - 1000, b.double() - 1000)), abs=1e-10
        )

    def test_unrelated_representations_have_none_however_many_features(self) -> None:
        found = [float(unbiased_cka(normal(20, 300, seed=s), normal(20, 300, seed=100 + s))) for s in range(40)]
        assert abs(np.mean(found)) < 0.03

    def test_samples_that_are_all_equally_similar_leave_nothing(self) -> None:
        with pytest.raises(ValueError, match="the samples are all equally similar to one another: nothing is left to align"):
            unbiased_cka(torch.eye(6), normal(6, 5))

    def test_too_few_samples_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="N = 3 samples: too few for CKA, give at least 4"):
            unbiased_cka(normal(3, 5), normal(3, 5))


class TestCkaMatrix:
    def test_it_holds_every_pair_for_all_and_for_some_samples(self) -> None:
        reps = [*related(14, 5, 30), normal(14, 2, 3, seed=9)]
        grams = centred_grams(reps)
        some = torch.tensor([0, 3, 5, 7, 8, 12])
        for chosen in (None, some):
            found = cka_matrix(grams, chosen)
            for i in range(3):
                for j in range(3):
                    one, other = (reps[n] if chosen is None else reps[n][chosen] for n in (i, j))
                    assert float(found[i, j]) == pytest.approx(float(unbiased_cka(one, other)), abs=1e-10)

    def test_what_does_not_serve_is_named(self) -> None:
        with pytest.raises(ValueError, match="there are no representations"):
            centred_grams([])
        with pytest.raises(ValueError, match=r"a has shape \(7, 5\) and b \(6, 5\)"):
            centred_grams([normal(7, 5), normal(6, 5)])
        with pytest.raises(ValueError, match="representation 1: the activations are the same for every sample"):
            centred_grams([normal(7, 5), torch.ones(7, 5)])
        with pytest.raises(ValueError, match="N = 3 samples"):
            cka_matrix(centred_grams([normal(7, 5)]), torch.arange(3))
        with pytest.raises(ValueError, match="equally similar"):
            cka_matrix(centred_grams([torch.eye(7)]))
