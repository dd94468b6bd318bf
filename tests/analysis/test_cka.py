"""CKA: invariances, plain float64 references with Gram matrices, either way of computing, batches, many at once."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from decouple.analysis import centred_grams, cka_matrix, linear_cka, minibatch_cka, unbiased_cka
from decouple.analysis.cka import _by_features, _by_samples
from decouple.analysis.rows import centred_rows


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


class TestLinearCka:
    @pytest.mark.parametrize(("count", "width_a", "width_b"), [(30, 4, 7), (8, 50, 20), (12, 3, 100)])
    def test_it_equals_hsic_of_centred_gram_matrices(self, count: int, width_a: int, width_b: int) -> None:
        a, b = normal(count, width_a) + 5, normal(count, width_b, seed=1)
        b[:, :3] += a[:, :3]
        centring = np.eye(count) - 1 / count
        k, m = (centring @ x.numpy() @ x.numpy().T @ centring for x in (a, b))
        expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
        assert float(linear_cka(a, b)) == pytest.approx(expected, abs=1e-10)

    @settings(deadline=None, max_examples=40)
    @given(
        count=st.integers(4, 20),
        width_a=st.integers(1, 20),
        width_b=st.integers(1, 20),
        block=st.integers(1, 25),
        seed=st.integers(0, 1000),
    )
    def test_both_ways_and_all_blocks_agree(self, count: int, width_a: int, width_b: int, block: int, seed: int) -> None:
        a, b = centred_rows(normal(count, width_a, seed=seed), "a"), centred_rows(normal(count, width_b, seed=seed + 1), "b")
        by_features = [_by_features(x, y, block) for x, y in ((a, b), (a, a), (b, b))]
        torch.testing.assert_close(torch.stack(by_features), torch.stack(_by_samples(a, b, block)), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("shape", [(40, 6), (6, 40), (5, 2, 3)])
    def test_of_itself_moved_turned_and_scaled_it_is_one(self, shape: tuple[int, ...]) -> None:
        a = normal(*shape)
        turned = 3 * a.flatten(1) @ rotation(a[0].numel()) - 7
        assert float(linear_cka(a, a)) == pytest.approx(1, abs=1e-12)
        assert float(linear_cka(a, turned)) == pytest.approx(1, abs=1e-10)

    def test_it_is_symmetric_and_zero_for_uncorrelated_features(self) -> None:
        a, b = normal(20, 5), normal(20, 8, seed=1)
        assert float(linear_cka(a, b)) == pytest.approx(float(linear_cka(b, a)), abs=1e-12)
        patterns = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        assert float(linear_cka(patterns[:, :1], patterns[:, 1:])) == pytest.approx(0, abs=1e-12)

    def test_float32_far_from_zero_keeps_its_digits(self) -> None:
        a, b = (normal(50, 10, seed=seed).float() + 1000 for seed in (0, 1))
        assert float(linear_cka(a, b)) == pytest.approx(float(linear_cka(a.double() - 1000, b.double() - 1000)), abs=1e-10)

    def test_too_few_samples_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="N = 3 samples: too few for CKA, give at least 4"):
            linear_cka(normal(3, 5), normal(3, 5))


class TestUnbiasedCka:
    @pytest.mark.parametrize(("count", "width_a", "width_b"), [(30, 4, 7), (8, 50, 20), (12, 3, 100), (4, 9, 9)])
    def test_it_equals_songs_estimate_of_whole_gram_matrices(self, count: int, width_a: int, width_b: int) -> None:
        a, b = related(count, width_a, width_b)
        expected = song(a, b) / np.sqrt(song(a, a) * song(b, b))
        for block in (3, 1024):
            assert float(unbiased_cka(a, b, block=block)) == pytest.approx(expected, abs=1e-10)

    def test_songs_estimate_is_the_mean_over_all_quadruples(self) -> None:
        """What is unbiased about it: U-statistic of four different samples (Song et al. 2012, theorem 3)."""
        a, b = related(6, 3, 4)
        k, m = a @ a.T, b @ b.T
        terms = [float(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])) for i, j, q, r in permutations(range(6), 4)]
        assert song(a, b) == pytest.approx(sum(terms) / len(terms), abs=1e-10)

    @pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
    def test_of_itself_moved_turned_and_scaled_it_is_one(self, shape: tuple[int, int]) -> None:
        a = normal(*shape)
        assert float(unbiased_cka(a, 3 * a @ rotation(shape[1]) - 7)) == pytest.approx(1, abs=1e-10)

    def test_unrelated_representations_have_none_however_many_features(self) -> None:
        found = [float(unbiased_cka(normal(20, 300, seed=s), normal(20, 300, seed=100 + s))) for s in range(40)]
        biased = [float(linear_cka(normal(20, 300, seed=s), normal(20, 300, seed=100 + s))) for s in range(5)]
        assert abs(np.mean(found)) < 0.03
        assert min(biased) > 0.9

    def test_samples_that_are_all_equally_similar_leave_nothing(self) -> None:
        with pytest.raises(ValueError, match="the samples are all equally similar to one another: nothing is left to align"):
            unbiased_cka(torch.eye(6), normal(6, 5))

    def test_too_few_samples_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="N = 3 samples: too few for CKA, give at least 4"):
            unbiased_cka(normal(3, 5), normal(3, 5))


class TestMinibatchCka:
    def test_of_one_batch_it_is_the_unbiased_one(self) -> None:
        a, b = related(12, 5, 30)
        assert float(minibatch_cka([(a, b)])) == pytest.approx(float(unbiased_cka(a, b)), abs=1e-12)

    def test_it_averages_hsic_over_the_batches(self) -> None:
        a, b = related(31, 5, 7)
        batches = [(a[i : i + 8], 10 * b[i : i + 8]) for i in (0, 8, 16)] + [(a[24:], 10 * b[24:])]

        def total(x: int, y: int) -> float:
            return sum(song(batch[x], batch[y]) * len(batch[0]) * (len(batch[0]) - 3) for batch in batches)

        expected = total(0, 1) / np.sqrt(total(0, 0) * total(1, 1))
        assert float(minibatch_cka(batches)) == pytest.approx(expected, abs=1e-10)

    def test_small_batches_give_what_all_samples_give(self) -> None:
        a, b = related(4000, 8, 8)
        found = float(minibatch_cka(zip(a.split(16), b.split(16), strict=True)))
        assert found == pytest.approx(float(unbiased_cka(a, b)), abs=0.01)
        assert found == pytest.approx(float(linear_cka(a, b)), abs=0.01)

    def test_no_batches_and_small_ones_are_errors(self) -> None:
        with pytest.raises(ValueError, match="there are no batches"):
            minibatch_cka([])
        with pytest.raises(ValueError, match="N = 3 samples"):
            minibatch_cka([(normal(8, 2), normal(8, 2)), (normal(3, 2), normal(3, 2))])


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
