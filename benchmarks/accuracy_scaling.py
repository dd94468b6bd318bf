"""The paper's Fig. 4: accuracy of the learned network against the population and the generations of the search.

    python -m benchmarks.accuracy_scaling --data-root DATA                            # two CPU cores
    python -m benchmarks.accuracy_scaling --data-root DATA --data folder:cifar10     # CIFAR-10 as a folder of images

The last block alone is searched and supervised, by the paper's genetic algorithm and by es. Every network is learned from
targets of all training images, from the same initialisation for all searches of a seed; mean and standard deviation over the
seeds of the best validation accuracy. Writes figures/accuracy_scaling.json, .png and .svg.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from matplotlib.figure import Figure

from benchmarks.ablations import AblationSize, base_of, every
from benchmarks.command import launch
from benchmarks.common import Common, draw, label, leave
from benchmarks.receipt import spread, written
from decouple import device as devices
from decouple.config import SearchConfig

NAME = "accuracy_scaling"

ALGORITHMS = ("es", "paper")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The searches of a figure."""

    populations: tuple[int, ...]
    """At `generations`."""
    generation_counts: tuple[int, ...]
    """At `population`; of the block that has most."""
    population: int
    generations: int

    @property
    def places(self) -> list[tuple[int, int]]:
        """Population and generations of every search."""
        across = [(population, self.generations) for population in self.populations]
        return list(dict.fromkeys([*across, *((self.population, count) for count in self.generation_counts)]))


@dataclass(frozen=True, kw_only=True)
class AccuracySize(AblationSize):
    grid: Grid


SCALES = {
    "tiny": AccuracySize(
        data=("digits",),
        images=60,
        batch=30,
        validation=100,
        epochs=2,
        seeds=(0,),
        grid=Grid(populations=(12, 24), generation_counts=(1, 2), population=12, generations=2),
    ),
    "small": AccuracySize(
        data=("mnist",),
        images=1000,
        batch=125,
        epochs=25,
        grid=Grid(populations=(12, 48, 192), generation_counts=(3, 12, 48), population=48, generations=12),
    ),
}


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: 1000 images, 32 channels. The paper's: benchmarks.paper_scale."""


def search_settings(search: SearchConfig, algorithm: str, population: int, generations: int) -> SearchConfig:
    """A search with another population and other generations; the paper's parents, explorers and refiners keep their proportions,
    1 : 5 : 6, and the generations of the blocks theirs."""

    def counts(given: Any) -> dict[str, int]:
        given = given if isinstance(given, dict) else {"blocks": given, "logits": given}
        most = max(count for name, count in given.items() if name != "logits")
        return {
            name: count if name == "logits" else max(1, round(count * generations / most)) for name, count in given.items()
        }

    changed: dict[str, Any] = {"population": population, "generations": counts(getattr(search, algorithm).generations)}
    if algorithm == "paper":
        changed |= {"parents": population // 12, "explorers": 5 * population // 12}
    section: Any = replace(getattr(search, algorithm), **changed)
    return replace(search, algorithm=algorithm, **{algorithm: section})


def curves_of(measured: dict[tuple[str, int, int], list[float]], grid: Grid, algorithm: str) -> list[dict[str, Any]]:
    """Both axes of an algorithm, from accuracies by algorithm, population and generations, one for each seed."""
    axes = {
        "population": [(population, grid.generations) for population in grid.populations],
        "generations": [(grid.population, count) for count in grid.generation_counts],
    }
    curves = []
    for axis, places in axes.items():
        of_places = [measured[algorithm, place[0], place[1]] for place in places]
        across = [spread(values) for values in of_places]
        curves.append(
            {
                "algorithm": algorithm,
                "axis": axis,
                "x": [place[0] if axis == "population" else place[1] for place in places],
                "mean": [value["mean"] for value in across],
                "std": [value["std"] for value in across],
                "seeds": [list(values) for values in zip(*of_places, strict=True)],
                "gain": spread([last - first for first, last in zip(of_places[0], of_places[-1], strict=True)]),
            }
        )
    return curves


def run(arguments: Arguments, size: AccuracySize) -> list[dict[str, Any]]:
    """A curve for each data set, algorithm and axis."""
    curves = []
    for source in arguments.data or size.data:
        measured: dict[tuple[str, int, int], list[float]] = {}
        for seed in size.seeds:
            base = base_of(size, source, seed)
            generations = {"blocks": size.grid.generations, "logits": 10}
            paper = replace(base.search.paper, generations=generations, smoothing="noise")
            base = replace(base, search=replace(base.search, paper=paper))
            places = product(ALGORITHMS, size.grid.places)
            rows = {(of, *at): (replace(base, search=search_settings(base.search, of, *at)), False) for of, at in places}
            for place, found in every(arguments, NAME, size, base, rows).items():
                measured.setdefault(place, []).append(100 * found["validation"])
        name = label(source, arguments.data_root)
        curves += [{"data": name, **curve} for of in ALGORITHMS for curve in curves_of(measured, size.grid, of)]
    return curves


def picture(curves: Sequence[dict[str, Any]], grid: Grid) -> Figure:
    axes = {
        "population": f"population ({grid.generations} generations)",
        "generations": f"generations (population {grid.population})",
    }
    return draw(curves, axes, "algorithm", "validation accuracy (%)")


def main(arguments: Arguments) -> None:
    devices.prepare()
    size = SCALES[arguments.scale]
    curves = run(arguments, size)
    drawn = picture(curves, size.grid)
    path = leave(NAME, arguments, {"curves": curves}, settings=size.settings(arguments), picture=drawn)
    for curve in curves:
        ends = f"{curve['mean'][0]:.1f} → {curve['mean'][-1]:.1f} %"
        gain = written(curve["gain"], sign="+")
        print(f"{curve['data']:<22} {curve['algorithm']:<6} {curve['axis']:<11} {ends}  {gain} points")
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
