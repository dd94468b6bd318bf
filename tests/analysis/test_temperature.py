"""The temperature of probabilities, against its objective on a grid."""

from __future__ import annotations

import math

import pytest
import torch

from decouple.analysis import fit_temperature, tempered


def made_up(count: int = 400, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels that are drawn from them."""
    stream = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, classes, generator=stream, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=stream).squeeze(1)


def nll(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    return float(-probabilities[torch.arange(len(labels)), labels].log().mean())


@pytest.mark.parametrize("factor", [0.25, 0.8, 4.0])
def test_that_it_undoes_logits_that_are_too_small_or_too_large(factor: float) -> None:
    logits, labels = made_up()
    own, scaled = fit_temperature(logits.softmax(1), labels), fit_temperature((factor * logits).softmax(1), labels)
    assert scaled == pytest.approx(factor * own, rel=0.03)  # the error that is added is another one


def test_that_answers_that_are_too_sure_get_the_best_temperature() -> None:
    logits, labels = made_up()
    probabilities = (3 * logits).softmax(1)
    found = fit_temperature(probabilities, labels)
    best = min((nll(tempered(probabilities, t), labels), t) for t in torch.linspace(1, 6, 2001).tolist())[1]
    assert found > 2
    assert found == pytest.approx(best, abs=0.003)


def test_that_answers_become_surer_only_as_far_as_one_more_error_allows() -> None:
    logits, labels = made_up(60)
    probabilities = (0.4 * logits).softmax(1)
    best = min((nll(tempered(probabilities, t), labels), t) for t in torch.linspace(0.05, 1, 2001).tolist())[1]

    def with_error(temperature: float) -> float:
        logs = tempered(probabilities, temperature).log()
        other = logs.scatter(1, labels[:, None], -math.inf).amax(1)
        return float(-logs[torch.arange(60), labels].sum() - other.mean())

    cautious = min((with_error(t), t) for t in torch.linspace(0.05, 1, 2001).tolist())[1]
    found = fit_temperature(probabilities, labels)
    assert best < found < 1
    assert found == pytest.approx(cautious, abs=0.002)


def test_that_few_answers_that_are_right_are_left_as_they_are() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(probabilities, torch.tensor([0, 1])) == 1


def test_that_certain_answers_are_left_and_wrong_ones_end_at_the_bound() -> None:
    certain = torch.eye(3).repeat(10, 1)
    labels = torch.arange(3).repeat(10)
    assert fit_temperature(certain, labels) == pytest.approx(1)
    assert fit_temperature(certain, (labels + 1) % 3) == pytest.approx(16)


def test_that_a_tempered_row_is_a_power_of_it() -> None:
    row = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    torch.testing.assert_close(tempered(row, 0.5), row**2 / (row**2).sum())
    assert tempered(row, 1) is row
    assert float(tempered(torch.tensor([1.0, 0.0]), 0.3)[0]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("probabilities", "labels", "named"),
    [
        (torch.ones(2, 3) / 3, torch.zeros(3, dtype=torch.int64), r"\(2, 3\) and labels \(3,\)"),
        (torch.ones(0, 3), torch.zeros(0, dtype=torch.int64), r"\(0, 3\)"),
        (torch.tensor([[-1.0, 2.0]]), torch.tensor([0]), "logits"),
        (torch.tensor([[math.nan, 1.0]]), torch.tensor([0]), "NaN"),
    ],
)
def test_that_wrong_input_is_named(probabilities: torch.Tensor, labels: torch.Tensor, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        fit_temperature(probabilities, labels)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_that_a_temperature_is_above_0(temperature: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        tempered(torch.tensor([0.5, 0.5]), temperature)
