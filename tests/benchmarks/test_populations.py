"""What the q0 benchmarks choose, and how they count."""

from typing import Any

import pytest
import torch

from benchmarks import q0_images, q0_text
from benchmarks.populations import (
    Point,
    PopulationSize,
    Recipe,
    changed,
    filling,
    headline,
    line,
    methods,
    points_of,
    tune,
    weighted,
)
from decouple.config import Q0Config, TextQ0Config

SIZES = [
    (q0_text.SCALES["small"], q0_text.CHANGES),
    (q0_images.SCALES["small"]["mnist"], q0_images.CHANGES),
    (q0_images.SCALES["small"]["cifar10"], q0_images.CHANGES),
]


def point(epochs: int, validation: float, test: float) -> dict[str, float]:
    return {"epochs": epochs, "members": 1, "trajectories": 1, "validation_uniform": validation, "test_uniform": test}


def test_a_line_is_chosen_on_validation_and_reported_on_test() -> None:
    made = {"a": [[point(4, 3.0, 3.5), point(8, 2.0, 2.5)]] * 2, "b": [[point(4, 2.9, 9.0), point(16, 2.1, 1.0)]] * 2}
    found = line(made, ["a", "b"], "uniform")
    assert [(p["epochs"], p["recipe"], p["test"]["mean"]) for p in found] == [(4, "b", 9.0), (8, "a", 2.5)]


def test_the_headline_is_what_each_needs_for_what_both_reach() -> None:
    def points(*values: tuple[int, float]) -> list[dict[str, Any]]:
        return [{"epochs": n, "test": {"mean": v}, "test_of_seeds": [v, v + 0.1]} for n, v in values]

    found = headline(points((8, 3.0), (16, 2.5), (64, 2.0)), points((4, 3.0), (16, 2.0), (32, 1.5)))
    assert (found["target"], found["ensemble_epochs"], found["q0_epochs"], found["ratio"]) == (2.0, 64, 16, 4.0)
    assert found["ratio_of_seeds"] == [4.0, 4.0]
    less = headline(points((8, 3.0), (16, 1.0)), points((4, 2.0)))
    assert (less["target"], less["ensemble_epochs"], less["q0_epochs"]) == (2.0, 16, 4), "the lowest that both reach"


@pytest.mark.parametrize(("size", "changes"), SIZES)
def test_baselines_are_alone_and_each_removal_changes_one_thing(size: PopulationSize, changes: dict[str, Any]) -> None:
    every = methods(size)
    assert all(recipe.q0.alpha == recipe.q0.perturb == 0 for recipe, _, _ in every if recipe.method != "q0")
    assert len({recipe.name for recipe, _, _ in every}) == len(every)
    main = filling(next(recipe for recipe, _, _ in every if recipe.method == "q0"), 1, size.budget)
    found = changed(main, changes)
    assert len(found) in (len(changes), len(changes) - 1), "what is so already is no change"
    several = {"q0 of new networks", "q0 with distillation, T = 2"}
    for recipe in found:
        differing = [name for name in main.q0.__dataclass_fields__ if recipe.setting(name) != main.setting(name)]
        assert len(differing) == (2 if recipe.name in several else 1), recipe.name


@pytest.mark.parametrize(("size", "changes"), SIZES)
def test_all_methods_are_tuned_with_the_same_grid(size: PopulationSize, changes: dict[str, Any]) -> None:
    base = methods(size)[0][0]
    assert all(base.setting(name) in values for name, values in size.grid.items()), "it begins with what is in the grid"
    assert all(getattr(size.base, name) in values for name, values in size.q0_grid.items())


@pytest.mark.parametrize("base", [TextQ0Config(first_epochs=8, epochs=4, cycles=2), Q0Config(first_epochs=8, epochs=4)])
@pytest.mark.parametrize("trajectories", [1, 2, 3])
def test_populations_fill_the_budget(trajectories: int, base: Q0Config | TextQ0Config) -> None:
    made = filling(Recipe("q0", "q0", base), trajectories, 128).q0
    assert made.trajectories == trajectories
    assert 128 - 4 * trajectories < trajectories * made.epochs_before(made.cycles) <= 128


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
    asked = []

    def measure(recipe: Recipe, seed: int) -> list[Point]:
        asked.append((recipe.q0.lr, recipe.dropout, recipe.q0.trajectories, seed))
        return [{"validation_uniform": (recipe.q0.lr - 2) ** 2 + (recipe.dropout - 0.5) ** 2}]

    start = Recipe("q0", "q0", TextQ0Config(lr=1.0))
    best, trials = tune(start, 3, {"lr": (1.0, 2.0, 4.0), "dropout": (0.0, 0.5)}, measure, 7)
    assert (best.q0.lr, best.dropout) == (2.0, 0.5)
    assert asked == [(1.0, 0.0, 3, 7), (2.0, 0.0, 3, 7), (4.0, 0.0, 3, 7), (2.0, 0.5, 3, 7)]
    assert [trial["validation"] for trial in trials] == [1.25, 0.25, 4.25, 0.0]
