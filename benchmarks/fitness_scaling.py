"""Cross-entropy of the best individual against compute, for each block evolved alone (the paper's Fig. 2).

    python -m benchmarks.fitness_scaling --data-root DATA                              # two CPU cores
    python -m benchmarks.fitness_scaling --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images
    python -m benchmarks.fitness_scaling --data-root DATA --scale paper                # CIFAR-100, a GPU

One block is evolved; before it the images go through the network as it is, behind it the network judges. Along one axis the
population grows at a fixed number of generations, along the other the generations at a fixed population. Each seed is
another network and another search, for the same images. Writes figures/fitness_scaling.json, .png and .svg.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

from benchmarks.command import launch
from benchmarks.common import (
    PAPER_NETWORK,
    Common,
    Parts,
    Problem,
    Size,
    draw,
    evolved,
    falls,
    key,
    label,
    leave,
    problem_of,
    settings_for,
)
from benchmarks.receipt import spread
from decouple import device as devices
from decouple.search.solutions import algorithm_of
from decouple.seeds import derive

NAME = "fitness_scaling"
ALGORITHMS = ("paper", "es")


@dataclass(frozen=True, kw_only=True)
class FitnessSize(Size):
    populations: tuple[int, ...]
    """The population axis, at `generations`."""
    generations: int
    marks: tuple[int, ...]
    """The generations axis, at `population`; `generations` is one of them, and `population` one of `populations`."""
    population: int


SCALES = {
    "tiny": FitnessSize(
        data=("digits",), images=16, batch=16, populations=(6, 12, 24), generations=2, marks=(1, 2, 4), population=6
    ),
    "small": FitnessSize(
        data=("mnist", "cifar10"),
        images=96,
        batch=48,
        populations=(6, 12, 24, 48, 96),
        generations=16,
        marks=(2, 4, 8, 16, 32, 64),
        population=24,
    ),
    "paper": FitnessSize(
        data=("cifar100",),
        images=1000,
        batch=64,
        populations=(24, 60, 120, 240, 480),
        generations=100,
        marks=(6, 12, 25, 50, 100, 200, 300),
        population=240,
        network=PAPER_NETWORK,
    ),
}


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small", "paper"] = "small"
    """tiny: digits, to try the program; small: MNIST and CIFAR-10, 32 channels; paper: CIFAR-100, 256 channels."""


def measure(problem: Problem, size: FitnessSize, algorithm: str, block: int, population: int) -> dict[str, float]:
    """Mean cross-entropy of the best, by generations; JSON has texts for keys."""
    last = size.marks[-1] if population == size.population else size.generations
    marks = {*(mark for mark in size.marks if mark <= last), size.generations}
    config = settings_for(algorithm, problem.source, population=population, updates=(last,))
    seed = derive(problem.seed, NAME, population)
    notes, _ = evolved(problem, algorithm_of(config, seed), problem.points[block], seed=seed, marks=marks)
    return {str(mark): value for mark, value in notes.items()}


def curves_of(measured: dict[tuple[int, int], dict[str, float]], size: FitnessSize) -> dict[str, dict[str, Any]]:
    """The two axes of one block, from what was measured by (seed, population)."""
    points = {
        "population": [(population, size.generations) for population in size.populations],
        "generations": [(size.population, mark) for mark in size.marks],
    }
    found = {}
    for axis, places in points.items():
        seeds = [[measured[seed, population][str(mark)] for population, mark in places] for seed in size.seeds]
        across = [spread(values) for values in zip(*seeds, strict=True)]
        x = [place[0] if axis == "population" else place[1] for place in places]
        found[axis] = {
            "x": x,
            "mean": [value["mean"] for value in across],
            "std": [value["std"] for value in across],
            "seeds": seeds,
            "factor": x[-1] / x[0],
            "falls": falls(seeds),
        }
    return found


def run(arguments: Arguments, size: FitnessSize) -> list[dict[str, Any]]:
    """All curves: an entry for each data set, algorithm, block and axis."""
    parts = Parts(arguments.out, NAME, size)
    found = []
    for source in arguments.data or size.data:
        problems = [problem_of(arguments, size, source, seed) for seed in size.seeds]
        blocks = problems[0].blocks
        makers = {
            (key(source), algorithm, block.name, f"seed{problem.seed}", f"population{population}"): partial(
                measure, problem, size, algorithm, block.index, population
            )
            for algorithm, block, problem, population in product(ALGORITHMS, blocks, problems, size.populations)
        }
        made = parts.all(f"{NAME}, {key(source)}", makers)
        for algorithm, block in product(ALGORITHMS, blocks):
            measured = {
                (seed, population): made[key(source), algorithm, block.name, f"seed{seed}", f"population{population}"]
                for seed, population in product(size.seeds, size.populations)
            }
            about = {"data": label(source, arguments.data_root), "algorithm": algorithm, "block": block.name}
            found += [{**about, "axis": axis, **curve} for axis, curve in curves_of(measured, size).items()]
    return found


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    curves = run(arguments, size)
    axes = {
        "population": f"population ({size.generations} generations)",
        "generations": f"generations (population {size.population})",
    }
    verdict = all(curve["falls"]["within_spread"] for curve in curves)
    figures = {"all_fall_within_spread": verdict, "seconds_of_last_sitting": time.monotonic() - began, "curves": curves}
    picture = draw(curves, axes, "block", "cross-entropy (nats)", top=True)
    path = leave(NAME, arguments, figures, settings=size.settings(arguments), picture=picture)
    for curve in curves:
        words = {True: "falls", False: "RISES"}[curve["falls"]["within_spread"]]
        words += " at every step" if curve["falls"]["strictly"] else ""
        print(
            f"{curve['data']:<22} {curve['algorithm']:<6} {curve['block']:<7} {curve['axis']:<11} ×{curve['factor']:<3.0f} "
            f"{curve['mean'][0]:.3f} → {curve['mean'][-1]:.3f} nats  {words}"
        )
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
