"""The search algorithms side by side: what they reach, what it costs, how different and how learnable their solutions are.

    python -m benchmarks.algorithms --data-root DATA                              # two CPU cores
    python -m benchmarks.algorithms --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images

Every algorithm goes layer by layer, with nearly the same number of evaluations at each search point.
Cross-entropies are those of the kept activations of a batch, scored together. Each seed is another network, for the same
images. Writes figures/algorithms.json, and the table as figures/algorithms.md. What `es` needs to be as good as the paper's
search is in benchmarks.matching.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.command import launch
from benchmarks.common import (
    Common,
    Parts,
    Problem,
    Size,
    displacement,
    key,
    label,
    leave,
    problem_of,
    searched,
    settings_for,
    starts_of,
)
from benchmarks.receipt import spread, written
from decouple import device as devices, registry
from decouple.analysis import solution_diversity
from decouple.config import SearchConfig

NAME = "algorithms"


@dataclass(frozen=True, kw_only=True)
class TableSize(Size):
    evaluations: tuple[int, ...]
    """Candidates of an image, by search point."""
    diverse: int = 1
    """Batches that are searched a second time, for N_eff."""
    population: int = 32
    paper_population: int = 24
    """Its own, 240, would leave one generation."""


SCALES = {
    "tiny": TableSize(data=("digits",), images=24, batch=12, evaluations=(132, 99, 66)),
    "small": TableSize(data=("mnist", "cifar10"), images=1000, batch=125, evaluations=(396, 198, 198, 132)),
}


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: MNIST and CIFAR-10, 32 channels."""
    algorithms: tuple[str, ...] = tuple(registry.OWN)
    """Lines of the table."""


def table_settings(size: TableSize, algorithm: str, source: str) -> SearchConfig:
    """Settings that use the table's evaluations: es and its like score a population and its centre each generation."""
    population = size.paper_population if algorithm == "paper" else size.population
    scored = population + (algorithm != "paper")
    updates = [max(0, evaluations // scored - 1) for evaluations in size.evaluations]
    return settings_for(algorithm, source, population=population, updates=updates)


def measure_table(problem: Problem, size: TableSize, algorithm: str) -> dict[str, Any]:
    """An algorithm's line for one seed; by search point, where there are lists."""
    config, began = replace(table_settings(size, algorithm, problem.source), points="all"), time.monotonic()
    few = replace(problem, split=problem.split.subset(range(min(len(problem.split), size.diverse * size.batch))))
    with tempfile.TemporaryDirectory() as folder:
        (store,) = searched(problem, config, folder, solutions=[0])
        seconds, found = time.monotonic() - began, store.diagnostics()
        some = torch.arange(len(few.split))
        pair = [store.rows(some), searched(few, config, folder, solutions=[1])[0].rows(some)]
    starts = [starts_of(few, targets) for targets in pair]
    moves = [[displacement(t, s.cpu()) for t, s in zip(*both, strict=True)] for both in zip(pair, starts, strict=True)]
    return {
        "start": float(found["before"][0].mean()),
        "cross_entropy": found["after"].mean(1).tolist(),
        "cosine": found["cosine"].mean(1).tolist(),
        "evaluations": store.evaluations,
        "seconds": seconds,
        "n_eff_targets": [n_eff(torch.stack([targets[point.index] for targets in pair])) for point in problem.blocks],
        "n_eff_displacements": [n_eff(torch.stack([moved[point.index] for moved in moves])) for point in problem.blocks],
    }


def n_eff(solutions: Tensor) -> float:
    """Mean N_eff of solutions (S, N, …), over the images for which none is zero; 1 where there is no such image."""
    moved = (solutions.flatten(2).norm(dim=2) > 0).all(0)
    return float(solution_diversity(solutions[:, moved]).mean()) if moved.any() else 1.0


def run(arguments: Arguments, size: TableSize) -> list[dict[str, Any]]:
    """An entry for each data set."""
    parts, found = Parts(arguments.out, NAME, size), []
    for source in arguments.data or size.data:
        problems = [problem_of(arguments, size, source, seed) for seed in size.seeds]
        makers = {
            (key(source), algorithm, f"seed{problem.seed}"): partial(measure_table, problem, size, algorithm)
            for algorithm, problem in product(arguments.algorithms, problems)
        }
        made = list(parts.all(f"{NAME}, {key(source)}", makers).values())
        of = {a: made[i * len(problems) : (i + 1) * len(problems)] for i, a in enumerate(arguments.algorithms)}
        names = [point.name for point in problems[0].points]
        found.append(
            {
                "data": label(source, arguments.data_root),
                "points": names,
                "start": spread([entry["start"] for entry in made[: len(problems)]]),
                "table": [{"algorithm": algorithm, **_line(seeds, names)} for algorithm, seeds in of.items()],
            }
        )
    return found


def _by_point(seeds: Sequence[Sequence[float]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {name: spread(values) for name, values in zip(names, zip(*seeds, strict=True), strict=False)}


def _line(seeds: list[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    lists = ("cross_entropy", "cosine", "n_eff_targets", "n_eff_displacements")
    return {
        **{name: _by_point([seed[name] for seed in seeds], names) for name in lists},
        "evaluations": statistics.mean(seed["evaluations"] for seed in seeds),
        "seconds": {"median": statistics.median(seed["seconds"] for seed in seeds), "all": [s["seconds"] for s in seeds]},
    }


def table(entry: dict[str, Any]) -> list[list[str]]:
    """Head and lines of one data set's table."""
    points, blocks = entry["points"], entry["points"][:-1]
    head = [
        "algorithm",
        f"cross-entropy after {' / '.join(points)} (nats)",
        "evaluations an image",
        "seconds",
        "N_eff of 2, targets",
        "N_eff of 2, displacements",
        "cosine with −gradient",
    ]

    def means(values: dict[str, dict[str, float]], names: Sequence[str], digits: int) -> str:
        return " / ".join(f"{values[name]['mean']:.{digits}f}" for name in names)

    return [head] + [
        [
            line["algorithm"],
            " / ".join(written(v, 3) for v in line["cross_entropy"].values()),
            f"{line['evaluations']:.0f}",
            f"{line['seconds']['median']:.1f}",
            means(line["n_eff_targets"], blocks, 2),
            means(line["n_eff_displacements"], blocks, 2),
            means(line["cosine"], blocks, 3),
        ]
        for line in entry["table"]
    ]


def as_markdown(entries: list[dict[str, Any]], size: TableSize) -> str:
    """The tables, for the README."""
    texts = []
    for entry in entries:
        head, *lines = table(entry)
        rows = [head, ["---"] * len(head), *lines]
        start = f"{entry['start']['mean']:.2f} before the search"
        about = f"**{entry['data']}**, {size.images} images, {len(size.seeds)} seeds, {start}; mean ± standard deviation."
        texts.append(about + "\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n")
    return "\n".join(texts)


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    entries = run(arguments, size)
    figures = {"seconds_of_last_sitting": time.monotonic() - began, "data": entries}
    leave(NAME, arguments, figures, settings=size.settings(arguments), table=as_markdown(entries, size))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
