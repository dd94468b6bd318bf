"""Calibration and Brier score against formulas and known values."""

import pytest
import torch

from decouple.analysis import brier_score, reliability


def test_the_calibration_error_is_the_formula() -> None:
    stream = torch.Generator().manual_seed(0)
    p = torch.randn(500, 4, generator=stream, dtype=torch.float64).mul(2).softmax(1)
    labels = torch.randint(4, (500,), generator=stream)
    confidence, right = p.max(1).values, (p.argmax(1) == labels).double()
    expected = 0.0
    for b in range(10):
        inside = (confidence > b / 10) & (confidence <= (b + 1) / 10)
        if inside.any():
            expected += float(inside.double().mean() * (right[inside].mean() - confidence[inside].mean()).abs())
    assert reliability(p, labels, bins=10).ece == pytest.approx(expected, abs=1e-6)


def test_certain_answers() -> None:
    p, right, wrong = torch.eye(3), torch.arange(3), (torch.arange(3) + 1) % 3
    assert (reliability(p, right).ece, brier_score(p, right)) == (0.0, 0.0)
    assert (reliability(p, wrong).ece, brier_score(p, wrong)) == (1.0, 2.0)


def test_sums_that_round_above_one_are_probabilities() -> None:
    p = torch.tensor([[1 + 1e-6, 0.0], [1.0, 0.0]])
    assert reliability(p, torch.tensor([0, 0])).ece == 0.0


@pytest.mark.parametrize("measure", [reliability, brier_score])
def test_what_is_no_probability_is_refused(measure) -> None:
    with pytest.raises(ValueError, match="give softmax outputs, not logits"):
        measure(torch.tensor([[2.0, -1.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"\(2, 2\) and labels \(3,\) do not fit"):
        measure(torch.eye(2), torch.arange(3))
