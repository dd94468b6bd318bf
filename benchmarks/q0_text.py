"""q0 on text against its baselines: bits per byte on test, by total epochs.

    python -m benchmarks.q0_text --data FILE                # tiny Shakespeare; two CPU cores
    python -m benchmarks.q0_text --data FILE --scale tiny   # to try the program

- single: one model trained longer, its learning rate falling to 0. This shows the regime: where more epochs no longer help it.
- ensemble: independent such models, probabilities averaged; the best epochs a model count for each budget.
- snapshots: cosine cycles to 0, flat weight decay, no distillation; equal weights.
- q0: cycles with anti-phase rates, distillation from the snapshot before and noise on the weights; equal weights, or the
  learned prior. And one trajectory of it with one thing changed.

Every method is tuned at every length of its training or cycle, with the same grid of learning rates, weight decays and
dropouts, one setting after the other, by the validation of a small population of the first seed. Then everything is run with
all seeds; the best on validation, mean over the seeds, counts for each budget and is reported on test. A budget counts epochs of
training; a distilled epoch also asks its teacher, which costs a forward pass (a third of a step). The headline: epochs that
the ensemble needs for what the largest ensemble reaches, over epochs that q0 needs for it. Writes figures/q0_text.json, .md, .png
and .svg.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from torch import Tensor

from benchmarks.command import launch
from benchmarks.common import Parts, save_pictures
from benchmarks.receipt import FIGURES, spread, write_receipt
from decouple import device as devices
from decouple.config import CorpusConfig, GptConfig, TextConfig, TextQ0Config
from decouple.errors import ConfigError
from decouple.files import write_text
from decouple.pipeline.text import TextRun, answers, train
from decouple.progress import Progress
from decouple.q0 import fit_prior, nll
from decouple.report import style
from decouple.settings import fingerprint, to_builtins
from decouple.text import load_corpus
from decouple.text.group import Group

NAME = "q0_text"


@dataclass(frozen=True)
class Recipe:
    """A way to spend epochs."""

    method: str
    """The line of the figure that it is a choice of: the best on validation counts, budget by budget."""
    name: str
    q0: TextQ0Config
    dropout: float = 0.0

    def having(self, **settings: Any) -> Recipe:
        """This one with other settings: of q0, or the dropout."""
        dropout = settings.pop("dropout", self.dropout)
        return replace(self, q0=replace(self.q0, **settings), dropout=dropout)

    def setting(self, name: str) -> Any:
        return self.dropout if name == "dropout" else getattr(self.q0, name)


@dataclass(frozen=True, kw_only=True)
class TextSize:
    corpus: CorpusConfig
    network: GptConfig
    base: TextQ0Config
    """q0, and what all methods share."""
    budget: int
    """Total epochs of the largest population of q0 and of snapshots."""
    ensembles: int
    """Total epochs of the largest ensemble: more, to see how many it takes to reach q0."""
    singles: tuple[int, ...]
    """Epochs of a single model."""
    models: tuple[int, ...]
    """Epochs of a model of an ensemble."""
    cycles: tuple[int, ...]
    """Epochs of a cycle, of snapshots and q0."""
    pilot: int
    """Epochs of the cyclic populations that tuning compares. Of ensembles: three models."""
    grid: dict[str, tuple[float, ...]]
    """What every method is tuned over."""
    q0_grid: dict[str, tuple[float, ...]]
    """What q0 has beside them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    compile: bool = False


def methods(size: TextSize) -> list[tuple[Recipe, int, list[int]]]:
    """Each method at each of its lengths: the recipe before tuning, trajectories of its pilot, those of its populations.

    A recipe's cycles are those of the pilot; the populations fill the budget.
    """
    base = replace(size.base, trajectories=1)
    alone = replace(base, cycles=1, alpha=0.0, perturb=0.0, lr_floor=0.0, wd_floor=1.0, shape="linear")
    cosine = replace(base, restart="continue", alpha=0.0, perturb=0.0, shape="cosine", lr_floor=0.0, wd_floor=1.0)

    def cyclic(q0: TextQ0Config, epochs: int) -> TextQ0Config:
        return replace(q0, epochs=epochs, cycles=cycles_in(size.pilot, q0.first_epochs, epochs))

    found = [(Recipe("single", f"{n} epochs", replace(alone, first_epochs=n)), 1, [1]) for n in size.singles]
    found += [
        (Recipe("ensemble", f"models of {n} epochs", replace(alone, first_epochs=n)), 3, [size.ensembles // n])
        for n in size.models
    ]
    found += [(Recipe("snapshots", f"snapshots of {n} epochs", cyclic(cosine, n)), 1, [1]) for n in size.cycles]
    found += [(Recipe("q0", f"q0, cycles of {n} epochs", cyclic(base, n)), 1, [1, 2]) for n in size.cycles]
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
    cycles = cycles_in(budget // trajectories, q0.first_epochs, q0.epochs) if q0.cycles > 1 else 1
    name = f"{recipe.name}, {trajectories} trajectories" if trajectories > 1 and cycles > 1 else recipe.name
    return replace(recipe.having(cycles=cycles, trajectories=trajectories), name=name)


def without(main: Recipe) -> list[Recipe]:
    """q0 with one thing changed."""
    changes: dict[str, dict[str, Any]] = {
        "q0 without distillation": {"alpha": 0.0},
        "q0 with flat weight decay": {"wd_floor": 1.0},
        "q0 with a cosine": {"shape": "cosine"},
        "q0 without noise": {"perturb": 0.0},
        "q0 with the public code's noise": {"perturb": 0.25},
        "q0 with T = 2": {"temperature": 2.0},
        "q0 of new networks": {"restart": "new", "perturb": 0.0},
    }
    return [replace(main.having(**change), method=name, name=name) for name, change in changes.items()]


SCALES = {
    "tiny": TextSize(
        corpus=CorpusConfig(train=3000, validation=500, prior=500, test=500),
        network=GptConfig(layers=1, width=16, heads=2, context=32),
        base=TextQ0Config(first_epochs=2, epochs=1, batch=8, restart="continue", perturb=1.0),
        budget=6,
        ensembles=6,
        singles=(2, 4),
        models=(2,),
        cycles=(1,),
        pilot=3,
        grid={"weight_decay": (1.0, 2.0)},
        q0_grid={"alpha": (0.0, 0.45)},
        seeds=(0, 1),
    ),
    "small": TextSize(
        corpus=CorpusConfig(train=20_000, validation=20_000, prior=20_000, test=40_000),
        network=GptConfig(),
        base=TextQ0Config(restart="continue", first_epochs=8, epochs=4, alpha=0.45, perturb=1.0),
        budget=128,
        ensembles=256,
        singles=(4, 8, 16, 32),
        models=(16, 32),
        cycles=(4,),
        pilot=48,
        grid={"lr": (2e-2, 4e-2, 8e-2), "weight_decay": (0.5, 1.0, 2.0), "dropout": (0.0, 0.2)},
        q0_grid={"perturb": (0.5, 1.0), "alpha": (0.45, 0.6)},
    ),
}


@dataclass(frozen=True)
class Arguments:
    data: Path | None = None
    """The text file."""
    scale: Literal["tiny", "small"] = "small"
    """tiny: to try the program; small: 20 kB of a text."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    out: Path | None = None
    """Keep finished parts and snapshots in this folder, and go on with those that it holds. Another commit makes them again."""
    figures: Path = FIGURES
    """Folder of the receipt and the picture."""


def measure(run: TextRun) -> list[dict[str, float]]:
    """Bits per byte of every population that a recipe passes through: its first t trajectories after c cycles each.

    A trajectory's first c cycles are those of one that ends there (but for the noise, whose scale falls to the last cycle).
    """
    snapshots, network = train(run), run.network()
    said = {(snapshot.trajectory, snapshot.cycle): answers(run, snapshot, network) for snapshot in snapshots}
    found = []
    for trajectories in range(1, run.config.q0.trajectories + 1):
        for cycles in range(1, run.config.q0.cycles + 1):
            chosen = [said[t, c] for t in range(trajectories) for c in range(cycles)]
            epochs = trajectories * run.config.q0.epochs_before(cycles)
            found.append(
                {"epochs": epochs, "members": len(chosen), "trajectories": trajectories, **_population(run, chosen)}
            )
    return found


def _population(run: TextRun, members: list[dict[str, Tensor]]) -> dict[str, float]:
    """Of some members: with equal weights, with the learned prior, and the last one alone."""
    p = {name: torch.stack([member[name] for member in members]).double() for name in ("prior", "validation", "test")}
    ways = {
        "uniform": torch.full((len(members),), 1 / len(members), dtype=torch.float64),
        "learned": fit_prior(p["prior"]).weights,
        "last": torch.tensor([0.0] * (len(members) - 1) + [1.0], dtype=torch.float64),
    }
    return {
        f"{name}_{way}": getattr(run.corpus, name).bits_per_byte(float(nll(weights @ p[name])))
        for way, weights in ways.items()
        for name in ("validation", "test")
    }


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


def line(made: dict[str, list[list[dict[str, float]]]], chosen: list[str], way: str) -> list[dict[str, Any]]:
    """By total epochs: the test figure of the best population on validation that costs no more.

    Args:
        made: by recipe, for each seed, what `measure` gave.
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
            found.append(
                {
                    "epochs": epochs,
                    "recipe": name,
                    "members": of_seeds[0]["members"],
                    "trajectories": of_seeds[0]["trajectories"],
                    "validation": validation,
                    "test": spread([point[f"test_{way}"] for point in of_seeds]),
                    "test_of_seeds": [point[f"test_{way}"] for point in of_seeds],
                }
            )
    return found


def regime(made: dict[str, list[list[dict[str, float]]]], singles: list[Recipe]) -> list[dict[str, Any]]:
    """A single model by epochs, also where more of them make it worse."""
    found = []
    for recipe in sorted(singles, key=lambda single: single.q0.first_epochs):
        settings = {"lr": recipe.q0.lr, "weight_decay": recipe.q0.weight_decay, "dropout": recipe.dropout}
        found.append(settings | line(made, [recipe.name], "uniform")[0])
    return found


def headline(ensemble: list[dict[str, Any]], q0: list[dict[str, Any]]) -> dict[str, Any]:
    """Epochs that each needs for the ensemble's lowest test figure: of the means, and seed by seed."""

    def needed(points: list[dict[str, Any]], of: Any, target: float) -> int | None:
        return next((point["epochs"] for point in points if of(point) <= target), None)

    def ratio(of: Any) -> tuple[float, int | None, int | None]:
        target = min(of(point) for point in ensemble)
        return target, needed(ensemble, of, target), needed(q0, of, target)

    target, theirs, ours = ratio(lambda point: point["test"]["mean"])
    of_seeds = []
    for seed in range(len(ensemble[0]["test_of_seeds"])):
        _, a, b = ratio(lambda point, seed=seed: point["test_of_seeds"][seed])
        of_seeds.append(a / b if a and b else None)
    return {
        "target": target,
        "ensemble_epochs": theirs,
        "q0_epochs": ours,
        "ratio": theirs / ours if theirs and ours else None,
        "ratio_of_seeds": of_seeds,
    }


class Bench:
    """Measures recipes, each once."""

    def __init__(self, data: Path, size: TextSize, parts: Parts, folder: Path, device: str) -> None:
        self._size, self._parts, self._folder = size, parts, folder
        self._group, self._corpus = Group(devices.resolve(device)), load_corpus(data, size.corpus, folder)

    def measure(self, recipe: Recipe, seed: int) -> list[dict[str, float]]:
        """See `measure`; kept by what the recipe says, whatever its name."""
        size = self._size
        config = TextConfig(
            preset=NAME,
            seed=seed,
            precision=size.precision,
            compile=size.compile,
            corpus=size.corpus,
            network=replace(size.network, dropout=recipe.dropout),
            q0=recipe.q0,
        )
        whole = TextRun(config, self._corpus, self._group, self._folder, None, Progress(quiet=True))
        name = f"{recipe.method}-{fingerprint(self._corpus.digest, config)}".replace(" ", "-")
        return self._parts.get(name, partial(measure, whole))

    def tune(
        self,
        recipe: Recipe,
        trajectories: int,
        grid: Mapping[str, Sequence[float]],
        advance: Callable[[int], None] = lambda count: None,
    ) -> dict[str, Any]:
        """One setting after the other, each at the value whose population of the first seed is best on validation.

        Returns:
            recipe: the best; trials: what was tried, with bits per byte on validation.
        """
        best, trials, known = recipe.having(trajectories=trajectories), [], {}
        for name, values in grid.items():
            options = [best.having(**{name: value}) for value in values]
            for option in options:
                if option not in known:
                    known[option] = self.measure(option, self._size.seeds[0])[-1]["validation_uniform"]
                    advance(1)
                    trials.append({**{each: option.setting(each) for each in grid}, "validation": known[option]})
            best = min(options, key=known.__getitem__)
        return {"recipe": best, "trials": trials}


def run(arguments: Arguments, size: TextSize) -> dict[str, Any]:
    """The figures of the receipt."""
    if arguments.data is None:
        raise ConfigError("give a text: python -m benchmarks.q0_text --data FILE")
    parts, tuning = Parts(arguments.out, NAME, size), []
    made: dict[str, list[list[dict[str, float]]]] = {}
    populations: list[Recipe] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = parts.folder or Path(temporary)
        bench = Bench(arguments.data, size, parts, folder, arguments.device)
        grids = {True: {**size.q0_grid, **size.grid}, False: size.grid}
        trials = sum(1 + sum(len(v) - 1 for v in grids[r.method == "q0"].values()) for r, _, _ in methods(size))
        with Progress().task(f"{NAME}, tuning", trials, "populations") as advance:
            for recipe, pilot, counts in methods(size):
                tuned = bench.tune(recipe, pilot, grids[recipe.method == "q0"], advance)
                populations += [filling(tuned["recipe"], count, size.budget) for count in counts]
                tuning.append({"method": recipe.method, "name": recipe.name, "trials": tuned["trials"]})
                if recipe.method == "q0" and recipe.q0.epochs == size.base.epochs:
                    main = filling(tuned["recipe"], 1, size.budget // 2)
        populations += [replace(main, method="q0 itself", name="q0 itself"), *without(main)]
        with Progress().task(NAME, len(populations) * len(size.seeds), "populations") as advance:
            for recipe in populations:
                made[recipe.name] = []
                for seed in size.seeds:
                    made[recipe.name].append(bench.measure(recipe, seed))
                    advance(1)
    return {"tuning": tuning, **summarise(made, populations)}


def summarise(made: dict[str, list[list[dict[str, float]]]], populations: list[Recipe]) -> dict[str, Any]:
    of_method: dict[str, list[str]] = {}
    for recipe in populations:
        of_method.setdefault(recipe.method, []).append(recipe.name)
    lines = {name: line(made, of_method[method], way) for name, (method, way) in LINES.items()}
    changed = [method for method in of_method if method.startswith("q0 ")]
    return {
        "regime": regime(made, [recipe for recipe in populations if recipe.method == "single"]),
        "lines": lines,
        "headline": {name: headline(lines["ensemble"], lines[name]) for name in ("q0, uniform", "q0, learned prior")},
        "ablation": {
            method: {
                "epochs": made[method][0][-1]["epochs"],
                **{way: spread([seed[-1][f"test_{way}"] for seed in made[method]]) for way in ("uniform", "learned")},
            }
            for method in changed
        },
        "recipes": {recipe.name: {**to_builtins(recipe.q0), "dropout": recipe.dropout} for recipe in populations},
        "all": made,
    }


@style.styled
def draw(figures: dict[str, Any]) -> Figure:
    """Left the regime, right bits per byte by total epochs; bars are standard deviations over the seeds."""
    figure = style.new_figure(3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    left.set(xlabel="epochs of one model", ylabel="test, bits per byte", title="One model, tuned for each")
    _plot(left, figures["regime"], color=style.GREY, marker="o")
    right.set(xlabel="epochs in all", title="Populations")
    for (label, points), look in zip(figures["lines"].items(), LOOKS, strict=True):
        _plot(right, points, label=label, **look)
    right.legend()
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
    return figure


def _plot(axes: Axes, points: list[dict[str, Any]], **look: Any) -> None:
    tests = [point["test"] for point in points]
    means, stds = [test["mean"] for test in tests], [test["std"] for test in tests]
    axes.errorbar([point["epochs"] for point in points], means, stds, ms=3.5, elinewidth=0.8, capsize=1.5, **look)


def as_markdown(figures: dict[str, Any]) -> str:
    """The lines at their end, q0 with one thing changed, and the headline."""

    def cell(at: dict[str, Any]) -> str:
        return f"{at['mean']:.4f} ± {at['std']:.4f}"

    rows = ["| | epochs | members | bits per byte, test |", "|---|---|---|---|"]
    one = min(figures["regime"], key=lambda point: point["validation"])
    rows += [f"| best single model | {one['epochs']} | 1 | {cell(one['test'])} |"]
    for name, points in figures["lines"].items():
        if name != "single":
            last = points[-1]
            rows.append(f"| {name} ({last['recipe']}) | {last['epochs']} | {last['members']} | {cell(last['test'])} |")
    rows += ["", "| one trajectory | epochs | equal weights | learned prior |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {at['epochs']} | {cell(at['uniform'])} | {cell(at['learned'])} |"
        for name, at in figures["ablation"].items()
    ]
    rows.append("")
    for name, found in figures["headline"].items():
        ratio = f"{found['ratio']:.1f} times fewer" if found["ratio"] else "never in this budget"
        rows.append(
            f"- {name}: what the ensemble reaches in {found['ensemble_epochs']} epochs ({found['target']:.4f}) in "
            f"{found['q0_epochs']} epochs: {ratio}"
        )
    return "\n".join(rows) + "\n"


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    figures = run(arguments, size)
    name = NAME if arguments.scale == "small" else f"{NAME}-{arguments.scale}"
    save_pictures(draw(figures), name, arguments.figures)
    figures["seconds_of_last_sitting"] = time.monotonic() - began
    settings = {**to_builtins(size), "scale": arguments.scale}
    path = write_receipt(name, figures, settings=settings, device=arguments.device, folder=arguments.figures)
    write_text(arguments.figures / f"{name}.md", as_markdown(figures))
    print(as_markdown(figures))
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
