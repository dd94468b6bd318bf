"""The search algorithms side by side: what they reach, what it costs, how different and how learnable their solutions are.

    python -m benchmarks.algorithms --data-root DATA                              # two CPU cores
    python -m benchmarks.algorithms --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images

- table: every algorithm, layer by layer, with nearly the same number of evaluations at each search point.
- smoothing: both readings of the paper's text, with the table's settings, on a batch.
- precision: `es` scored in bfloat16 and in float32, on some batches; what both have found is judged in float32.

Cross-entropies are those of the kept activations of a batch, scored together. Each seed is another network, for the same
images. Writes figures/algorithms.json, and the table as figures/algorithms.md. What `es` needs to be as good as the paper's
search is in benchmarks.matching.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.command import launch
from benchmarks.common import (
    Common,
    Parts,
    Problem,
    Searched,
    Size,
    displacement,
    key,
    label,
    named,
    problem_of,
    search,
    settings_for,
)
from benchmarks.receipt import scaled, spread, write_receipt
from decouple import device as devices, registry
from decouple.analysis import solution_diversity
from decouple.config import SearchConfig
from decouple.files import write_text
from decouple.progress import Progress
from decouple.search.solutions import algorithm_of
from decouple.seeds import derive
from decouple.settings import to_builtins

NAME = "algorithms"


@dataclass(frozen=True, kw_only=True)
class TableSize(Size):
    evaluations: tuple[int, ...]
    """Candidates of an image, by search point."""
    diverse: int = 1
    """Batches that are searched a second time, for N_eff."""
    precision: int = 4
    """Batches that are searched in both types."""
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


def table_settings(size: TableSize, algorithm: str, source: str, *, smoothing: str = "noise") -> SearchConfig:
    """Settings that use the table's evaluations: es and its like score a population and its centre each generation."""
    population = size.paper_population if algorithm == "paper" else size.population
    scored = population + (algorithm != "paper")
    updates = [max(0, evaluations // scored - 1) for evaluations in size.evaluations]
    return settings_for(algorithm, source, population=population, updates=updates, smoothing=smoothing)


def solution(problem: Problem, config: SearchConfig, number: int = 0) -> Searched:
    """A solution: all search points, layer by layer."""
    seed = derive(problem.seed, NAME, number)
    return search(problem, algorithm_of(config, seed), seed=seed)


def measure_table(problem: Problem, size: TableSize, algorithm: str) -> dict[str, Any]:
    """An algorithm's line for one seed; by search point, where there are lists."""
    config = table_settings(size, algorithm, problem.source)
    one, other = solution(problem, config), solution(_some(problem, size.diverse), config, 1)
    targets, moves = [], []
    for point in problem.blocks:
        pair = [
            (found.targets[point.index][: other.images], found.starts[point.index][: other.images]) for found in (one, other)
        ]
        targets.append(n_eff(torch.stack([target for target, _ in pair])))
        moves.append(n_eff(torch.stack([displacement(target, start) for target, start in pair])))
    return {
        "start": float(one.before[0].mean()),
        "cross_entropy": one.after.mean(1).tolist(),
        "cosine": one.cosine.mean(1).tolist(),
        "evaluations": one.evaluations,
        "seconds": one.seconds,
        "n_eff_targets": targets,
        "n_eff_displacements": moves,
    }


def n_eff(solutions: Tensor) -> float:
    """Mean N_eff of solutions (S, N, …), over the images for which none is zero; 1 where there is no such image."""
    moved = (solutions.flatten(2).norm(dim=2) > 0).all(0)
    return float(solution_diversity(solutions[:, moved]).mean()) if moved.any() else 1.0


def measure_smoothing(problem: Problem, size: TableSize) -> dict[str, list[float]]:
    """Cross-entropy after each point, by reading of the paper's text."""
    some = _some(problem, 1)
    readings = {name: table_settings(size, "paper", problem.source, smoothing=name) for name in ("noise", "map")}
    return {name: solution(some, config).after.mean(1).tolist() for name, config in readings.items()}


def measure_precision(problem: Problem, exact: Problem, size: TableSize) -> dict[str, list[float]]:
    """Cross-entropy after each point, judged in float32, by type of the search's arithmetic."""
    config, found = table_settings(size, "es", problem.source), {}
    for some in (_some(problem, size.precision), _some(exact, size.precision)):
        targets = solution(some, config).targets
        found[str(some.judge.dtype).removeprefix("torch.")] = [
            _cross_entropy(exact, target, some.bounds, point) for point, target in enumerate(targets)
        ]
    return found


@torch.no_grad()
def _cross_entropy(problem: Problem, targets: Tensor, bounds: Sequence[tuple[int, int]], point: int) -> float:
    logits = torch.cat([problem.judge.logits(problem.points[point], targets[start:end]) for start, end in bounds])
    return float(functional.cross_entropy(logits, problem.labels[: len(logits)]))


def _some(problem: Problem, batches: int) -> Problem:
    """The first batches of the images alone."""
    return replace(problem, bounds=problem.bounds[:batches])


def run(arguments: Arguments, size: TableSize) -> list[dict[str, Any]]:
    """An entry for each data set."""
    parts, found = Parts(arguments.out, NAME, size), []
    for source in arguments.data or size.data:
        problems = [problem_of(arguments, size, source, seed) for seed in size.seeds]
        exact = [problem_of(arguments, size, source, seed, dtype="float32") for seed in size.seeds]
        makers: dict[str, list[Callable[[], Any]]] = {
            **{f"table-{a}": [partial(measure_table, p, size, a) for p in problems] for a in arguments.algorithms},
            "smoothing": [partial(measure_smoothing, problem, size) for problem in problems],
            "precision": [partial(measure_precision, p, e, size) for p, e in zip(problems, exact, strict=True)],
        }
        made: dict[str, list[Any]] = {}
        with Progress().task(f"{NAME}, {key(source)}", len(makers) * len(problems), "parts") as advance:
            for name, of_seeds in makers.items():
                made[name] = []
                for seed, make in zip(size.seeds, of_seeds, strict=True):
                    made[name].append(parts.get(f"{key(source)}-{name}-seed{seed}", make))
                    advance(1)
        names = [point.name for point in problems[0].points]
        found.append(
            {
                "data": label(source, arguments.data_root),
                "points": names,
                "start": spread([entry["start"] for entry in made[f"table-{arguments.algorithms[0]}"]]),
                "table": [{"algorithm": a, **_line(made[f"table-{a}"], names)} for a in arguments.algorithms],
                "smoothing": {
                    reading: _by_point([s[reading] for s in made["smoothing"]], names) for reading in ("noise", "map")
                },
                "precision": _precision(made["precision"], names),
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


def _precision(seeds: list[dict[str, list[float]]], names: Sequence[str]) -> dict[str, Any]:
    ratios = [[a / b for a, b in zip(seed["bfloat16"], seed["float32"], strict=True)] for seed in seeds]
    across = _by_point(ratios, names)
    return {
        **{dtype: _by_point([seed[dtype] for seed in seeds], names) for dtype in ("bfloat16", "float32")},
        "bfloat16_over_float32": across,
        "within_2_percent": {name: ratio["mean"] <= 1.02 for name, ratio in across.items()},
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
            " / ".join(f"{v['mean']:.3f} ± {v['std']:.3f}" for v in line["cross_entropy"].values()),
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


def as_text(rows: list[list[str]]) -> str:
    """The table in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    entries = run(arguments, size)
    name = scaled(NAME, arguments.scale)
    write_text(arguments.figures / f"{name}.md", as_markdown(entries, size))
    settings = {**to_builtins(size), "scale": arguments.scale, "data": named(arguments.data or size.data)}
    figures = {"seconds_of_last_sitting": time.monotonic() - began, "data": entries}
    path = write_receipt(name, figures, settings=settings, device=arguments.device, folder=arguments.figures)
    for entry in entries:
        print(f"{entry['data']}\n{as_text(table(entry))}")
        for reading, values in entry["smoothing"].items():
            print(f"paper, smoothing the {reading}: " + " / ".join(f"{v['mean']:.3f}" for v in values.values()))
        ratios = entry["precision"]["bfloat16_over_float32"]
        print(
            "es, bfloat16 over float32: " + " / ".join(f"{v['mean']:.3f} ± {v['std']:.3f}" for v in ratios.values()) + "\n"
        )
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
