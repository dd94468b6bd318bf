"""The learned prior: against other solvers of the same convex problem, closed forms and hard cases."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from scipy.optimize import minimize

from decouple.errors import NotFiniteError
from decouple.q0 import cross_validated_strength, fit_prior, greedy_members, mixture, nll, select_members
from decouple.q0.prior import FLOOR


def population(members: int, examples: int, *, spread: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Members that find the same examples hard, and differ in skill and in what they get wrong."""
    stream = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=stream, dtype=torch.float64)

    return torch.sigmoid(2 * normal(1, examples) + 0.2 * normal(members, 1) + spread * normal(members, examples))


def loss(weights: torch.Tensor, p: torch.Tensor) -> float:
    return float(-(weights @ p.clamp_min(FLOOR)).log().mean())


def long_em(p: torch.Tensor, iterations: int) -> torch.Tensor:
    weights = torch.full((len(p),), 1 / len(p), dtype=p.dtype)
    for _ in range(iterations):
        weights = weights * (p / (weights @ p)).mean(1)
    return weights


class TestExact:
    @pytest.mark.parametrize(("members", "examples"), [(2, 9), (6, 40), (15, 200)])
    def test_it_agrees_with_a_general_constrained_optimiser(self, members: int, examples: int) -> None:
        p = population(members, examples, seed=members)
        ours = fit_prior(p, gap=1e-9)
        theirs = minimize(
            lambda w: -np.log(w @ p.numpy()).mean(),
            np.full(members, 1 / members),
            jac=lambda w: -(p.numpy() / (w @ p.numpy())).mean(1),
            bounds=[(0, 1)] * members,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 500},
        )
        assert ours.nll == pytest.approx(theirs.fun, abs=1e-8)
        assert ours.weights.numpy() == pytest.approx(theirs.x, abs=1e-3)

    def test_it_agrees_with_long_em(self) -> None:
        p = population(5, 300, spread=2.0)
        ours, slow = fit_prior(p, gap=1e-10), long_em(p, 20_000)
        assert ours.nll == pytest.approx(loss(slow, p), abs=1e-10)
        torch.testing.assert_close(ours.weights, slow, rtol=0, atol=1e-4)

    def test_disjoint_members_are_weighted_by_what_they_explain(self) -> None:
        p = torch.zeros(3, 10)
        p[0, :5], p[1, 5:8], p[2, 8:] = 1, 1, 1
        prior = fit_prior(p, gap=1e-10)
        assert prior.weights.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-6)
        assert prior.nll == pytest.approx(-sum(share * math.log(share) for share in (0.5, 0.3, 0.2)), abs=1e-9)
        assert prior.uniform_nll == pytest.approx(math.log(3), abs=1e-9)

    def test_the_gap_bounds_the_distance_from_the_optimum(self) -> None:
        p = population(20, 100)
        best = fit_prior(p, gap=1e-12).nll
        for gap in (1e-1, 1e-2, 1e-4):
            prior = fit_prior(p, gap=gap)
            assert prior.gap <= gap
            assert -1e-12 <= prior.nll - best <= prior.gap + 1e-12

    def test_the_reported_figures_are_those_of_the_weights(self) -> None:
        p = population(7, 50)
        prior = fit_prior(p)
        gain = (p / (prior.weights @ p)).mean(1)
        assert prior.nll == pytest.approx(loss(prior.weights, p), abs=1e-14)
        assert prior.uniform_nll == pytest.approx(float(-p.mean(0).log().mean()), abs=1e-14)
        assert prior.gap == pytest.approx(float(gain.max()) - 1, abs=1e-12)

    @settings(deadline=None, max_examples=150)
    @given(
        seed=st.integers(0, 10_000),
        members=st.integers(1, 30),
        examples=st.integers(1, 120),
        kind=st.sampled_from(["flat", "tiny", "rare", "holes", "alike", "copies", "blends"]),
    )
    def test_hard_cases_reach_the_gap_and_never_lose_to_equal_weights(
        self, seed: int, members: int, examples: int, kind: str
    ) -> None:
        u = torch.rand(members, examples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        p = {
            "flat": u,
            "tiny": 10 ** (-14 * u),
            "rare": torch.where(u < 0.02, 1.0, 0.0).double(),
            "holes": torch.where(u < 0.5, u, 0.0),
            "alike": (u[:1] + 1e-9 * u).clamp(0, 1),
            "copies": u[torch.arange(members) // 3],
            "blends": torch.cat([u, (u + u.flip(0)) / 2]),
        }[kind]
        prior = fit_prior(p)
        assert 0 <= prior.gap <= 1e-6
        assert prior.nll <= prior.uniform_nll
        assert prior.weights.dtype == torch.float64
        assert bool((prior.weights >= 0).all())
        assert float(prior.weights.sum()) == pytest.approx(1, abs=1e-12)

    def test_many_members_take_few_iterations(self) -> None:
        p = population(200, 2000)
        prior = fit_prior(p)
        assert prior.gap <= 1e-6
        assert prior.iterations < 20
        assert int((prior.weights == 0).sum()) > 100  # those that do not help are given exactly 0

    def test_an_example_that_only_one_poor_member_explains_takes_few_iterations(self) -> None:
        p = population(100, 2000, spread=2.0)
        p[1:, 0] = 0
        p[0] = FLOOR
        p[0, 0] = 1
        prior = fit_prior(p)
        assert prior.gap <= 1e-6
        assert prior.iterations < 20
        assert float(prior.weights[0]) == pytest.approx(1 / 2000, rel=1e-2)  # its share of the examples

    def test_one_member_and_equal_members(self) -> None:
        p = population(1, 10)
        alone, copies = fit_prior(p), fit_prior(p.expand(4, 10))
        assert (alone.weights.tolist(), alone.iterations, alone.gap) == ([1.0], 0, 0.0)
        assert copies.weights.tolist() == [0.25] * 4
        assert copies.nll == pytest.approx(alone.nll, abs=1e-14)

    def test_a_dominated_member_gets_nothing(self) -> None:
        p = population(3, 30)
        assert fit_prior(torch.cat([p, p[:1] * 0.5])).weights[3] == 0

    def test_it_is_deterministic_and_leaves_its_input_alone(self) -> None:
        p = population(9, 40)
        before = p.clone()
        first, again = fit_prior(p), fit_prior(p)
        assert torch.equal(first.weights, again.weights)
        assert torch.equal(p, before)

    def test_float32_input_is_fitted_in_float64(self) -> None:
        p = population(9, 40)
        torch.testing.assert_close(fit_prior(p.float()).weights, fit_prior(p.float().double()).weights, rtol=0, atol=0)

    def test_too_few_iterations_show_in_the_gap(self) -> None:
        prior = fit_prior(population(20, 100), gap=1e-12, max_iterations=1)
        assert prior.iterations == 1
        assert prior.gap > 1e-12
        assert prior.nll <= prior.uniform_nll


class TestPull:
    @pytest.mark.parametrize("strength", [0.5, 10.0, 500.0])
    def test_it_agrees_with_a_general_constrained_optimiser(self, strength: float) -> None:
        p = population(6, 40, spread=2.0)

        def objective(w: np.ndarray) -> float:
            return -(np.log(w @ p.numpy()).sum() + strength * np.log(w).mean()) / (40 + strength)

        theirs = minimize(
            objective,
            np.full(6, 1 / 6),
            bounds=[(1e-9, 1)] * 6,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        ours = fit_prior(p, strength=strength, gap=1e-8)
        assert objective(ours.weights.numpy()) == pytest.approx(theirs.fun, abs=1e-9)
        assert ours.weights.numpy() == pytest.approx(theirs.x, abs=1e-4)
        assert ours.gap <= 1e-8

    def test_from_the_optimum_to_equal_weights(self) -> None:
        p = population(8, 60, spread=2.0)
        fits = [fit_prior(p, strength=s) for s in (0.0, 1.0, 10.0, 100.0, 1e4, math.inf)]
        assert [fit.nll for fit in fits] == sorted(fit.nll for fit in fits)
        assert torch.equal(fits[0].weights, fit_prior(p).weights)
        torch.testing.assert_close(fits[-2].weights, fits[-1].weights, rtol=0, atol=2e-2)
        assert fits[-1].weights.tolist() == [1 / 8] * 8
        assert all(fit.nll <= fit.uniform_nll for fit in fits)

    @settings(deadline=None, max_examples=60)
    @given(seed=st.integers(0, 10_000), members=st.integers(1, 30), examples=st.integers(1, 60), power=st.integers(-3, 4))
    @example(seed=0, members=24, examples=33, power=-3)  # its loss is at rounding before its gap is
    @example(seed=9495, members=19, examples=35, power=-3)
    def test_it_reaches_the_gap_and_never_loses_to_equal_weights(
        self, seed: int, members: int, examples: int, power: int
    ) -> None:
        u = torch.rand(members, examples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        prior = fit_prior(torch.where(u < 0.3, 0.0, u), strength=10.0**power)
        assert prior.gap <= 1e-6
        assert prior.nll <= prior.uniform_nll + 1e-12
        assert bool((prior.weights > 0).all())
        assert float(prior.weights.sum()) == pytest.approx(1, abs=1e-12)

    def test_with_few_examples_of_equal_members_cross_validation_asks_for_equal_weights(self) -> None:
        p = population(20, 60, seed=3)
        found = cross_validated_strength(p)
        assert found.strength >= 60
        assert fit_prior(p, strength=found.strength).weights.max() < 0.15 < fit_prior(p).weights.max()
        assert found.candidates[:2] == (5, 7.5), "a quarter of the members, and what of N/64, N/32 … is above it"
        assert len(found.candidates) == len(found.nll) == 9
        assert found == cross_validated_strength(p), "the folds are seeded"

    def test_with_many_examples_and_a_useless_member_it_trusts_them(self) -> None:
        p = torch.cat([population(3, 2000), torch.full((3, 2000), 1e-3, dtype=torch.float64)])
        found = cross_validated_strength(p, repeats=1)
        assert found.strength <= 500
        assert float(fit_prior(p, strength=found.strength).weights[3:].sum()) < 0.1

    def test_a_member_that_is_sure_and_rarely_wrong_does_not_take_all_where_no_error_of_its_own_is_seen(self) -> None:
        sure, modest = torch.full((1, 75), 0.999, dtype=torch.float64), torch.full((7, 75), 0.98, dtype=torch.float64)
        p = torch.cat([sure, modest])
        assert float(fit_prior(p).weights[0]) == pytest.approx(1)
        assert float(fit_prior(p, strength=cross_validated_strength(p).strength).weights[0]) < 0.6

    def test_the_strongest_of_equals_is_taken(self) -> None:
        assert cross_validated_strength(population(1, 10)).strength == math.inf

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda p: fit_prior(p, strength=-1.0), "strength = -1.0"),
            (lambda p: fit_prior(p, strength=math.nan), "strength = nan"),
            (lambda p: fit_prior(p, strength=1.0, method="softmax"), "strength = 1.0 with method = 'softmax': expected"),
            (lambda p: cross_validated_strength(p[:, :1]), r"1 examples, folds = 1, repeats = 2: expected at least 2"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, call: Callable[[torch.Tensor], object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            call(population(3, 5))


class TestSoftmax:
    def test_it_equals_the_public_codes_steps(self) -> None:
        p = population(6, 80)
        logits = torch.zeros(6, dtype=torch.float64)
        mean, square = torch.zeros_like(logits), torch.zeros_like(logits)
        for step in range(1, 301):
            w = logits.softmax(0)
            gradient = w * (1 - (p / (w @ p)).mean(1))  # of the loss, through the softmax
            gradient = gradient / max(1.0, float(gradient.norm()) + 1e-6)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            logits = logits - 0.5 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        prior = fit_prior(p, method="softmax")
        torch.testing.assert_close(prior.weights, logits.softmax(0), rtol=0, atol=1e-8)
        assert prior.iterations == 300

    def test_it_comes_near_the_optimum_and_never_passes_it(self) -> None:
        p = population(20, 400)
        exact, softmax = fit_prior(p), fit_prior(p, method="softmax")
        assert -1e-6 <= softmax.nll - exact.nll <= softmax.gap
        assert softmax.nll - exact.nll < 1e-3
        assert bool((softmax.weights > 0).all())

    def test_one_member(self) -> None:
        assert fit_prior(population(1, 10), method="softmax").weights.tolist() == [1.0]


class TestInput:
    def test_zero_is_raised_to_the_floor(self) -> None:
        p = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.5, 0.25]])
        prior = fit_prior(p)
        assert prior.weights.tolist() == pytest.approx([1.0, 0.0])
        assert prior.nll == pytest.approx((-math.log(1e-12) + 2 * math.log(2)) / 3)

    @pytest.mark.parametrize(
        ("p", "error", "message"),
        [
            (
                torch.tensor([[0.5, math.nan]]),
                NotFiniteError,
                r"p_truth\[0, 1\] = nan \(member, example\) is NaN or infinity",
            ),
            (torch.tensor([[0.5], [math.inf]]), NotFiniteError, r"p_truth\[1, 0\] = inf"),
            (torch.tensor([[0.5], [-0.5]]), ValueError, r"p_truth\[1, 0\] = -0.5 \(member, example\) is no probability"),
            (torch.tensor([[1.5]]), ValueError, r"p_truth\[0, 0\] = 1.5"),
            (torch.rand(3, generator=torch.Generator()), ValueError, r"shape \(3,\): expected \(M, N\)"),
            (torch.zeros(0, 3), ValueError, r"shape \(0, 3\): expected \(M, N\), neither of them 0"),
            (torch.zeros(3, 0), ValueError, r"shape \(3, 0\)"),
        ],
    )
    def test_what_is_no_probability_is_named(self, p: torch.Tensor, error: type[Exception], message: str) -> None:
        for fit in (fit_prior, lambda p: greedy_members(p, 1)):
            with pytest.raises(error, match=message):
                fit(p)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"method": "em"}, "method = 'em': expected 'exact' or 'softmax'"),
            ({"gap": 0.0}, "gap = 0.0: expected a number of nats above 0"),
            ({"gap": math.nan}, "gap = nan"),
            ({"max_iterations": 0}, "max_iterations = 0: expected at least 1"),
        ],
    )
    def test_arguments_out_of_range_are_named(self, arguments: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            fit_prior(population(2, 3), **arguments)


class TestSelectMembers:
    def test_heaviest_first_and_the_lower_index_among_equals(self) -> None:
        indices, weights = select_members(torch.tensor([0.1, 0.3, 0.1, 0.3, 0.2], dtype=torch.float64), 4)
        assert indices.tolist() == [1, 3, 4, 0]
        assert weights.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 9, 1 / 9])

    def test_all_members_keep_their_weights(self) -> None:
        weights = fit_prior(population(6, 30)).weights
        indices, chosen = select_members(weights, 6)
        torch.testing.assert_close(chosen, weights[indices])
        assert sorted(indices.tolist()) == list(range(6))

    @pytest.mark.parametrize(
        ("weights", "k", "message"),
        [
            ([0.5, 0.5], 3, "k = 3: expected 1 … M = 2"),
            ([0.5, 0.5], 0, "k = 0: expected 1 … M = 2"),
            ([0.5, math.nan], 1, r"weights\[1\] = nan: expected finite numbers, at least 0"),
            ([0.5, -0.5], 1, r"weights\[1\] = -0.5"),
            ([0.0, 0.0], 1, "every weight is 0"),
            ([], 1, r"shape \(0,\): expected \(M,\)"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, weights: list[float], k: int, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            select_members(torch.tensor(weights), k)


class TestGreedyMembers:
    def test_it_equals_trying_every_member_at_every_pick(self) -> None:
        p = population(6, 50, spread=2.0)
        picks: list[int] = []
        for _ in range(9):
            picks.append(min(range(6), key=lambda m: float(nll(p[[*picks, m]].mean(0)))))
        indices, weights = greedy_members(p, 9)
        assert {int(i): round(float(w) * 9) for i, w in zip(indices, weights, strict=True)} == {
            m: picks.count(m) for m in set(picks)
        }
        assert weights.tolist() == sorted(weights.tolist(), reverse=True)
        assert float(weights.sum()) == pytest.approx(1)

    def test_the_first_pick_is_the_best_single_member_and_ties_go_to_the_first(self) -> None:
        p = population(5, 50)
        assert greedy_members(p, 1)[0].tolist() == [int(nll(p).argmin())]
        assert greedy_members(p[:1].expand(3, 50), 4)[0].tolist() == [0]

    def test_it_approaches_the_optimum_but_never_passes_it(self) -> None:
        p = population(10, 100, spread=2.0)
        indices, weights = greedy_members(p, 200)
        best = fit_prior(p).nll
        assert best - 1e-6 <= float(nll(weights @ p[indices])) < best + 1e-3

    def test_at_least_one_pick(self) -> None:
        with pytest.raises(ValueError, match="k = 0: expected at least 1"):
            greedy_members(population(2, 3), 0)


class TestMixture:
    def test_it_averages_probabilities_of_images_and_tokens(self) -> None:
        stream = torch.Generator().manual_seed(0)
        probabilities = torch.randn(3, 4, 5, 6, generator=stream, dtype=torch.float64).softmax(-1)
        weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
        expected = sum(w * p for w, p in zip(weights, probabilities, strict=True))
        torch.testing.assert_close(mixture(probabilities, weights), expected)
        torch.testing.assert_close(mixture(probabilities[:, :, 0], weights), expected[:, 0])

    def test_one_member_is_itself(self) -> None:
        probabilities = torch.tensor([[[0.25, 0.75]]])
        assert torch.equal(mixture(probabilities, torch.ones(1)), probabilities[0])

    def test_types(self) -> None:
        probabilities = torch.tensor([[[0.25, 0.75]], [[0.5, 0.5]]])
        weights = torch.tensor([0.5, 0.5], dtype=torch.float64)
        assert mixture(probabilities, weights).dtype == torch.float32
        assert mixture(probabilities.bfloat16(), weights).dtype == torch.float32
        assert mixture(probabilities.double(), weights.float()).dtype == torch.float64

    @pytest.mark.parametrize(
        ("probabilities", "weights", "message"),
        [
            (torch.ones(2, 3, 1), torch.ones(3) / 3, r"\(2, 3, 1\) and weights \(3,\) do not fit: expected \(M, N, C\)"),
            (torch.ones(2, 3, 1), torch.tensor([0.5, 0.6]), "weights sum to 1.1: expected 1"),
            (torch.ones(2, 3, 1), torch.tensor([1.5, -0.5]), r"weights\[1\] = -0.5"),
            (-torch.ones(2, 3, 1), torch.tensor([0.5, 0.5]), "give softmax outputs, not logits"),
            (torch.full((2, 3, 1), torch.nan), torch.tensor([0.5, 0.5]), "negative values or NaN"),
        ],
    )
    def test_what_does_not_fit_is_named(self, probabilities: torch.Tensor, weights: torch.Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            mixture(probabilities, weights)


def test_nll_by_member_is_floored() -> None:
    p = torch.tensor([[0.5, 0.25], [0.0, 1.0]], dtype=torch.float64)
    assert nll(p).tolist() == pytest.approx([1.5 * math.log(2), -0.5 * math.log(1e-12)])
    assert nll(p.half()).dtype == torch.float32


def test_numpy_arrays_are_accepted() -> None:
    p = population(3, 40)
    assert torch.equal(fit_prior(p.numpy()).weights, fit_prior(p).weights)  # type: ignore[arg-type]
    indices, share = select_members(np.array([0.2, 0.5, 0.3]), np.int64(2))  # type: ignore[arg-type]
    assert (indices.tolist(), share.tolist()) == ([1, 2], pytest.approx([0.625, 0.375]))
    assert mixture(np.array([[[1.0, 0.0]], [[0.5, 0.5]]]), np.array([0.5, 0.5])).tolist() == [[0.75, 0.25]]  # type: ignore[arg-type]
    assert float(nll(np.array([0.5]))) == pytest.approx(math.log(2))  # type: ignore[arg-type]
