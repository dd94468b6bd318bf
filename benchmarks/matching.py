"""Evaluations that `es` needs to be as good as the paper's search is with all of its budget.

    python -m benchmarks.matching --data-root DATA                              # two CPU cores
    python -m benchmarks.matching --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images

The paper's search (smoothing the noise) has population 240, 20 parents, 100 explorers and 300, 100, 100, 10 generations. es
is compared with it

- alone: each search point evolved alone, from the network's own activations;
- layer by layer: es goes on at each point until it has the cross-entropy that the paper's search had there;
- at the end: es has the generations of the small presets at the blocks, and goes on at the logits until it has the
  cross-entropy that the paper's search ends with.

es may use half of the paper's evaluations; where it does not get there, the JSON has a null and what it did reach. It is
run in two ways (`VARIANTS`), since the two searches differ in which activations they allow. Cross-entropies are means
over the kept activations of a batch, scored together; each seed has a network and images of its own. Writes
figures/matching.json, .png and .svg.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from benchmarks.command import launch
from benchmarks.common import (
    EVERY,
    Common,
    Parts,
    Problem,
    Size,
    key,
    label,
    named,
    problem_of,
    save_pictures,
    search,
    settings_for,
)
from benchmarks.receipt import scaled, spread, write_receipt
from decouple import device as devices
from decouple.config import PaperConfig
from decouple.progress import Progress
from decouple.report import style
from decouple.search import SearchPoint
from decouple.search.solutions import algorithm_of
from decouple.seeds import derive
from decouple.settings import to_builtins

NAME = "matching"
VARIANTS = {"es": "es, as in the presets", "es-own": "es, noise smoothed, each image's own moments"}
"""es: maps have zero mean and unit variance, as in the paper's search. es-own: noise is smoothed, steps are half as long, and each
image keeps the mean and deviation of its own map. A deviation above the network's own makes logits larger, and so the
cross-entropy smaller."""


@dataclass(frozen=True, kw_only=True)
class MatchSize(Size):
    full: PaperConfig = field(default_factory=PaperConfig)
    """The paper's budget."""
    population: int = 32
    """Of es."""
    preset: tuple[int, ...] = (23, 11, 11)
    """Updates of es at the blocks in the small presets: 24, 12 and 12 generations."""
    logits: int = 50
    """Updates at the logits, at most, at the end."""


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

    def within(self, budget: float) -> float | None:
        """The lowest cross-entropy that cost no more than `budget`."""
        return min((value for spent, value in zip(*self, strict=True) if spent <= budget), default=None)

    def thinned(self) -> dict[str, Any]:
        """Some thirty places, evenly on a logarithmic axis, for a figure."""
        last = len(self.evaluations) - 1
        places = sorted({0, last} | {math.floor(last ** (step / 30)) for step in range(31)} if last > 0 else {0})
        return {name: [values[place] for place in places] for name, values in self._asdict().items()}

    def against(self, wanted: float, spent: int) -> dict[str, Any]:
        """This search's cost of `wanted`, beside what the paper's search has `spent` on it."""
        needed = self.until(wanted)
        return {
            "wanted": wanted,
            "paper_evaluations": spent,
            "es_evaluations": needed,
            "ratio": None if needed is None else needed / spent,
            "es_lowest": min(self.cross_entropy),
            "es_at_a_quarter": self.within(spent / 4),
        }


def paper_curve(problem: Problem, size: MatchSize, point: SearchPoint, notes: dict[int, float]) -> Curve:
    """From what was noted by updates: parents are scored again only where that can change their score."""
    known = 0 if problem.judge.couples(point) else size.full.parents
    population = size.full.population
    return Curve([population + count * (population - known) for count in notes], list(notes.values()))


def es_curve(
    problem: Problem, size: MatchSize, variant: str, point: SearchPoint, before: Sequence[int] | None, most: int
) -> Curve:
    """es at a point, up to `most` updates, after `before` updates at the points before it; None: alone."""
    updates = [*([0] * point.index if before is None else before), most]
    config = settings_for("es", problem.source, population=size.population, updates=updates)
    if variant == "es-own":
        config = replace(
            config,
            es=replace(
                config.es, moments="own", step={"blocks": 0.05, "logits": 0.5}, blur={"block0": 2, "blocks": 1, "logits": 0}
            ),
        )
    seed = derive(problem.seed, NAME, "es")
    points = range(point.index if before is None else 0, point.index + 1)
    found = search(problem, algorithm_of(config, seed), seed=seed, points=points, marks=EVERY)
    notes = found.notes[point.index]
    return Curve([count * (size.population + 1) + 1 for count in notes], list(notes.values()))


def measure(problem: Problem, size: MatchSize) -> dict[str, Any]:
    """All comparisons, for one seed."""
    updates = [point.setting(size.full.generations) for point in problem.points]
    config = settings_for("paper", problem.source, population=size.full.population, updates=updates)
    seed = derive(problem.seed, NAME)
    algorithm = algorithm_of(config, seed)
    whole = search(problem, algorithm, seed=seed, marks=EVERY)
    layers = [paper_curve(problem, size, point, whole.notes[point.index]) for point in problem.points]
    alone = layers[:1]  # the first point has none before it
    for point in problem.points[1:]:
        found = search(problem, algorithm, seed=seed, points=(point.index,), marks=EVERY)
        alone.append(paper_curve(problem, size, point, found.notes[point.index]))
    return {
        "evaluations": whole.evaluations,
        "alone": [_alone(problem, size, point, curve) for point, curve in zip(problem.points, alone, strict=True)],
        "layers": {variant: _layers(problem, size, variant, layers) for variant in VARIANTS},
        "end": {variant: _end(problem, size, variant, layers) for variant in VARIANTS},
    }


def _half(size: MatchSize, curve: Curve) -> int:
    """Updates of es that cost half as much as a curve of the paper's."""
    return max(1, curve.evaluations[-1] // 2 // (size.population + 1) - 1)


def _alone(problem: Problem, size: MatchSize, point: SearchPoint, paper: Curve) -> dict[str, Any]:
    found: dict[str, Any] = {"paper": {"curve": paper.thinned()}}
    for variant in VARIANTS:
        curve = es_curve(problem, size, variant, point, None, _half(size, paper))
        found[variant] = {"curve": curve.thinned(), **curve.against(paper.cross_entropy[-1], paper.evaluations[-1])}
    return found


def _layers(problem: Problem, size: MatchSize, variant: str, layers: Sequence[Curve]) -> dict[str, Any]:
    schedule: list[int] = []
    found = []
    for point, paper in zip(problem.points, layers, strict=True):
        curve = es_curve(problem, size, variant, point, schedule, _half(size, paper))
        found.append(curve.against(paper.cross_entropy[-1], paper.evaluations[-1]))
        schedule.append((found[-1]["es_evaluations"] or curve.evaluations[-1]) // (size.population + 1))
    spent, total = (
        sum(paper.evaluations[-1] for paper in layers),
        sum(count * (size.population + 1) + 1 for count in schedule),
    )
    reached = all(match["ratio"] is not None for match in found)
    return {
        "points": found,
        "total": {"paper_evaluations": spent, "es_evaluations": total, "ratio": total / spent if reached else None},
    }


def _end(problem: Problem, size: MatchSize, variant: str, layers: Sequence[Curve]) -> dict[str, Any]:
    before = size.preset[: len(problem.blocks)]
    curve = es_curve(problem, size, variant, problem.points[-1], before, size.logits)
    earlier = sum(count * (size.population + 1) + 1 for count in before)
    shifted = Curve([earlier + count for count in curve.evaluations], curve.cross_entropy)
    return shifted.against(layers[-1].cross_entropy[-1], sum(paper.evaluations[-1] for paper in layers))


def summary(matches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over the seeds: the ratio of evaluations, where all got there, and what es had reached otherwise."""
    ratios = [match["ratio"] for match in matches]
    values = [ratio for ratio in ratios if ratio is not None]
    found = {
        "ratio": {"median": statistics.median(values), "max": max(values)} if values else None,
        "reached": f"{len(values)} of {len(ratios)}",
        "at_most_a_quarter": len(values) == len(ratios) and max(values) <= 0.25,
    }
    if "wanted" in matches[0]:
        quarters = [match["es_at_a_quarter"] for match in matches]
        found["wanted"] = spread([match["wanted"] for match in matches])
        found["es_at_a_quarter"] = spread(quarters) if None not in quarters else None
    return found


def run(arguments: Arguments, size: MatchSize) -> list[dict[str, Any]]:
    """An entry for each data set."""
    parts, found = Parts(arguments.out, NAME, size), []
    for source in arguments.data or size.data:
        problems = [problem_of(arguments, size, source, seed, first=i * size.images) for i, seed in enumerate(size.seeds)]
        seeds = []
        with Progress().task(f"{NAME}, {key(source)}", len(problems), "seeds") as advance:
            for problem in problems:
                seeds.append(parts.get(f"{key(source)}-seed{problem.seed}", partial(measure, problem, size)))
                advance(1)
        names = [point.name for point in problems[0].points]
        found.append(
            {
                "data": label(source, arguments.data_root),
                "points": names,
                "summary": {
                    variant: {
                        "alone": {n: summary([seed["alone"][i][variant] for seed in seeds]) for i, n in enumerate(names)},
                        "layers": {
                            n: summary([seed["layers"][variant]["points"][i] for seed in seeds]) for i, n in enumerate(names)
                        },
                        "total": summary([seed["layers"][variant]["total"] for seed in seeds]),
                        "end": summary([seed["end"][variant] for seed in seeds]),
                    }
                    for variant in VARIANTS
                },
                "seeds": seeds,
            }
        )
    return found


LOOKS = {
    "paper": ("genetic algorithm (paper)", style.VERMILLION, (0, (4, 1.6))),
    "es": (VARIANTS["es"], style.BLUE, "-"),
    "es-own": (VARIANTS["es-own"], style.GREEN, (0, (1, 1))),
}


@style.styled
def draw(entries: list[dict[str, Any]]) -> Figure:
    """A row for each data set, a column for each block evolved alone; a line for each seed."""
    columns = max(len(entry["points"]) - 1 for entry in entries)
    figure = style.new_figure(0.9 + 2.1 * len(entries))
    panels = figure.subplots(len(entries), columns, sharey="row", sharex="col", squeeze=False)
    for row, entry in zip(panels, entries, strict=True):
        for axes, (number, name) in zip(row, enumerate(entry["points"][:-1]), strict=False):
            for seed in entry["seeds"]:
                for which, (_, color, line) in LOOKS.items():
                    curve = seed["alone"][number][which]["curve"]
                    axes.plot(curve["evaluations"], curve["cross_entropy"], color=color, ls=line, lw=1.3)
            axes.set_title(f"{entry['data']}: {name}")
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        row[0].set_ylim(bottom=0)  # for the row, once all of it is drawn
        row[0].set_ylabel("cross-entropy (nats)")
    figure.supxlabel("candidates scored for an image", fontsize=8.5)
    handles = [Line2D([], [], color=color, ls=line) for _, color, line in LOOKS.values()]
    figure.legend(handles, [name for name, _, _ in LOOKS.values()], loc="outside upper left", ncols=3, columnspacing=1.3)
    return figure


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    if arguments.images is not None:
        size = replace(size, images=arguments.images, batch=arguments.images)
    entries = run(arguments, size)
    name = scaled(NAME, arguments.scale)
    save_pictures(draw(entries), name, arguments.figures)
    figures = {"variants": VARIANTS, "seconds_of_last_sitting": time.monotonic() - began, "data": entries}
    settings = {**to_builtins(size), "scale": arguments.scale, "data": named(arguments.data or size.data)}
    path = write_receipt(name, figures, settings=settings, device=arguments.device, folder=arguments.figures)
    for entry in entries:
        for variant, text in VARIANTS.items():
            print(f"{entry['data']}; {text}")
            found = entry["summary"][variant]
            alone = [(f"{name} alone", match) for name, match in found["alone"].items()]
            apart = [(f"{name}, layer by layer", match) for name, match in found["layers"].items()]
            for what, match in [*alone, *apart, ("all layers", found["total"]), ("at the end", found["end"])]:
                ratio = match["ratio"]
                cost = (
                    f"{ratio['median']:.3f} of the paper's evaluations (at most {ratio['max']:.3f})"
                    if ratio
                    else "not reached"
                )
                wanted, had = match.get("wanted"), match.get("es_at_a_quarter")
                reached = f"; paper {wanted['mean']:.3f}" if wanted else ""
                reached += f", es with a quarter {had['mean']:.3f} nats" if had else ""
                print(f"  {what:<24} {match['reached']} seeds: {cost}{reached}")
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
