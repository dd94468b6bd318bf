"""Ways to spend epochs: populations, ensembles and single networks, for all data alike.

- single: one network trained longer, its learning rate falling to 0. This shows the regime: where more epochs no longer help.
- ensemble: independent such networks, probabilities averaged; the best epochs a network count for each budget.
- snapshots: cosine cycles to 0, flat weight decay, no distillation, no noise; equal weights.
- q0: cycles with anti-phase rates, distillation from the snapshot before and noise on the weights; equal weights, or the
  learned prior. And one trajectory of it with one thing changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from decouple.config import Q0Config


@dataclass(frozen=True)
class Recipe:
    """A way to spend epochs."""

    method: str
    """The line of the figure that it is a choice of: the best on validation counts, budget by budget."""
    name: str
    q0: Q0Config
    dropout: float = 0.0
    """Of the network, where it has one."""

    def having(self, **settings: Any) -> Recipe:
        """This one with other settings: of q0, or the dropout."""
        dropout = settings.pop("dropout", self.dropout)
        return replace(self, q0=replace(self.q0, **settings), dropout=dropout)

    def setting(self, name: str) -> Any:
        return self.dropout if name == "dropout" else getattr(self.q0, name)


@dataclass(frozen=True, kw_only=True)
class PopulationSize:
    """What is measured."""

    base: Q0Config
    """q0, and what all methods share."""
    budget: int
    """Total epochs of the largest population of q0 and of snapshots."""
    ensembles: int
    """Total epochs of the largest ensemble: more, to see how many it takes to reach q0."""
    singles: tuple[int, ...]
    """Epochs of a single network."""
    models: tuple[int, ...]
    """Epochs of a network of an ensemble."""
    cycles: tuple[int, ...]
    """Epochs of a cycle, of snapshots and q0."""
    trajectories: tuple[int, ...] = (1, 2)
    """Of q0's populations: parallel ones that share the budget."""
    ablations: int
    """Epochs of the one trajectory of q0 that has one thing changed; 0: none has."""
    pilot: int
    """Epochs of the cyclic populations that tuning compares. Of ensembles: three networks."""
    grid: dict[str, tuple[float, ...]]
    """What every method is tuned over."""
    q0_grid: dict[str, tuple[float, ...]]
    """What q0 has beside them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    precision: Literal["float32", "bfloat16"] = "bfloat16"


PLAIN: dict[str, Any] = {"alpha": 0.0, "perturb": 0.0, "lr_floor": 0.0, "wd_floor": 1.0}
"""Of the baselines: none of q0's primitives."""


def alone(base: Any, epochs: int) -> Any:
    """Settings of a single network, or of an ensemble's."""
    return replace(base, trajectories=1, cycles=1, first_epochs=epochs, shape="linear", **PLAIN)


def methods(size: PopulationSize) -> list[tuple[Recipe, int, list[int]]]:
    """Each method at each of its lengths: the recipe before tuning, trajectories of its pilot, those of its populations.

    A recipe's cycles are those of the pilot; the populations fill the budget.
    """
    base: Any = replace(size.base, trajectories=1)
    cosine = replace(base, shape="cosine", **PLAIN)

    def cyclic(q0: Any, epochs: int) -> Any:
        return replace(q0, epochs=epochs, cycles=cycles_in(size.pilot, q0.epochs_in(0), epochs))

    found = [(Recipe("single", f"{n} epochs", alone(base, n)), 1, [1]) for n in size.singles]
    found += [(Recipe("ensemble", f"models of {n} epochs", alone(base, n)), 3, [size.ensembles // n]) for n in size.models]
    found += [(Recipe("snapshots", f"snapshots of {n} epochs", cyclic(cosine, n)), 1, [1]) for n in size.cycles]
    found += [(Recipe("q0", f"q0, cycles of {n} epochs", cyclic(base, n)), 1, list(size.trajectories)) for n in size.cycles]
    return found


def cycles_in(epochs: int, first: int, each: int) -> int:
    """Cycles that fit, the first of other length.

    >>> cycles_in(52, 8, 4)
    12
    """
    return 1 + max(0, epochs - first) // each


def filling(recipe: Recipe, trajectories: int, budget: int) -> Recipe:
    """A recipe in so many trajectories that fill the budget."""
    q0 = recipe.q0
    cycles = cycles_in(budget // trajectories, q0.epochs_in(0), q0.epochs) if q0.cycles > 1 else 1
    name = f"{recipe.name}, {trajectories} trajectories" if trajectories > 1 and cycles > 1 else recipe.name
    return replace(recipe.having(cycles=cycles, trajectories=trajectories), name=name)


def changed(main: Recipe, changes: Mapping[str, Mapping[str, Any]], epochs: int) -> list[Recipe]:
    """q0 in one trajectory with one thing changed, by name, for the same epochs; without those that change nothing."""
    recipes = {name: filling(main.having(**change), 1, epochs) for name, change in changes.items()}
    found = [replace(recipe, method=name, name=name) for name, recipe in recipes.items()]
    return [recipe for recipe in found if recipe.q0 != main.q0]


TINY: dict[str, Any] = {
    "budget": 6,
    "ablations": 3,
    "ensembles": 6,
    "singles": (2, 4),
    "models": (2,),
    "cycles": (1,),
    "pilot": 3,
    "q0_grid": {"alpha": (0.0, 0.45)},
    "seeds": (0, 1),
}
"""Of a size to try the program with; its base has a first cycle of 2 epochs and others of 1."""
