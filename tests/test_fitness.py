"""Terms of a fitness: against loops over pairs of images, and the same for described candidates as for plain ones."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.errors import ConfigError, NotFiniteError
from decouple.fitness import (
    Agreement,
    Candidates,
    Judges,
    Peers,
    Terms,
    couples,
    fitness,
    log_likelihood,
    pooled,
    similarity,
)
from decouple.networks.factored import Factored, Mix, through

IMAGES, CLASSES, DIRECTIONS = 9, 4, 5
LABELS = torch.arange(IMAGES) % 3
SHAPES = [(6, 3, 2), (5, 6), (7,)]
"""A map, tokens, a vector."""


def _head(shape: tuple[int, ...]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), CLASSES)).requires_grad_(False)


def _values(shape: tuple[int, ...]) -> Tensor:
    return 1 + torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(1))


def _described(shape: tuple[int, ...]) -> Factored:
    stream = torch.Generator().manual_seed(2)
    directions = torch.randn(DIRECTIONS, *shape, generator=stream)
    return Factored.of(_values(shape), directions, Mix.mirrored(torch.rand(IMAGES, generator=stream), DIRECTIONS))


def _candidates(flat: Tensor, shape: tuple[int, ...]) -> Candidates:
    return Candidates(
        flat, through(_head(shape), flat), LABELS, Peers(_values(shape), LABELS), partial(through, _head(shape))
    )


def _cosines(candidates: Tensor, others: Tensor) -> Tensor:
    """Of the centred features of (B, F) with those of (N, F)."""
    one, other = ((each - each.mean(1, keepdim=True)).double() for each in (candidates, others))
    return functional.normalize(one, dim=1) @ functional.normalize(other, dim=1).T


def _by_hand(shape: tuple[int, ...]) -> Tensor:
    """Similarity (B, P), an image and a candidate at a time."""
    whole, found = _described(shape).whole(), []
    for candidate in whole.unbind(1):
        squares = (_cosines(pooled(candidate), pooled(_values(shape))) - (LABELS[:, None] == LABELS).double()).square()
        found.append(-2 * squares.mean(1))
    return torch.stack(found, 1).float()


@pytest.mark.parametrize("shape", SHAPES)
def test_similarity_is_that_of_all_pairs(shape: tuple[int, ...]) -> None:
    described = _described(shape)
    for flat in (described.flatten(0, 1), described.whole().flatten(0, 1)):
        assert torch.allclose(similarity(_candidates(flat, shape)), _by_hand(shape), atol=2e-5)


def test_described_candidates_stay_so() -> None:
    flat = _described((6, 3, 2)).flatten(0, 1)
    candidates = _candidates(flat, (6, 3, 2))
    similarity(candidates)
    assert isinstance(candidates.pooled, Factored)
    assert candidates.pooled.described
    assert isinstance(flat, Factored)
    assert flat.described


def test_candidates_with_terms_of_their_own_are_scored_too() -> None:
    """Those of a momentum, say: the image's own directions beside the shared ones."""
    stream = torch.Generator().manual_seed(3)
    values, own, directions = (torch.randn(n, 6, generator=stream) for n in (IMAGES, IMAGES, DIRECTIONS))
    mix = replace(
        Mix.mirrored(torch.rand(IMAGES, generator=stream), DIRECTIONS), own=(torch.rand(IMAGES, 11, generator=stream),)
    )
    described = Factored.of(values, directions, mix, own=[own])
    one, other = (similarity(_candidates(each.flatten(0, 1), (6,))) for each in (described, described.whole()))
    assert torch.allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("apart", [True, False])
def test_the_extremes_of_similarity(apart: bool) -> None:
    """0 if classes lie at right angles and each in one place; 2 · the share of other classes if all images lie there."""
    corners = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1], [1, 1, -1, -1]])
    features = corners[LABELS if apart else torch.zeros_like(LABELS)]
    candidates = Candidates(features, torch.zeros(IMAGES, CLASSES), LABELS, Peers(features, LABELS), nn.Identity())
    expected = 0.0 if apart else -2 * (1 - 3 / IMAGES)
    assert torch.allclose(similarity(candidates), torch.full((IMAGES, 1), expected), atol=1e-5)


def test_its_gradient_is_that_of_the_mean_over_pairs() -> None:
    """The other images stand still in the term, and a pair counts twice: together that is the gradient of the whole."""
    values = _values((6, 3, 2)).double().requires_grad_()
    same = LABELS[:, None] == LABELS
    unit = functional.normalize(values.mean((2, 3)) - values.mean((1, 2, 3))[:, None], dim=1)
    (expected,) = torch.autograd.grad((unit @ unit.T - same.double()).square().mean(), values)
    term = similarity(Candidates(values, torch.zeros(IMAGES, CLASSES), LABELS, Peers(values, LABELS), nn.Identity()))
    (found,) = torch.autograd.grad(-term.mean(), values)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_processes_that_share_a_step_find_what_one_would() -> None:
    shape, parts = (7,), (slice(0, 4), slice(4, IMAGES))
    values, head = _values(shape), _head(shape)
    whole = similarity(Candidates(values, head(values), LABELS, Peers(values, LABELS), head))
    sums: list[list[Tensor]] = []
    for part in parts:
        own: list[Tensor] = []
        similarity(_of_part(values, head, part, lambda each, own=own: own.append(each) or each))  # type: ignore[misc, func-returns-value]
        sums.append(own)
    totals = [sum(each) for each in zip(*sums, strict=True)]
    for part in parts:
        left = iter(totals)
        found = similarity(_of_part(values, head, part, lambda each, left=left: next(left)))  # type: ignore[misc]
        assert torch.allclose(found, whole[part], atol=1e-6)


def _of_part(values: Tensor, head: nn.Module, part: slice, total: Callable[[Tensor], Tensor]) -> Candidates:
    return Candidates(values[part], head(values[part]), LABELS[part], Peers(values[part], LABELS[part], total), head)


def spread(candidates: Candidates) -> Tensor:
    """One of a user's own."""
    return candidates.features().square().mean(2)


def test_a_fitness_is_the_sum_of_its_terms() -> None:
    shape = (6, 3, 2)
    described = _described(shape)
    terms: Terms = [(0.5, spread), (2.0, similarity)]
    found = fitness(_candidates(described.flatten(0, 1), shape), terms)
    whole = described.whole()
    logits = _head(shape)(whole.flatten(0, 1)).unflatten(0, whole.shape[:2])
    label = functional.cross_entropy(logits.movedim(2, 1), LABELS[:, None].expand(whole.shape[:2]), reduction="none")
    assert torch.allclose(found, -label + 0.5 * whole.mean((3, 4)).square().mean(2) + 2 * _by_hand(shape), atol=1e-4)
    assert torch.allclose(fitness(_candidates(described.flatten(0, 1), shape)), -label, atol=1e-5)


def test_what_a_term_may_look_at() -> None:
    shape = (6, 3, 2)
    candidates = _candidates(_described(shape).flatten(0, 1), shape)
    assert candidates.values().shape == (IMAGES, 11, *shape)
    assert torch.equal(candidates.values(), _described(shape).whole())
    assert candidates.features().shape == (IMAGES, 11, 6)
    assert torch.allclose(candidates.features(), candidates.values().mean((3, 4)), atol=1e-6)
    rows, label = candidates.log_probabilities(), LABELS[:, None, None].expand(-1, 11, 1)
    assert torch.allclose(rows.gather(2, label).squeeze(2), log_likelihood(candidates.logits, LABELS), atol=1e-6)


def mirrored(candidates: Candidates) -> Tensor:
    """What the judge makes of maps from the other side."""
    return log_likelihood(candidates.judge(candidates.flat.flip(3)), candidates.labels)


def test_a_term_may_ask_the_judge_again() -> None:
    shape = (6, 3, 2)
    described = _described(shape)
    other = Factored.of(_values(shape).flip(3), described._rows[IMAGES:-1].flip(3), described._mix)
    expected = log_likelihood(through(_head(shape), other.flatten(0, 1)), LABELS)
    assert torch.allclose(mirrored(_candidates(described.flatten(0, 1), shape)), expected, atol=1e-5)


def test_agreement_is_with_the_soft_labels_of_the_image() -> None:
    shape, positions = (7,), torch.arange(IMAGES).flip(0) + 2
    wanted = torch.rand(IMAGES + 2, CLASSES, generator=torch.Generator().manual_seed(4)).softmax(1)
    candidates = replace(_candidates(_described(shape).flatten(0, 1), shape), positions=positions)
    answers = candidates.log_probabilities()
    expected = torch.stack([answers[image] @ wanted[position] for image, position in enumerate(positions.tolist())])
    assert torch.allclose(Agreement(wanted)(candidates), expected, atol=1e-6)
    label = functional.one_hot(LABELS, CLASSES).float()
    hard = Agreement(label)(replace(candidates, positions=torch.arange(IMAGES)))
    assert torch.allclose(hard, log_likelihood(candidates.logits, LABELS), atol=1e-6), "hard labels are the log-probability"
    with pytest.raises(ConfigError, match="needs the positions of images: expected it in learning"):
        Agreement(wanted)(_candidates(_described(shape).flatten(0, 1), shape))


def test_several_judges_have_their_mean() -> None:
    shape = (6, 3, 2)
    candidates, other = (
        _candidates(_described(shape).flatten(0, 1), shape),
        nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)),
    )
    other.requires_grad_(False)
    own = log_likelihood(candidates.logits, LABELS)
    assert torch.allclose(Judges([_head(shape)])(candidates), own, atol=1e-6)
    both = (own + Judges([other])(candidates)) / 2
    assert torch.allclose(Judges([_head(shape), other])(candidates), both, atol=1e-6)
    assert not couples([(1.0, Judges([other]))])


@pytest.mark.parametrize(("wrong", "given"), [(lambda c: c.features(), r"\(9, 11, 6\)"), (lambda c: 1.0, "float")])
def test_a_term_of_another_shape_is_named(wrong: Callable[[Candidates], Tensor], given: str) -> None:
    wrong.__name__ = "mine"
    with pytest.raises(ConfigError, match=rf"the term mine gives {given}: expected .* \(images, candidates\) = \(9, 11\)"):
        fitness(_candidates(_described((6, 3, 2)).flatten(0, 1), (6, 3, 2)), [(1.0, wrong)])


def test_a_term_counts_as_one_that_looks_at_other_images_unless_it_says_no() -> None:
    def alone(candidates: Candidates) -> Tensor:
        return candidates.features().mean(2)

    assert couples([(1.0, alone)])
    alone.couples = False  # type: ignore[attr-defined]
    assert not couples([(1.0, alone)])
    assert not couples([])
    assert couples([(1.0, alone), (1.0, similarity)])


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "a", None])
def test_a_weight_that_is_no_number_is_named(weight: Any) -> None:
    with pytest.raises(ConfigError, match=r"the term similarity has the weight .*: expected a finite number"):
        fitness(_candidates(_described((6, 3, 2)).flatten(0, 1), (6, 3, 2)), [(weight, similarity)])


def test_a_term_that_is_finite_for_no_candidate_is_named() -> None:
    """What is not finite counts as failed, so that a search would keep its start, and live search would find nothing."""

    def broken(candidates: Candidates) -> Tensor:
        return candidates.log_probabilities().sum(2) * float("nan")

    candidates = _candidates(_described((6, 3, 2)).flatten(0, 1), (6, 3, 2))
    with pytest.raises(NotFiniteError, match=r"the term broken is NaN or infinite for every candidate"):
        fitness(candidates, [(0.1, broken)])

    def sometimes(candidates: Candidates) -> Tensor:
        return candidates.log_probabilities().sum(2).index_fill(1, torch.tensor([0]), float("nan"))

    assert fitness(candidates, [(0.1, sometimes)])[:, 1:].isfinite().all()
