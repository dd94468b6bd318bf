"""Tunes and measures the recipes, all alike.

Every method is tuned at every length of its training or cycle, with the same grid, by the validation of a small population of the
first seed: learning rate and weight decay together, since what counts is their product, and what else there is one after the other.
What is best calibrated may be another setting than what is best as it is, and is then measured too. Everything is run with all
seeds. A budget counts epochs of training; a distilled epoch also asks its teacher, which costs a forward pass (a third of a step).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.headline import Point, summarise
from benchmarks.recipes import PopulationSize, Recipe, changed, filling, methods
from decouple.progress import Progress
from decouple.q0 import nll

Measure = Callable[[Recipe, int], list[Point]]
"""Of a recipe and a seed: a point for every population that training passes through, the whole one last."""


def points_of(
    recipe: Recipe, said: Mapping[tuple[int, int], Any], population: Callable[[list[Any]], Mapping[str, float]]
) -> list[Point]:
    """Every population that a recipe passes through: its first t trajectories after c cycles each.

    A trajectory's first c cycles are those of one that ends there (but for the noise, whose scale falls to the last cycle).

    Args:
        said: what each snapshot says, by (trajectory, cycle).
        population: the figures of some snapshots together.
    """
    q0, found = recipe.q0, []
    for trajectories in range(1, (q0.trajectories or 1) + 1):
        for cycles in range(1, q0.cycles + 1):
            chosen = [said[t, c] for t in range(trajectories) for c in range(cycles)]
            size = {
                "epochs": trajectories * q0.epochs_before(cycles),
                "members": len(chosen),
                "trajectories": trajectories,
            }
            found.append({**size, **population(chosen)})
    return found


def weighted(
    truths: Mapping[str, Tensor],
    learned: Tensor,
    unit: Callable[[str, float], float] = lambda split, nats: nats,
) -> Point:
    """Of some members: with equal weights, with the learned prior, and the last one alone.

    Args:
        truths: for the splits validation and test: (M, N) float64 probability of what is true.
        learned: the learned prior's weights (M,).
        unit: of a split's name and its nats: what to report.
    """
    members = len(learned)
    ways = {
        "uniform": torch.full((members,), 1 / members, dtype=torch.float64),
        "learned": learned,
        "last": torch.tensor([0.0] * (members - 1) + [1.0], dtype=torch.float64),
    }
    return {
        f"{name}_{way}": unit(name, float(nll(weights @ truths[name])))
        for way, weights in ways.items()
        for name in ("validation", "test")
    }


def tune(
    recipe: Recipe,
    trajectories: int,
    grid: Mapping[str, Sequence[float]],
    measure: Measure,
    seed: int,
) -> tuple[dict[str, Recipe], list[dict[str, Any]]]:
    """Learning rate and weight decay together, then one setting after the other, at the values whose population is best on
    validation.

    Returns:
        The best recipe by way of weighting: with equal weights, and calibrated where that is measured; what was tried, with its
        validation.
    """
    known: dict[Recipe, Point] = {}
    together = [name for name in ("lr", "weight_decay") if name in grid]
    steps = [together, *([name] for name in grid if name not in together)]

    def best(way: str) -> Recipe:
        found = recipe.having(trajectories=trajectories)
        for names in steps:
            combinations = itertools.product(*(grid[name] for name in names))
            options = [found.having(**dict(zip(names, values, strict=True))) for values in combinations]
            known.update({option: measure(option, seed)[-1] for option in options if option not in known})
            found = min(options, key=lambda option: known[option][f"validation_{way}"])
        return found

    found = {"uniform": best("uniform")}
    if "validation_calibrated" in known[found["uniform"]]:
        found["calibrated"] = best("calibrated")
    trials = [
        {**{name: option.setting(name) for name in grid}, **{k: v for k, v in point.items() if k.startswith("validation_")}}
        for option, point in known.items()
    ]
    return found, trials


def compare(size: PopulationSize, measure: Measure, changes: Mapping[str, Mapping[str, Any]], what: str) -> dict[str, Any]:
    """Tune and measure everything: the figures of a receipt.

    Args:
        measure: called again with what it was given before: let it keep what it has made.
        changes: see `changed`.
        what: is measured, for the progress bar.
    """
    tuning: list[dict[str, Any]] = []
    made: dict[str, list[list[Point]]] = {}
    populations: list[Recipe] = []
    grids = {True: {**size.grid, **size.q0_grid}, False: size.grid}
    with Progress().task(f"{what}, tuning", len(methods(size)), "methods") as advance:
        for recipe, pilot, counts in methods(size):
            bests, tried = tune(recipe, pilot, grids[recipe.method == "q0"], measure, size.seeds[0])
            fill = size.ensembles if recipe.method == "ensemble" else size.budget
            best = bests["uniform"]
            chosen = [best, *(replace(b, name=f"{b.name}, to be calibrated") for b in bests.values() if b != best)]
            populations += [filling(each, count, fill) for each in chosen for count in counts]
            tuning.append({"method": recipe.method, "name": recipe.name, "trials": tried})
            if recipe.method == "q0" and recipe.q0.epochs == size.base.epochs:
                main = filling(bests.get("calibrated", best), 1, size.ablations)
            advance(1)
    if size.ablations:
        populations += [replace(main, method="q0 itself", name="q0 itself"), *changed(main, changes, size.ablations)]
    with Progress().task(what, len(populations) * len(size.seeds), "populations") as advance:
        for recipe in populations:
            made[recipe.name] = []
            for seed in size.seeds:
                made[recipe.name].append(measure(recipe, seed))
                advance(1)
    return {"tuning": tuning, **summarise(made, populations)}
