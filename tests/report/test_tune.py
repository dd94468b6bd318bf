"""The picture of a tuning."""

import pytest
from matplotlib.figure import Figure

from decouple.report import style
from decouple.report.figures.tune import Tried, tuning_figure

from .reading import check_letters

SGD: list[Tried] = [({"sgd.lr": lr}, accuracy) for lr, accuracy in ((0.05, 0.5), (0.1, None), (0.2, 0.75))]
LEARN: list[Tried] = [
    ({"learn.lr": lr, "learn.live.weight": weight, "learn.augment": augment}, accuracy)
    for lr, weight, augment, accuracy in ((1e-4, 0.0, "none", 0.6), (0.1, 1.0, "crop", 0.7), (1.0, 2.0, "none", 0.65))
]


@pytest.fixture
def figure() -> Figure:
    return tuning_figure({"sgd": SGD, "learn": LEARN}, {"sgd": 2, "learn": 1})


def test_every_trial_is_a_dot_and_the_chosen_one_has_a_ring(figure: Figure) -> None:
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["sgd.lr", "learn.lr", "learn.live.weight", "learn.augment"]
    dots, ring = panels["sgd.lr"].lines
    assert list(zip(*dots.get_data(), strict=True)) == [(0, 50), (2, 75)], "none where it diverged"
    assert list(zip(*ring.get_data(), strict=True)) == [(2, 75)]
    assert [tick.get_text() for tick in panels["learn.live.weight"].get_xticklabels()] == ["0", "1", "2"]
    assert list(panels["learn.augment"].lines[0].get_xdata()) == [0, 1, 0]


def test_letters_do_not_overlap(figure: Figure) -> None:
    names = ["q0.weight_decay", "q0.lr", "q0.temperature", "q0.alpha"]
    many: list[Tried] = [(dict.fromkeys(names, 0.00125 * 2**n), 0.1 * n) for n in range(9)]
    check_letters({"few": figure, "many": tuning_figure({"q0": many}, {"q0": 8})})


def test_a_method_that_only_diverged_is_drawn_empty() -> None:
    figure = tuning_figure({"sgd": [({"sgd.lr": 0.1}, None), ({"sgd.lr": 0.2}, None)]}, {"sgd": 0})
    assert len(style.render(figure, "png")) > 1000
