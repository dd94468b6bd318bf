"""Disagreement of predictions."""

import pytest
import torch

from decouple.analysis import disagreement


def test_it_is_the_share_that_differs() -> None:
    a = torch.tensor([0, 1, 2, 3, 4])
    assert float(disagreement(a, a)) == 0
    assert float(disagreement(a, a + 1)) == 1
    assert float(disagreement(a, torch.tensor([0, 1, 2, 0, 0]))) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.arange(3), torch.arange(4), r"shapes \(3,\) and \(4,\): expected \(N,\) twice"),
        (torch.arange(0), torch.arange(0), r"shapes \(0,\) and \(0,\)"),
        (torch.zeros(3, 4), torch.zeros(3, 4), r"shapes \(3, 4\)"),
        (torch.zeros(3), torch.zeros(3), r"expected classes, integers; take argmax\(1\) of logits"),
    ],
)
def test_what_are_no_predictions_is_named(a: torch.Tensor, b: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        disagreement(a, b)
