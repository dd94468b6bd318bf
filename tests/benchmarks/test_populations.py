"""How populations are weighted and tuned."""

from dataclasses import replace

import pytest
import torch

from benchmarks.headline import Point
from benchmarks.populations import points_of, tune, weighted
from benchmarks.recipes import Recipe
from decouple.config import TEXT_Q0, Q0Config


def test_a_recipe_passes_through_smaller_populations() -> None:
    recipe = Recipe("q0", "q0", Q0Config(trajectories=2, first_epochs=3, epochs=1, cycles=2))
    said = {(t, c): f"{t}{c}" for t in range(2) for c in range(2)}
    found = points_of(recipe, said, lambda members: {"said": float("".join(members))})
    assert [(p["epochs"], p["members"], p["said"]) for p in found] == [(3, 1, 0), (4, 2, 1), (6, 2, 10), (8, 4, 11011)]


def test_members_are_weighted_in_each_way() -> None:
    truths = {name: torch.tensor([[0.5, 0.5], [0.25, 0.25]]).double() for name in ("prior", "validation", "test")}
    found = weighted(truths, torch.tensor([1.0, 0.0], dtype=torch.float64), lambda name, nats: nats / 2)
    assert found["test_learned"] == pytest.approx(-torch.tensor(0.5).log() / 2)
    assert found["test_last"] == pytest.approx(-torch.tensor(0.25).log() / 2)
    assert found["validation_uniform"] == pytest.approx(-torch.tensor(0.375).log() / 2)


def test_tuning_takes_the_best_of_one_setting_after_the_other() -> None:
    """On a bowl in (lr, dropout), whose least is (2, 0.5); nothing is measured twice."""
    asked: list[tuple[float, float, int | None, int]] = []

    def measure(recipe: Recipe, seed: int) -> list[Point]:
        asked.append((recipe.q0.lr, recipe.dropout, recipe.q0.trajectories, seed))
        return [{"validation_uniform": (recipe.q0.lr - 2) ** 2 + (recipe.dropout - 0.5) ** 2}]

    start = Recipe("q0", "q0", replace(TEXT_Q0, lr=1.0))
    found, trials = tune(start, 3, {"lr": (1.0, 2.0, 4.0), "dropout": (0.0, 0.5)}, measure, 7)
    assert list(found) == ["uniform"], "nothing was calibrated"
    assert (found["uniform"].q0.lr, found["uniform"].dropout) == (2.0, 0.5)
    assert asked == [(1.0, 0.0, 3, 7), (2.0, 0.0, 3, 7), (4.0, 0.0, 3, 7), (2.0, 0.5, 3, 7)]
    assert [trial["validation_uniform"] for trial in trials] == [1.25, 0.25, 4.25, 0.0]


def test_tuning_looks_for_learning_rate_and_weight_decay_together_and_for_each_way() -> None:
    """What is best as it is has lr · decay = 2, on a diagonal; what is best calibrated, lr = 4."""
    asked = []

    def measure(recipe: Recipe, seed: int) -> list[Point]:
        lr, decay = recipe.q0.lr, recipe.q0.weight_decay
        asked.append((lr, decay))
        return [{"validation_uniform": abs(lr * decay - 2) + lr / 100, "validation_calibrated": abs(lr - 4) + decay}]

    start = Recipe("q0", "q0", replace(TEXT_Q0, lr=4.0))
    found, trials = tune(start, 1, {"lr": (1.0, 2.0, 4.0), "weight_decay": (0.5, 1.0, 2.0)}, measure, 0)
    assert {way: (best.q0.lr, best.q0.weight_decay) for way, best in found.items()} == {
        "uniform": (1.0, 2.0),
        "calibrated": (4.0, 0.5),
    }
    assert len(asked) == len(set(asked)) == len(trials) == 9
