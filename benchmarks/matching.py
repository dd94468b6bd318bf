"""Evaluations that `es` needs to be as good as the paper's search is with all of its budget.

    python -m benchmarks.matching --data-root DATA                              # two CPU cores
    python -m benchmarks.matching --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images

The paper's search (smoothing the noise) has population 240, 20 parents, 100 explorers and 300, 100, 100, 10 generations. Each search
point is evolved by itself, from the network's own activations. es may use half of the paper's evaluations; where it does not get
there, the JSON has a null and what it did reach. Cross-entropies are means over the kept activations of a batch, scored together;
each seed has a network and images of its own. Writes figures/matching.json.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

from benchmarks.command import launch
from benchmarks.common import Common, Parts, Problem, Size, evolved, key, label, leave, problem_of, settings_for
from benchmarks.receipt import spread
from decouple import device as devices
from decouple.config import PaperConfig
from decouple.search import SearchPoint
from decouple.search.solutions import algorithm_of
from decouple.seeds import derive

NAME = "matching"


@dataclass(frozen=True, kw_only=True)
class MatchSize(Size):
    full: PaperConfig = field(default_factory=PaperConfig)
    """The paper's budget."""
    population: int = 32
    """Of es."""


SCALES = {
    "tiny": MatchSize(
        data=("digits",),
        images=12,
        batch=12,
        full=PaperConfig(population=48, parents=4, explorers=20, generations={"block0": 20, "blocks": 10, "logits": 4}),
    ),
    "small": MatchSize(data=("mnist", "cifar10"), images=12, batch=12),
}


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: MNIST and CIFAR-10, 32 channels."""
    images: int | None = None
    """Images a seed, all in one batch; default: the scale's. The time is in proportion."""


class Curve(NamedTuple):
    """What a search has reached by what it has spent on an image."""

    evaluations: list[int]
    cross_entropy: list[float]

    def until(self, wanted: float) -> int | None:
        """Evaluations until the cross-entropy was no more than `wanted`.

        >>> Curve([33, 66, 99], [2.0, 1.0, 0.5]).until(1.0)
        66
        """
        return next((spent for spent, value in zip(*self, strict=True) if value <= wanted), None)

    def against(self, wanted: float, spent: int) -> dict[str, Any]:
        """This search's cost of `wanted`, beside what the paper's search has `spent` on it."""
        needed = self.until(wanted)
        return {
            "wanted": wanted,
            "paper_evaluations": spent,
            "es_evaluations": needed,
            "ratio": None if needed is None else needed / spent,
            "es_lowest": min(self.cross_entropy),
        }


def paper_curve(problem: Problem, size: MatchSize, point: SearchPoint) -> Curve:
    """Parents are scored again only where that can change their score."""
    population, generations = size.full.population, [p.setting(size.full.generations) for p in problem.points]
    config = settings_for("paper", problem.source, population=population, updates=generations)
    seed = derive(problem.seed, NAME)
    notes, _ = evolved(problem, algorithm_of(config, seed), point, seed=seed)
    known = 0 if problem.judge.couples(point) else size.full.parents
    return Curve([population + count * (population - known) for count in notes], list(notes.values()))


def es_curve(problem: Problem, size: MatchSize, point: SearchPoint, most: int) -> Curve:
    """es at a point, up to `most` updates."""
    config = settings_for("es", problem.source, population=size.population, updates=[*([0] * point.index), most])
    seed = derive(problem.seed, NAME, "es")
    notes, _ = evolved(problem, algorithm_of(config, seed), point, seed=seed)
    return Curve([count * (size.population + 1) + 1 for count in notes], list(notes.values()))


def measure(problem: Problem, size: MatchSize) -> list[dict[str, Any]]:
    """By search point, for one seed."""
    found = []
    for point in problem.points:
        paper = paper_curve(problem, size, point)
        half = max(1, paper.evaluations[-1] // 2 // (size.population + 1) - 1)  # the updates that cost half as much
        es = es_curve(problem, size, point, half)
        found.append({"es": es.against(paper.cross_entropy[-1], paper.evaluations[-1])})
    return found


def summary(matches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over the seeds: the ratio of evaluations, where es got there, and what the paper's search has reached."""
    values = [match["ratio"] for match in matches if match["ratio"] is not None]
    return {
        "ratio": {"median": statistics.median(values), "max": max(values)} if values else None,
        "reached": f"{len(values)} of {len(matches)}",
        "wanted": spread([match["wanted"] for match in matches]),
    }


def run(arguments: Arguments, size: MatchSize) -> list[dict[str, Any]]:
    """An entry for each data set."""
    parts, found = Parts(arguments.out, NAME, size), []
    for source in arguments.data or size.data:
        problems = [problem_of(arguments, size, source, seed, first=i * size.images) for i, seed in enumerate(size.seeds)]
        makers = {(key(source), f"seed{problem.seed}"): partial(measure, problem, size) for problem in problems}
        seeds = list(parts.all(f"{NAME}, {key(source)}", makers).values())
        names = [point.name for point in problems[0].points]
        alone = {name: summary([seed[i]["es"] for seed in seeds]) for i, name in enumerate(names)}
        about = {"data": label(source, arguments.data_root), "points": names}
        found.append({**about, "summary": {"es": {"alone": alone}}, "seeds": [{"alone": seed} for seed in seeds]})
    return found


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    if arguments.images is not None:
        size = replace(size, images=arguments.images, batch=arguments.images)
    entries = run(arguments, size)
    figures = {"seconds_of_last_sitting": time.monotonic() - began, "data": entries}
    path = leave(NAME, arguments, figures, settings=size.settings(arguments))
    for entry in entries:
        print(entry["data"])
        for name, match in entry["summary"]["es"]["alone"].items():
            ratio, wanted = match["ratio"], match["wanted"]["mean"]
            cost = f"{ratio['median']:.3f} of the evaluations (at most {ratio['max']:.3f})" if ratio else "not reached"
            print(f"  {name:<8} {match['reached']} seeds reach the paper's {wanted:.3f} nats: {cost}")
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
