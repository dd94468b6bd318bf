"""q0 on text against its baselines: bits per byte on test, by total epochs.

    python -m benchmarks.q0_text --data FILE                # tiny Shakespeare; two CPU cores
    python -m benchmarks.q0_text --data FILE --scale tiny   # to try the program

- single: one model trained longer, its learning rate falling to 0; the weight decay is chosen for each number of epochs. This
  shows the regime: where more epochs no longer help one model.
- ensemble: independent such models, probabilities averaged; epochs a model and weight decay are chosen for each budget.
- snapshots: cosine cycles to 0, flat weight decay, no distillation; equal weights.
- q0: cycles with anti-phase rates and chain distillation; equal weights, or the learned prior. And q0 with one thing changed.

Everything is chosen on validation, from the mean over the seeds, and reported on test. A budget counts epochs of training; a
distilled epoch also asks its teacher, which costs a forward pass (a third of a step). The headline: epochs that the ensemble
needs for what the largest ensemble reaches, over epochs that q0 needs for it. Writes figures/q0_text.json, .png and .svg.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from torch import Tensor

from benchmarks.common import Parts, save_pictures
from benchmarks.receipt import FIGURES, spread, write_receipt
from decouple import device as devices
from decouple.config import CorpusConfig, GptConfig, TextConfig, TextQ0Config
from decouple.errors import ConfigError
from decouple.pipeline.text import TextRun, answers, train
from decouple.presets import text_preset
from decouple.progress import Progress
from decouple.q0 import fit_prior, nll
from decouple.report import style
from decouple.settings import to_builtins
from decouple.text import load_corpus
from decouple.text.group import Group
from decouple.text.training import cycle_epochs

NAME = "q0_text"


@dataclass(frozen=True)
class Recipe:
    """A way to spend epochs."""

    method: str
    """The line of the figure that it is a choice of: the best on validation counts, budget by budget."""
    name: str
    q0: TextQ0Config
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TextSize:
    corpus: CorpusConfig
    network: GptConfig
    seeds: tuple[int, ...] = (0, 1, 2)
    recipes: tuple[Recipe, ...] = field(default_factory=tuple)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    compile: bool = False


def recipes(
    base: TextQ0Config, *, epochs: tuple[int, ...], decays: tuple[float, ...], models: dict[int, int]
) -> tuple[Recipe, ...]:
    """The baselines, q0 as in `base`, and one trajectory of it with one thing changed.

    Args:
        epochs: of a single model.
        decays: weight decays to choose from.
        models: by epochs a model, the size of the largest ensemble.
    """
    alone = replace(base, cycles=1, trajectories=1, alpha=0.0, perturb=0.0, lr_floor=0.0, members=None)
    chain = base.epochs * (base.cycles - 1) + base.first_epochs
    cosine = replace(base, restart="continue", alpha=0.0, perturb=0.0, shape="cosine", lr_floor=0.0, wd_floor=1.0)
    found = [
        Recipe("single", f"{n} epochs, decay {decay:g}", replace(alone, first_epochs=n, weight_decay=decay))
        for n in epochs
        for decay in decays
    ]
    found += [
        Recipe(
            "ensemble",
            f"{n} epochs each, decay {decay:g}",
            replace(alone, first_epochs=n, weight_decay=decay, trajectories=count),
        )
        for n, count in models.items()
        for decay in decays
    ]
    found += [
        Recipe("snapshots", f"cycles of {n}", replace(cosine, first_epochs=base.first_epochs, epochs=n, cycles=count))
        for n in sorted({max(1, base.epochs // 2), base.epochs})
        if (count := 1 + (chain - base.first_epochs) // n) > 1
    ]
    changes: dict[str, dict[str, Any]] = {
        "q0 without distillation": {"alpha": 0.0},
        "q0 with flat weight decay": {"wd_floor": 1.0},
        "q0 with a cosine": {"shape": "cosine"},
        "q0 continuing from its snapshots": {"restart": "continue"},
        "q0 continuing, with noise": {"restart": "continue", "perturb": 0.25},
    }
    found.append(Recipe("q0", "q0", base))
    one = replace(base, trajectories=1)
    return (*found, *(Recipe(name, name, replace(one, **change)) for name, change in changes.items()))


SCALES = {
    "tiny": TextSize(
        corpus=CorpusConfig(train=3000, validation=500, prior=500, test=500),
        network=GptConfig(layers=1, width=16, heads=2, context=32),
        seeds=(0, 1),
        recipes=recipes(
            TextQ0Config(trajectories=2, cycles=3, first_epochs=2, epochs=1, batch=8),
            epochs=(2, 4),
            decays=(0.5, 1.0),
            models={2: 3},
        ),
    ),
    "small": TextSize(
        corpus=CorpusConfig(train=50_000),
        network=GptConfig(),
        recipes=recipes(text_preset("tiny").q0, epochs=(4, 8, 16, 32, 64), decays=(0.5, 1.0, 2.0), models={16: 12, 32: 8}),
    ),
}


@dataclass(frozen=True)
class Arguments:
    data: Path | None = None
    """The text file."""
    scale: Literal["tiny", "small"] = "small"
    """tiny: to try the program; small: tiny Shakespeare's first reported figures."""
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
            epochs = trajectories * sum(cycle_epochs(run.config, cycle) for cycle in range(cycles))
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
    """A single model by epochs, each with its own best weight decay; also where more epochs make it worse."""
    found = []
    for epochs in sorted({recipe.q0.first_epochs for recipe in singles}):
        same = [recipe for recipe in singles if recipe.q0.first_epochs == epochs]
        of_each = [line(made, [recipe.name], "uniform")[0] for recipe in same]
        best = min(range(len(same)), key=lambda i: of_each[i]["validation"])
        found.append({"weight_decay": same[best].q0.weight_decay, **of_each[best]})
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


def run(arguments: Arguments, size: TextSize) -> dict[str, Any]:
    """The figures of the receipt."""
    if arguments.data is None:
        raise ConfigError("give a text: python -m benchmarks.q0_text --data FILE")
    parts, group = Parts(arguments.out, NAME, size), Group(devices.resolve(arguments.device))
    made: dict[str, list[list[dict[str, float]]]] = {recipe.name: [] for recipe in size.recipes}
    members = sum(recipe.q0.trajectories * recipe.q0.cycles for recipe in size.recipes) * len(size.seeds)
    with tempfile.TemporaryDirectory() as temporary, Progress().task(NAME, members, "members") as advance:
        folder = parts.folder or Path(temporary)
        for recipe in size.recipes:
            for seed in size.seeds:
                config = TextConfig(
                    preset=NAME,
                    seed=seed,
                    precision=size.precision,
                    compile=size.compile,
                    corpus=size.corpus,
                    network=replace(size.network, dropout=recipe.dropout),
                    q0=recipe.q0,
                )
                corpus = load_corpus(arguments.data, size.corpus, folder)
                whole = TextRun(config, corpus, group, folder, None, Progress(quiet=True))
                name = f"{_file(recipe.name)}-{corpus.digest}-seed{seed}"
                made[recipe.name].append(parts.get(name, partial(measure, whole)))
                advance(recipe.q0.trajectories * recipe.q0.cycles)
    return summarise(made, size)


def summarise(made: dict[str, list[list[dict[str, float]]]], size: TextSize) -> dict[str, Any]:
    of_method: dict[str, list[str]] = {}
    for recipe in size.recipes:
        of_method.setdefault(recipe.method, []).append(recipe.name)
    lines = {name: line(made, of_method[method], way) for name, (method, way) in LINES.items()}
    removed = [method for method in of_method if method.startswith("q0 ")]
    alone = {method: [_first_trajectory(seed) for seed in made[method]] for method in ("q0", *removed)}
    return {
        "regime": regime(made, [recipe for recipe in size.recipes if recipe.method == "single"]),
        "lines": lines,
        "headline": {name: headline(lines["ensemble"], lines[name]) for name in ("q0, uniform", "q0, learned prior")},
        "ablation": {
            method: {"epochs": seeds[0]["epochs"], **spread([point["test_uniform"] for point in seeds])}
            for method, seeds in alone.items()
        },
        "all": made,
    }


def _first_trajectory(populations: list[dict[str, float]]) -> dict[str, float]:
    """The population of all cycles of one trajectory: what the ablations have too."""
    return max((one for one in populations if one["trajectories"] == 1), key=lambda one: one["epochs"])


@style.styled
def draw(figures: dict[str, Any]) -> Figure:
    """Left the regime, right bits per byte by total epochs; bars are standard deviations over the seeds."""
    figure = style.new_figure(3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    left.set(xlabel="epochs of one model", ylabel="test, bits per byte", title="One model, best weight decay for each")
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


def table(figures: dict[str, Any]) -> str:
    """The lines at their end, and the headline."""
    rows = [f"{'':<24}  epochs  members  bits per byte, test"]
    for name, points in figures["lines"].items():
        last = points[-1]
        rows.append(
            f"{name:<24}  {last['epochs']:>6}  {last['members']:>7}  {last['test']['mean']:.4f} ± {last['test']['std']:.4f}"
            f"  ({last['recipe']})"
        )
    rows.append("one trajectory, equal weights:")
    rows += [
        f"{name:<24}  {at['epochs']:>6}  {'':>7}  {at['mean']:.4f} ± {at['std']:.4f}"
        for name, at in figures["ablation"].items()
    ]
    for name, found in figures["headline"].items():
        ratio = f"{found['ratio']:.1f} times fewer" if found["ratio"] else "never in this budget"
        rows.append(
            f"{name}: what the ensemble reaches in {found['ensemble_epochs']} epochs ({found['target']:.4f}) in "
            f"{found['q0_epochs']} epochs: {ratio}"
        )
    return "\n".join(rows)


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    figures = run(arguments, size)
    name = NAME if arguments.scale == "small" else f"{NAME}-{arguments.scale}"
    save_pictures(draw(figures), name, arguments.figures)
    figures["seconds_of_last_sitting"] = time.monotonic() - began
    settings = {**to_builtins(size), "scale": arguments.scale}
    path = write_receipt(name, figures, settings=settings, device=arguments.device, folder=arguments.figures)
    print(table(figures))
    print(path)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
