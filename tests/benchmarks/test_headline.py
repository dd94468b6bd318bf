"""How measured populations are read."""

from typing import Any

from benchmarks.headline import headline, line, regime
from benchmarks.recipes import Recipe, alone
from decouple.config import Q0Config


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


def test_the_regime_has_one_network_of_each_length() -> None:
    singles = [Recipe("single", name, alone(Q0Config(), epochs)) for name, epochs in (("a", 4), ("b", 4), ("c", 8))]
    made = {
        name: [[point(epochs, validation, 1.0)]]
        for name, epochs, validation in (("a", 4, 3.0), ("b", 4, 2.0), ("c", 8, 2.5))
    }
    assert [(found["epochs"], found["recipe"]) for found in regime(made, singles)] == [(4, "b"), (8, "c")]
