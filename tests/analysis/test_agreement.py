"""Disagreement, overlap of errors, and the decomposition of an ensemble's score."""

import pytest
import torch
from sklearn.metrics import brier_score_loss, jaccard_score

from decouple.analysis import ambiguity_decomposition, disagreement, error_overlap
from decouple.errors import NotFiniteError


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


class TestErrorOverlap:
    def test_it_is_the_jaccard_index_of_the_errors(self) -> None:
        stream = torch.Generator().manual_seed(0)
        a, b, labels = (torch.randint(0, 3, (40,), generator=stream) for _ in range(3))
        assert float(error_overlap(a, b, labels)) == pytest.approx(jaccard_score(a != labels, b != labels), abs=1e-12)

    def test_equal_disjoint_and_no_errors(self) -> None:
        labels = torch.zeros(4, dtype=torch.int64)
        a, b = torch.tensor([1, 0, 0, 0]), torch.tensor([0, 1, 0, 0])
        assert float(error_overlap(a, 2 * a, labels)) == 1, "another wrong answer is an error too"
        assert float(error_overlap(a, b, labels)) == 0
        assert float(error_overlap(labels, labels, labels)) == 1

    def test_labels_must_fit(self) -> None:
        with pytest.raises(ValueError, match=r"shapes \(3,\) and \(4,\)"):
            error_overlap(torch.arange(3), torch.arange(3), torch.arange(4))


class TestAmbiguityDecomposition:
    def test_it_adds_up_and_equals_the_plain_scores(self) -> None:
        stream = torch.Generator().manual_seed(0)
        probabilities = torch.randn(5, 30, 4, generator=stream, dtype=torch.float64).softmax(2)
        labels = torch.arange(30) % 4
        found = ambiguity_decomposition(probabilities, labels)
        assert float(found.ensemble) == pytest.approx(float(found.members - found.ambiguity), abs=1e-12)
        scores = [brier_score_loss(labels, p.numpy(), scale_by_half=False) for p in (*probabilities, probabilities.mean(0))]
        assert float(found.members) == pytest.approx(sum(scores[:5]) / 5, abs=1e-10)
        assert float(found.ensemble) == pytest.approx(scores[5], abs=1e-10)

    def test_equal_members_have_none(self) -> None:
        probabilities = torch.tensor([[0.7, 0.3], [0.2, 0.8]]).expand(3, 2, 2)
        found = ambiguity_decomposition(probabilities, torch.tensor([0, 0]))
        assert float(found.ambiguity) == pytest.approx(0, abs=1e-12)
        assert float(found.ensemble) == pytest.approx((2 * 0.3**2 + 2 * 0.8**2) / 2, abs=1e-6)

    def test_what_does_not_serve_is_named(self) -> None:
        good, labels = torch.full((2, 3, 4), 0.25), torch.tensor([0, 1, 3])
        with pytest.raises(ValueError, match=r"shape \(3, 4\): expected \(M, N, C\)"):
            ambiguity_decomposition(good[0], labels)
        with pytest.raises(ValueError, match=r"labels have shape \(2,\)"):
            ambiguity_decomposition(good, labels[:2])
        with pytest.raises(ValueError, match="labels go from 0 to 4: expected 0 to C − 1 = 3"):
            ambiguity_decomposition(good, torch.tensor([0, 1, 4]))
        with pytest.raises(ValueError, match=r"take softmax\(-1\) of logits"):
            ambiguity_decomposition(3 * good, labels)
        broken = good.clone()
        broken[1, 2, 0] = float("nan")
        with pytest.raises(NotFiniteError, match="member 1 holds NaN"):
            ambiguity_decomposition(broken, labels)
