"""Effective rank: closed forms and the plain definition."""

import math

import pytest
import torch

from decouple.analysis import effective_rank

from .made_up import normal


def test_it_is_the_exponential_of_the_entropy_of_the_singular_values() -> None:
    reps = normal(9, 2, 3)
    values = torch.linalg.svdvals(reps.flatten(1)).tolist()
    entropy = -sum(v / sum(values) * math.log(v / sum(values)) for v in values)
    assert float(effective_rank(reps)) == pytest.approx(math.exp(entropy), abs=1e-10)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_equal_singular_values_count_fully(rank: int) -> None:
    basis = torch.linalg.qr(normal(8, 8)).Q[:rank]
    coordinates = torch.linalg.qr(normal(12, 12)).Q[:, :rank]
    assert float(effective_rank(coordinates @ basis)) == pytest.approx(rank, abs=1e-8)


def test_rows_are_not_centred_and_scale_does_not_matter() -> None:
    assert float(effective_rank(torch.ones(6, 4))) == pytest.approx(1, abs=1e-6)
    assert float(effective_rank(1e-3 * normal(6, 4))) == pytest.approx(float(effective_rank(normal(6, 4))), abs=1e-10)
    assert float(effective_rank(normal(1, 4))) == pytest.approx(1)


def test_nothing_but_zeros_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing but zeros: its rank is undefined"):
        effective_rank(torch.zeros(3, 4))
