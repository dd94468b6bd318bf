"""What the q0 benchmarks spend epochs on."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import q0_images, q0_text
from benchmarks.recipes import PopulationSize, Recipe, changed, filling, methods
from decouple.config import TEXT_Q0, Q0Config

SIZES = [
    (q0_text.SCALES["small"], q0_text.CHANGES),
    (q0_images.SCALES["small"]["mnist"], q0_images.CHANGES),
    (q0_images.SCALES["small"]["cifar10"], q0_images.CHANGES),
]


@pytest.mark.parametrize(("size", "changes"), SIZES)
def test_baselines_are_alone_and_each_removal_changes_one_thing(size: PopulationSize, changes: dict[str, Any]) -> None:
    every = methods(size)
    assert all(recipe.q0.alpha == recipe.q0.perturb == 0 for recipe, _, _ in every if recipe.method != "q0")
    assert len({recipe.name for recipe, _, _ in every}) == len(every)
    main = filling(next(recipe for recipe, _, _ in every if recipe.method == "q0"), 1, size.ablations)
    found = {recipe.name: recipe for recipe in changed(main, changes, size.ablations)}
    same = {name for name, change in changes.items() if all(main.setting(key) == value for key, value in change.items())}
    assert set(found) == set(changes) - same, "what is so already is no change"
    for name, recipe in found.items():
        differing = {key for key in main.q0.__dataclass_fields__ if recipe.setting(key) != main.setting(key)}
        assert differing - {"cycles"} == {key for key, value in changes[name].items() if main.setting(key) != value}, name
        short = main.q0.epochs_before(main.q0.cycles) - recipe.q0.epochs_before(recipe.q0.cycles)
        assert 0 <= short < recipe.q0.epochs, f"{name} costs as many epochs, as far as whole cycles go"


@pytest.mark.parametrize(("size", "changes"), SIZES)
def test_all_methods_are_tuned_with_the_same_grid(size: PopulationSize, changes: dict[str, Any]) -> None:
    base = methods(size)[0][0]
    assert all(base.setting(name) in values for name, values in size.grid.items()), "it begins with what is in the grid"
    assert all(getattr(size.base, name) in values for name, values in size.q0_grid.items())


@pytest.mark.parametrize("base", [replace(TEXT_Q0, first_epochs=8, epochs=4, cycles=2), Q0Config(first_epochs=8, epochs=4)])
@pytest.mark.parametrize("trajectories", [1, 2, 3])
def test_populations_fill_the_budget(trajectories: int, base: Q0Config) -> None:
    made = filling(Recipe("q0", "q0", base), trajectories, 128).q0
    assert made.trajectories == trajectories
    assert 128 - 4 * trajectories < trajectories * made.epochs_before(made.cycles) <= 128
