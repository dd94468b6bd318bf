"""What measured populations say: lines by total epochs, the headline, its table and its picture.

At every budget the best on validation, mean over the seeds, counts, and is reported on test. The headline: epochs that the
ensemble needs over epochs that q0 needs, for the lowest test figure that both reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.receipt import markdown, spread, written
from benchmarks.recipes import Recipe
from decouple.report import style
from decouple.settings import to_builtins

Point = dict[str, float]
"""A population's size (epochs, members, trajectories), and `validation_WAY` and `test_WAY` for each way of weighting it."""

WAYS = {"uniform": "equal weights", "learned": "learned prior", "calibrated": "calibrated"}
"""Of weighting a population's members."""

LINES = {
    "single": ("single", "uniform"),
    "ensemble": ("ensemble", "uniform"),
    "snapshots": ("snapshots", "uniform"),
    "q0, uniform": ("q0", "uniform"),
    "q0, learned prior": ("q0", "learned"),
    "ensemble, calibrated": ("ensemble", "calibrated"),
    "q0, calibrated": ("q0", "calibrated"),
}
"""The figure's lines: a method, and how its members are weighted. What is calibrated has the learned prior, and a temperature that
is fitted on the prior part; text has no such lines."""

HEADLINES = {"q0, uniform": "ensemble", "q0, learned prior": "ensemble", "q0, calibrated": "ensemble, calibrated"}
"""Lines, and what each is compared with."""

FAIR = {"ensemble, learned prior": ("ensemble", "learned"), "snapshots, learned prior": ("snapshots", "learned")}
"""In the table beside them: what q0's prior does for the baselines."""

LOOKS: tuple[dict[str, Any], ...] = (
    {"color": style.GREY, "marker": "o", "ls": ":"},
    {"color": style.INK, "marker": "s", "ls": "-"},
    {"color": style.GREEN, "marker": "^", "ls": "-."},
    {"color": style.BLUE, "marker": "o", "ls": "--"},
    {"color": style.VERMILLION, "marker": "o", "ls": "-"},
    {"color": style.INK, "marker": "D", "ls": "--"},
    {"color": style.PURPLE, "marker": "D", "ls": "-"},
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
    """A single network by epochs, the best on validation, also where more of them make it worse."""
    found: dict[int, dict[str, Any]] = {}
    for recipe in sorted(singles, key=lambda single: single.q0.epochs_in(0)):
        settings = {"lr": recipe.q0.lr, "weight_decay": recipe.q0.weight_decay, "dropout": recipe.dropout}
        reached, epochs = line(made, [recipe.name], "uniform")[0], recipe.q0.epochs_in(0)
        if epochs not in found or reached["validation"] < found[epochs]["validation"]:
            found[epochs] = settings | reached
    return list(found.values())


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
    ways = [way for way in WAYS if f"test_{way}" in next(iter(made.values()))[0][0]]
    lines = {name: line(made, of_method[method], way) for name, (method, way) in LINES.items() if way in ways}
    ablated = [method for method in of_method if method.startswith("q0 ")]
    return {
        "regime": regime(made, [recipe for recipe in populations if recipe.method == "single"]),
        "lines": lines,
        "ablation": {
            method: {
                "epochs": made[method][0][-1]["epochs"],
                **{way: spread([seed[-1][f"test_{way}"] for seed in made[method]]) for way in ways},
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
        plot(left, figures["regime"], color=style.GREY, marker="o")
        right.set(xlabel="epochs in all", title="populations")
        for (label, points), look in zip(figures["lines"].items(), LOOKS, strict=False):
            plot(right, points, label=label, **look)
        right.legend()
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
    return figure


def plot(axes: Axes, points: Sequence[dict[str, Any]], *, x: str = "epochs", **look: Any) -> None:
    """Means of "test" by `x`; bars are deviations over the seeds."""
    tests = [point["test"] for point in points]
    means, stds = [test["mean"] for test in tests], [test["std"] for test in tests]
    axes.errorbar([point[x] for point in points], means, stds, ms=3.5, elinewidth=0.8, capsize=1.5, **look)


def as_markdown(figures: Mapping[str, Any], unit: str) -> str:
    """The lines at their end, q0 with one thing changed, and the headline."""

    def row(name: str, at: Mapping[str, Any], members: int) -> list[Any]:
        accuracy = [written(at["accuracy"])] if "accuracy" in at else []
        return [name, at["epochs"], members, written(at["test"], 4), *accuracy]

    one = min(figures["regime"], key=lambda point: point["validation"])
    head = ["", "epochs", "members", f"test, {unit}", *["accuracy (%)"] * ("accuracy" in one)]
    rows = [row("best single network", one, 1)]
    fair = {
        name: line(figures["all"], [r for r, recipe in figures["recipes"].items() if recipe["method"] == method], way)
        for name, (method, way) in FAIR.items()
    }
    for name, points in {**figures["lines"], **fair}.items():
        if name != "single":
            rows.append(row(f"{name} ({points[-1]['recipe']})", points[-1], points[-1]["members"]))
    tables = [markdown(head, rows)]
    if ablation := figures["ablation"]:
        ways = [way for way in WAYS if way in next(iter(ablation.values()))]
        ablated = [[name, at["epochs"], *(written(at[way], 4) for way in ways)] for name, at in ablation.items()]
        tables.append(markdown(["one trajectory", "epochs", *(WAYS[way] for way in ways)], ablated))
    return "\n".join([*tables, *ratios(figures["lines"])]) + "\n"


def ratios(lines: Mapping[str, Sequence[dict[str, Any]]]) -> list[str]:
    """The headlines, of all epochs that ensembles had and of half of them: the ratio depends on how far the ensemble went."""
    rows = []
    for half in (1, 2):
        for name, beside in HEADLINES.items():
            most = lines[beside][-1]["epochs"] // half if beside in lines else 0
            smaller = [point for point in lines.get(beside, ()) if point["epochs"] <= most]
            if smaller:
                found = headline(smaller, lines[name])
                seeds = ", ".join(f"{ratio:.1f}" for ratio in found["ratio_of_seeds"])
                rows.append(
                    f"- ensembles of up to {most} epochs, {name}: {found['target']:.4f} takes the ensemble "
                    f"{found['ensemble_epochs']} epochs and q0 {found['q0_epochs']}: {found['ratio']:.1f} times fewer (seeds: {seeds})"
                )
    return rows
