"""The paper's Fig. 4: accuracy of the learned network against the population and the generations of the search.

    python -m benchmarks.accuracy_scaling --data-root DATA                            # two CPU cores
    python -m benchmarks.accuracy_scaling --data-root DATA --data folder:cifar10     # CIFAR-10 as a folder of images

The last block alone is searched and supervised, by the paper's genetic algorithm and by es. Every network is learned from
targets of all training images, from the same initialisation for all searches of a seed; mean and standard deviation over the
seeds of the best validation accuracy. Writes figures/accuracy_scaling.json, .png and .svg.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.ablations import AblationSize, base_of
from benchmarks.command import launch
from benchmarks.common import LINES, Common, Parts, key, label, named, save_pictures
from benchmarks.receipt import scaled, spread, write_receipt
from benchmarks.rows import opened, trained
from decouple import device as devices
from decouple.config import PaperConfig, SearchConfig
from decouple.progress import Progress
from decouple.report import style
from decouple.settings import to_builtins

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
    parts, curves = Parts(arguments.out, NAME, size), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = parts.folder or Path(temporary)
        for source in arguments.data or size.data:
            measured: dict[tuple[str, int, int], list[float]] = {}
            total = len(ALGORITHMS) * len(size.grid.places) * len(size.seeds)
            with Progress().task(f"{NAME}, {key(source)}", total, "networks") as advance:
                for seed in size.seeds:
                    base = base_of(size, source, seed)
                    logits = PaperConfig(
                        generations={"blocks": size.grid.generations, "logits": 10},
                        smoothing="noise",
                        alpha=base.search.paper.alpha,
                    )
                    base = replace(base, search=replace(base.search, paper=logits))
                    with opened(folder / f"{key(source)}-seed{seed}", base, **arguments.place) as run:
                        for algorithm in ALGORITHMS:
                            for place in size.grid.places:
                                config = replace(base, search=search_settings(base.search, algorithm, *place))
                                make = partial(trained, replace(run, config=config), sgd=False)
                                found = parts.get(f"{key(source)}-{algorithm}-{place[0]}-{place[1]}-seed{seed}", make)
                                measured.setdefault((algorithm, *place), []).append(100 * found["validation"])
                                advance(1)
            name = label(source, arguments.data_root)
            curves += [{"data": name, **curve} for of in ALGORITHMS for curve in curves_of(measured, size.grid, of)]
    return curves


@style.styled
def draw(curves: list[dict[str, Any]], grid: Grid) -> Figure:
    """A row for each data set, a column for each axis; mean, and the standard deviation over the seeds."""
    titles = {
        "population": f"population ({grid.generations} generations)",
        "generations": f"generations (population {grid.population})",
    }
    sets = list(dict.fromkeys(curve["data"] for curve in curves))
    figure = style.new_figure(0.9 + 2.2 * len(sets))
    panels = figure.subplots(len(sets), 2, sharey="row", sharex="col", squeeze=False)
    colors = {"es": style.BLUE, "paper": style.VERMILLION}
    for row, name in zip(panels, sets, strict=True):
        for axes, (axis, text) in zip(row, titles.items(), strict=True):
            for curve in curves:
                if (curve["data"], curve["axis"]) == (name, axis):
                    _, line, marker = LINES[curve["algorithm"]]
                    look: dict[str, Any] = {"ls": line, "marker": marker, "ms": 3.5, "elinewidth": 0.8, "capsize": 1.5}
                    axes.errorbar(curve["x"], curve["mean"], curve["std"], color=colors[curve["algorithm"]], **look)
            axes.set_title(name)
            axes.set_xscale("log", base=2)
            ticks = next(curve["x"] for curve in curves if curve["axis"] == axis)
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            if name == sets[-1]:
                axes.set_xlabel(text)
        row[0].set_ylabel("validation accuracy (%)")
    handles = [Line2D([], [], color=colors[name], ls=LINES[name][1], marker=LINES[name][2], ms=3.5) for name in ALGORITHMS]
    figure.legend(handles, [LINES[name][0] for name in ALGORITHMS], loc="outside upper left", ncols=2)
    return figure


def main(arguments: Arguments) -> None:
    devices.prepare()
    size = SCALES[arguments.scale]
    curves = run(arguments, size)
    name = scaled(NAME, arguments.scale)
    save_pictures(draw(curves, size.grid), name, arguments.figures)
    settings = {**to_builtins(size), "scale": arguments.scale, "data": named(arguments.data or size.data)}
    path = write_receipt(name, {"curves": curves}, settings=settings, device=arguments.device, folder=arguments.figures)
    for curve in curves:
        ends = f"{curve['mean'][0]:.1f} → {curve['mean'][-1]:.1f} %"
        gain = f"{curve['gain']['mean']:+.1f} ± {curve['gain']['std']:.1f}"
        print(f"{curve['data']:<22} {curve['algorithm']:<6} {curve['axis']:<11} {ends}  {gain} points")
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
