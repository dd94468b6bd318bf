"""Populations, ensembles and single networks for the same total epochs: methods, tuning, and how results are read.

- single: one network trained longer, its learning rate falling to 0. This shows the regime: where more epochs no longer help.
- ensemble: independent such networks, probabilities averaged; the best epochs a network count for each budget.
- snapshots: cosine cycles to 0, flat weight decay, no distillation, no noise; equal weights.
- q0: cycles with anti-phase rates, distillation from the snapshot before and noise on the weights; equal weights, or the
  learned prior. And one trajectory of it with one thing changed.

Every method is tuned at every length of its training or cycle, with the same grid, one setting after the other, by the
validation of a small population of the first seed. Then everything is run with all seeds; the best on validation, mean over the
seeds, counts for each budget and is reported on test. A budget counts epochs of training; a distilled epoch also asks its
teacher, which costs a forward pass (a third of a step). The headline: epochs that the ensemble needs over epochs that q0 needs,
for the lowest test figure that both reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.receipt import spread
from decouple.config import Q0Config, TextQ0Config
from decouple.progress import Progress
from decouple.q0 import nll
from decouple.report import style
from decouple.settings import to_builtins


@dataclass(frozen=True)
class Recipe:
    """A way to spend epochs."""

    method: str
    """The line of the figure that it is a choice of: the best on validation counts, budget by budget."""
    name: str
    q0: Q0Config | TextQ0Config
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

    base: Q0Config | TextQ0Config
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
    """Epochs of the one trajectory of q0 that has one thing changed."""
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


def changed(main: Recipe, changes: Mapping[str, Mapping[str, Any]]) -> list[Recipe]:
    """q0 with one thing changed, by name; without those that change nothing."""
    found = [replace(main.having(**change), method=name, name=name) for name, change in changes.items()]
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

Point = dict[str, float]
"""A population's size (epochs, members, trajectories), and `validation_WAY` and `test_WAY` for each way of weighting it."""

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
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Recipe, list[dict[str, Any]]]:
    """One setting after the other, each at the value whose population is best on validation.

    Returns:
        The best recipe; what was tried, with its validation.
    """
    best, known = recipe.having(trajectories=trajectories), {}
    trials: list[dict[str, Any]] = []
    for name, values in grid.items():
        options = [best.having(**{name: value}) for value in values]
        for option in options:
            if option not in known:
                known[option] = measure(option, seed)[-1]["validation_uniform"]
                advance(1)
                trials.append({**{each: option.setting(each) for each in grid}, "validation": known[option]})
        best = min(options, key=known.__getitem__)
    return best, trials


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
    grids = {True: {**size.q0_grid, **size.grid}, False: size.grid}
    trials = sum(1 + sum(len(v) - 1 for v in grids[r.method == "q0"].values()) for r, _, _ in methods(size))
    with Progress().task(f"{what}, tuning", trials, "populations") as advance:
        for recipe, pilot, counts in methods(size):
            best, tried = tune(recipe, pilot, grids[recipe.method == "q0"], measure, size.seeds[0], advance)
            fill = size.ensembles if recipe.method == "ensemble" else size.budget
            populations += [filling(best, count, fill) for count in counts]
            tuning.append({"method": recipe.method, "name": recipe.name, "trials": tried})
            if recipe.method == "q0" and recipe.q0.epochs == size.base.epochs:
                main = filling(best, 1, size.ablations)
    populations += [replace(main, method="q0 itself", name="q0 itself"), *changed(main, changes)]
    with Progress().task(what, len(populations) * len(size.seeds), "populations") as advance:
        for recipe in populations:
            made[recipe.name] = []
            for seed in size.seeds:
                made[recipe.name].append(measure(recipe, seed))
                advance(1)
    return {"tuning": tuning, **summarise(made, populations)}


LINES = {
    "single": ("single", "uniform"),
    "ensemble": ("ensemble", "uniform"),
    "snapshots": ("snapshots", "uniform"),
    "q0, uniform": ("q0", "uniform"),
    "q0, learned prior": ("q0", "learned"),
}
"""The figure's lines: a method, and how its members are weighted."""

LOOKS: tuple[dict[str, Any], ...] = (
    {"color": style.GREY, "marker": "o", "ls": ":"},
    {"color": style.INK, "marker": "s", "ls": "-"},
    {"color": style.GREEN, "marker": "^", "ls": "-."},
    {"color": style.BLUE, "marker": "o", "ls": "--"},
    {"color": style.VERMILLION, "marker": "o", "ls": "-"},
)
"""Of the lines, in their order."""


def line(made: Mapping[str, list[list[Point]]], chosen: Sequence[str], way: str) -> list[dict[str, Any]]:
    """By total epochs: the test figure of the best population on validation that costs no more.

    Args:
        made: by recipe, for each seed, what was measured.
        chosen: recipes to choose from.
    """
    points = []
    for name in chosen:
        for of_seeds in zip(*made[name], strict=True):
            validation = spread([point[f"validation_{way}"] for point in of_seeds])["mean"]
            points.append((of_seeds[0]["epochs"], validation, name, of_seeds))
    best, found = float("inf"), []
    for epochs, validation, name, of_seeds in sorted(points, key=lambda point: (point[0], point[1])):
        if validation < best:
            best = validation
            entry = {
                "epochs": epochs,
                "recipe": name,
                "members": of_seeds[0]["members"],
                "trajectories": of_seeds[0]["trajectories"],
                "validation": validation,
                "test": spread([point[f"test_{way}"] for point in of_seeds]),
                "test_of_seeds": [point[f"test_{way}"] for point in of_seeds],
            }
            if f"accuracy_{way}" in of_seeds[0]:
                entry["accuracy"] = spread([100 * point[f"accuracy_{way}"] for point in of_seeds])
            found.append(entry)
    return found


def regime(made: Mapping[str, list[list[Point]]], singles: Sequence[Recipe]) -> list[dict[str, Any]]:
    """A single network by epochs, also where more of them make it worse."""
    found = []
    for recipe in sorted(singles, key=lambda single: single.q0.epochs_in(0)):
        settings = {"lr": recipe.q0.lr, "weight_decay": recipe.q0.weight_decay, "dropout": recipe.dropout}
        found.append(settings | line(made, [recipe.name], "uniform")[0])
    return found


def headline(ensemble: Sequence[dict[str, Any]], q0: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Epochs that each needs for the lowest test figure that both reach: of the means, and seed by seed."""

    def needed(points: Sequence[dict[str, Any]], of: Any, target: float) -> int:
        return next(int(point["epochs"]) for point in points if of(point) <= target)

    def ratio(of: Any) -> tuple[float, int, int]:
        target = max(min(of(point) for point in points) for points in (ensemble, q0))
        return target, needed(ensemble, of, target), needed(q0, of, target)

    target, theirs, ours = ratio(lambda point: point["test"]["mean"])
    of_seeds = []
    for seed in range(len(ensemble[0]["test_of_seeds"])):
        _, a, b = ratio(lambda point, seed=seed: point["test_of_seeds"][seed])
        of_seeds.append(a / b)
    return {
        "target": target,
        "ensemble_epochs": theirs,
        "q0_epochs": ours,
        "ratio": theirs / ours,
        "ratio_of_seeds": of_seeds,
    }


def summarise(made: Mapping[str, list[list[Point]]], populations: Sequence[Recipe]) -> dict[str, Any]:
    """What the points of all seeds say."""
    of_method: dict[str, list[str]] = {}
    for recipe in populations:
        of_method.setdefault(recipe.method, []).append(recipe.name)
    lines = {name: line(made, of_method[method], way) for name, (method, way) in LINES.items()}
    ablated = [method for method in of_method if method.startswith("q0 ")]
    return {
        "regime": regime(made, [recipe for recipe in populations if recipe.method == "single"]),
        "lines": lines,
        "ablation": {
            method: {
                "epochs": made[method][0][-1]["epochs"],
                **{way: spread([seed[-1][f"test_{way}"] for seed in made[method]]) for way in ("uniform", "learned")},
            }
            for method in ablated
        },
        "recipes": {
            recipe.name: {"method": recipe.method, **to_builtins(recipe.q0), "dropout": recipe.dropout}
            for recipe in populations
        },
        "all": made,
    }


@style.styled
def draw(entries: Mapping[str, dict[str, Any]], unit: str) -> Figure:
    """A row for each entry: left the regime, right the populations by total epochs; bars are deviations over the seeds."""
    figure = style.new_figure(3.2 * len(entries))
    for (title, figures), (left, right) in zip(
        entries.items(), figure.subplots(len(entries), 2, sharey="row", squeeze=False), strict=True
    ):
        left.set(xlabel="epochs of one network", ylabel=f"test, {unit}", title=f"{title}one network")
        _plot(left, figures["regime"], color=style.GREY, marker="o")
        right.set(xlabel="epochs in all", title="populations")
        for (label, points), look in zip(figures["lines"].items(), LOOKS, strict=True):
            _plot(right, points, label=label, **look)
        right.legend()
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
    return figure


def _plot(axes: Axes, points: Sequence[dict[str, Any]], **look: Any) -> None:
    tests = [point["test"] for point in points]
    means, stds = [test["mean"] for test in tests], [test["std"] for test in tests]
    axes.errorbar([point["epochs"] for point in points], means, stds, ms=3.5, elinewidth=0.8, capsize=1.5, **look)


def as_markdown(figures: Mapping[str, Any], unit: str) -> str:
    """The lines at their end, q0 with one thing changed, and the headline."""

    def cell(at: Mapping[str, Any], digits: int = 4) -> str:
        return f"{at['mean']:.{digits}f} ± {at['std']:.{digits}f}"

    def row(name: str, at: Mapping[str, Any], members: int) -> str:
        accuracy = f" {cell(at['accuracy'], 1)} |" if "accuracy" in at else ""
        return f"| {name} | {at['epochs']} | {members} | {cell(at['test'])} |{accuracy}"

    one = min(figures["regime"], key=lambda point: point["validation"])
    more = " accuracy (%) |" if "accuracy" in one else ""
    rows = [f"| | epochs | members | test, {unit} |{more}", "|---|---|---|---|" + "---|" * bool(more)]
    rows.append(row("best single network", one, 1))
    for name, points in figures["lines"].items():
        if name != "single":
            rows.append(row(f"{name} ({points[-1]['recipe']})", points[-1], points[-1]["members"]))
    rows += ["", "| one trajectory | epochs | equal weights | learned prior |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {at['epochs']} | {cell(at['uniform'])} | {cell(at['learned'])} |"
        for name, at in figures["ablation"].items()
    ]
    rows.append("")
    ensemble = figures["lines"]["ensemble"]
    for most in (ensemble[-1]["epochs"], ensemble[-1]["epochs"] // 2):  # the ratio depends on how far the ensemble went
        smaller = [point for point in ensemble if point["epochs"] <= most]
        for name in ("q0, uniform", "q0, learned prior") if smaller else ():
            found = headline(smaller, figures["lines"][name])
            seeds = ", ".join(f"{ratio:.1f}" for ratio in found["ratio_of_seeds"])
            rows.append(
                f"- ensembles of up to {most} epochs, {name}: {found['target']:.4f} takes the ensemble {found['ensemble_epochs']} "
                f"epochs and q0 {found['q0_epochs']}: {found['ratio']:.1f} times fewer (seeds: {seeds})"
            )
    return "\n".join(rows) + "\n"
