"""The recipes, and how curves and ratios are read off them."""

from typing import Any

import pytest

from benchmarks.q0_images import SCALES, Recipe, ablations, curves, main_recipe, plans_of, ratios, recipes
from decouple.q0.plan import Plans


def point(epochs: int, members: int, validation: float, test: float) -> dict[str, Any]:
    entry = {"validation_nll": validation, "test_nll": test, "test_accuracy": 0.9}
    return {"epochs": epochs, "members": members, **dict.fromkeys(("uniform", "later_half", "learned", "greedy"), entry)}


@pytest.mark.parametrize("scale", SCALES)
def test_no_recipe_spends_more_than_the_budget_and_names_differ(scale: str) -> None:
    size = SCALES[scale]
    found = recipes(size)
    assert len({recipe.name for recipe in found}) == len(found)
    assert {recipe.method for recipe in found} == {"single", "ensemble", "snapshot", "q0"}
    for recipe in [*found, *ablations(size).values()]:
        assert recipe.trajectories * recipe.q0.cycles * recipe.q0.epochs <= size.budget
        assert recipe.stages()[-1][0] == recipe.trajectories * recipe.q0.cycles
    # A curve's point is what a smaller budget would have given only if no setting looks ahead to the last cycle.
    assert main_recipe(size).q0.perturb_last == 1
    assert main_recipe(size).q0.batch_edges == 1


def test_validation_chooses_and_test_reports() -> None:
    size = SCALES["tiny"]
    one, other = main_recipe(size), recipes(size)[-1]
    known: dict[str, Recipe] = {one.name: one, other.name: other}
    found = {
        one.name: [{"points": [point(2, 1, 1.0, 0.5), point(4, 2, 0.8, 0.9)]}],
        other.name: [{"points": [point(3, 2, 0.9, 0.1)]}],
    }
    line = curves(size, found, known)["q0-learned"]
    assert [(p["budget"], p["epochs"], p["test_nll"]["mean"]) for p in line] == [(2, 2, 0.5), (3, 3, 0.1), (4, 4, 0.9)]


def test_the_ratio_is_of_epochs_at_equal_test_nll() -> None:
    def line(*values: tuple[int, float]) -> list[dict[str, Any]]:
        return [{"budget": b, "epochs": b, "test_nll": {"mean": v}} for b, v in values]

    found = ratios(line((8, 0.9), (16, 0.5), (32, 0.4)), line((4, 0.8), (8, 0.45), (16, 0.3)))
    assert found["at_the_baselines_best"] == {"nll": 0.4, "baseline_epochs": 32, "epochs": 16, "ratio": 2.0}
    assert [row["ratio"] for row in found["all"]] == [2.0, 2.0, 2.0]
    assert ratios(line((8, 0.1)), line((4, 0.8)))["at_the_baselines_best"]["ratio"] is None


def test_plans_follow_their_schema() -> None:
    recipe = main_recipe(SCALES["tiny"])
    seeds = [{"points": [point(2, 1, 1.0, 0.5)]}, {"points": [point(2, 1, 2.0, 0.7)]}]
    entry = {"data": "ants", "train": 9, "recipes": {"r": {"method": "q0", "text": recipe.text, "seeds": seeds}}}
    plans = Plans.check(plans_of([entry], SCALES["tiny"], {}))
    assert (plans.rows[0].validation_nll, plans.rows[0].test_nll.mean) == (1.5, pytest.approx(0.6))
