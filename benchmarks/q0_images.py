"""Populations against the ensembles and single networks of the same total epochs, where images are few.

    python -m benchmarks.q0_images --data-root DATA                              # one CPU core
    python -m benchmarks.q0_images --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images

- methods: one network trained longer; independent networks, probabilities averaged; snapshot ensemble (cosine cycles, flat
  decay); q0. Each has recipes (lengths, weight decays, cycles, ...). For every budget of total epochs the recipe with the
  best NLL on validation, mean over the seeds, is the method's; its test NLL is the curve.
- weights: uniform, uniform over the later half of the cycles, learned prior, greedy; side by side for every recipe.
- ratio: epochs that the independent ensemble needs over those that q0 needs for the same test NLL.
- ablations: the main q0 recipe with one thing changed.
- searched: the main recipe from networks learned from searched solutions, against new networks; the learning's epochs count,
  the search is stated apart.
- more_data: a single network on more images, to stand beside q0 on few.

Training is in bfloat16 where the scale says so. Writes figures/q0_images.json, .png and .svg; --plans PATH also writes what
`decouple q0 plan` reads.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.command import launch
from benchmarks.common import Common, Parts, key, label, named, save_pictures
from benchmarks.receipt import spread, write_receipt
from decouple import device as devices
from decouple.config import DataConfig, EsConfig, LearnConfig, NetworkConfig, Q0Config, SearchConfig
from decouple.data import ImageData, load_data
from decouple.files import write_json
from decouple.learn import learn_targets
from decouple.networks import Stages, paper_network
from decouple.progress import Progress
from decouple.q0 import cross_validated_strength, fit_prior, greedy_members, mixture, nll
from decouple.q0.plan import Plans
from decouple.q0.trajectories import Chain, weights_in
from decouple.report import style
from decouple.search import search_solution
from decouple.seeds import derive
from decouple.settings import fingerprint, to_builtins
from decouple.training.evaluate import logits

NAME = "q0_images"
METHODS = {
    "single": "one network, longer",
    "ensemble": "independent networks",
    "snapshot": "snapshot ensemble",
    "q0": "q0",
}
WEIGHTINGS = ("uniform", "later_half", "learned", "greedy")


@dataclass(frozen=True)
class Recipe:
    """A way to spend epochs: `trajectories` chains of `q0.cycles` cycles, or so many independent networks of one cycle."""

    method: str
    trajectories: int
    q0: Q0Config

    @property
    def name(self) -> str:
        return f"{self.method}-{fingerprint(self.trajectories, self.q0)}"

    @property
    def text(self) -> str:
        q0 = self.q0
        extras = {
            f"perturbation {q0.perturb:g}": q0.perturb > 0,
            f"distillation {q0.alpha:g} (T {q0.temperature:g})": q0.alpha > 0,
            "cosine": q0.shape == "cosine",
            "flat decay": q0.wd_floor == 1,
        }
        what = ", ".join(name for name, there in extras.items() if there)
        shape = f"{self.trajectories} × {q0.cycles} cycles of {q0.epochs} epochs, decay {q0.weight_decay:g}"
        return f"{shape}{', ' if what else ''}{what}"

    def stages(self) -> list[tuple[int, int]]:
        """(members trained so far, those at the end of which a point of the curve is): by cycle, or by network."""
        by = self.trajectories if self.q0.cycles > 1 else 1
        count = self.trajectories * self.q0.cycles // by
        marks = sorted({c for c in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if c < count} | {count})
        return [(by * mark, by) for mark in marks]


@dataclass(frozen=True, kw_only=True)
class Q0Size:
    """What is measured at some scale."""

    data: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    """Training images by data set's short name."""
    budget: int
    """Total epochs, the largest."""
    singles: tuple[int, ...]
    """Lengths of the single network."""
    members: tuple[int, ...]
    """Lengths of an independent network."""
    cycles: tuple[int, ...]
    """Lengths of a cycle."""
    decays: tuple[float, ...] = (0.02, 0.06)
    validation: int = 1000
    prior: int = 250
    test: int | None = 5000
    seeds: tuple[int, ...] = (0, 1, 2)
    network: NetworkConfig = NetworkConfig(width=16)  # noqa: RUF009 (frozen)
    lr: float = 0.3
    batch: int = 128
    precision: str = "bfloat16"
    learned: int = 16
    """Epochs of the learning that seeds a trajectory with a searched solution."""
    more_data: tuple[int, ...] = (2, 4, 8)
    """Times as many images for a single network."""


SCALES = {
    "tiny": Q0Size(
        data=("digits",),
        train=(("digits", 200),),
        budget=8,
        singles=(1, 2, 4, 8),
        members=(2, 4),
        cycles=(1, 2),
        decays=(0.02,),
        validation=150,
        prior=100,
        test=None,
        seeds=(0, 1),
        network=NetworkConfig(width=8),
        batch=32,
        learned=2,
        more_data=(2,),
    ),
    "trial": Q0Size(
        data=("mnist",),
        train=(("mnist", 2000),),
        budget=32,
        singles=(1, 2, 4, 8, 16, 32),
        members=(4, 8, 16),
        cycles=(2, 4),
        decays=(0.06,),
        seeds=(0,),
        learned=8,
        more_data=(2, 4),
    ),
    "small": Q0Size(
        data=("mnist", "cifar10"),
        train=(("mnist", 2000), ("cifar10", 5000)),
        budget=96,
        singles=(1, 2, 4, 8, 16, 32, 64, 96),
        members=(4, 8, 16),
        cycles=(2, 4),
    ),
}


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "trial", "small"] = "small"
    """tiny: digits, to try the program; trial: 2000 MNIST images, one seed, few epochs; small: those and 5000 CIFAR-10 images."""
    seeds: tuple[int, ...] | None = None
    """Default: the scale's."""
    plans: Path | None = None
    """Write what `decouple q0 plan` reads to this file."""


@dataclass(frozen=True)
class Setting:
    """Data, and the size that says what is done with them."""

    source: str
    data: ImageData
    size: Q0Size
    device: torch.device

    def network(self, seed: int) -> Stages:
        train = self.data.train.images
        return paper_network(train, self.data.num_classes, self.size.network, groups=1, seed=seed).to(self.device)


def base(size: Q0Size) -> Q0Config:
    """What all recipes share: nothing of q0's primitives but the sawtooth's anti-phase."""
    return Q0Config(lr=size.lr, batch=size.batch, alpha=0.0, perturb_last=1.0)


def recipes(size: Q0Size) -> list[Recipe]:
    """Those of all methods: every baseline is tried with every weight decay."""
    one = replace(base(size), cycles=1, lr_floor=0.0, wd_floor=1.0, shape="linear")
    found = []
    for decay in size.decays:
        decayed = replace(one, weight_decay=decay)
        found += [Recipe("single", 1, replace(decayed, epochs=epochs)) for epochs in size.singles]
        found += [
            Recipe("ensemble", size.budget // epochs, replace(decayed, epochs=epochs))
            for epochs in size.members
            if size.budget // epochs > 1
        ]
    for epochs, decay in itertools.product(size.cycles, size.decays):
        cosine = replace(one, weight_decay=decay, epochs=epochs, cycles=size.budget // epochs, shape="cosine")
        found.append(Recipe("snapshot", 1, cosine))
    main = main_recipe(size)
    found += [main]
    found += [recipe_of(size, main.q0, cycle=epochs) for epochs in size.cycles if epochs != main.q0.epochs]
    found += [recipe_of(size, main.q0, trajectories=2), recipe_of(size, replace(main.q0, shape="cosine"))]
    return found


def recipe_of(size: Q0Size, q0: Q0Config, *, cycle: int | None = None, trajectories: int = 1, budget: int = 0) -> Recipe:
    """q0 with cycles that fill the budget."""
    epochs = cycle or q0.epochs
    cycles = max(1, (budget or size.budget) // (epochs * trajectories))
    return Recipe("q0", trajectories, replace(q0, epochs=epochs, cycles=cycles))


def main_recipe(size: Q0Size) -> Recipe:
    """One trajectory, perturbed, without distillation: what did best in trials."""
    q0 = replace(base(size), weight_decay=max(size.decays), perturb=0.5)
    return recipe_of(size, q0, cycle=max(size.cycles))


def ablations(size: Q0Size) -> dict[str, Recipe]:
    """The main recipe for half of the budget, with one thing changed."""
    main = main_recipe(size).q0
    changes: dict[str, dict[str, Any]] = {
        "main": {},
        "no perturbation": {"perturb": 0.0},
        "perturbation 0.25": {"perturb": 0.25},
        "distillation, alpha 0.45": {"alpha": 0.45, "distill_after": 2},
        "distillation, alpha 0.2": {"alpha": 0.2, "distill_after": 2},
        "distillation, alpha 0.45, T 2": {"alpha": 0.45, "temperature": 2.0, "distill_after": 2},
        "flat weight decay": {"wd_floor": 1.0},
        "cosine": {"shape": "cosine"},
    }
    return {name: recipe_of(size, replace(main, **change), budget=size.budget // 2) for name, change in changes.items()}


def measure(setting: Setting, recipe: Recipe, seed: int, starts: Sequence[Stages] = ()) -> dict[str, Any]:
    """Train a recipe; the points of its curve.

    Args:
        starts: what the trajectories begin with; default: new networks.
    """
    data, answers = setting.data, []
    by_trajectory: list[list[dict[str, Tensor]]] = []
    for trajectory in range(recipe.trajectories):
        own = derive(seed, NAME, trajectory)
        network = starts[trajectory] if starts else setting.network(derive(own, "network"))
        chain, before = Chain(network, recipe.q0, own, setting.size.precision), None
        by_trajectory.append([])
        tested = setting.network(0)
        for cycle in range(recipe.q0.cycles):
            before, _ = chain.cycle(cycle, before, data.train, setting.device)
            tested.load_state_dict(weights_in(before))
            by_trajectory[-1].append(
                {name: logits(tested, getattr(data, name)).double().softmax(1) for name in ("validation", "prior", "test")}
            )
    # In the order in which a budget is spent: cycle by cycle, or network by network.
    answers = [own[cycle] for cycle in range(recipe.q0.cycles) for own in by_trajectory]
    members = [
        {"epochs": recipe.q0.epochs * (i + 1), "test_nll": float(nll(_truth(found["test"], data.test.labels)))}
        for i, found in enumerate(answers)
    ]
    points = [
        {"epochs": recipe.q0.epochs * count, "members": count, **_point(data, answers[:count], by)}
        for count, by in recipe.stages()
    ]
    return {"points": points, "members": members}


def _truth(probabilities: Tensor, labels: Tensor) -> Tensor:
    return probabilities[..., torch.arange(len(labels)), labels]


def _point(data: ImageData, answers: Sequence[dict[str, Tensor]], by: int) -> dict[str, Any]:
    """What these members answer together, weighted in every way."""
    count = len(answers)
    stacked = {name: torch.stack([found[name] for found in answers]) for name in ("validation", "prior", "test")}
    prior = _truth(stacked["prior"], data.prior.labels)
    strength = cross_validated_strength(prior, repeats=1).strength if count > 1 else 0.0
    later = torch.zeros(count, dtype=torch.float64)
    later[count // by // 2 * by :] = 1
    greedy = torch.zeros(count, dtype=torch.float64)
    picked, share = greedy_members(prior, count)
    greedy[picked] = share
    weights = {
        "uniform": torch.full((count,), 1 / count, dtype=torch.float64),
        "later_half": later / later.sum(),
        "learned": fit_prior(prior, strength=strength).weights,
        "greedy": greedy,
    }
    found: dict[str, Any] = {"strength": None if math.isinf(strength) else strength}
    for name, weighting in weights.items():
        test = mixture(stacked["test"], weighting)
        found[name] = {
            "validation_nll": float(nll(weighting @ _truth(stacked["validation"], data.validation.labels))),
            "test_nll": float(nll(_truth(test, data.test.labels))),
            "test_accuracy": float((test.argmax(1) == data.test.labels).double().mean()),
        }
    votes = stacked["test"].argmax(2)
    pairs = [(votes[a] != votes[b]).double().mean() for a, b in itertools.combinations(range(count), 2)]
    found["disagreement"] = float(torch.stack(pairs).mean()) if pairs else 0.0
    return found


def measure_searched(setting: Setting, seed: int) -> dict[str, Any]:
    """The main recipe from searched and from new networks, each with the same total epochs."""
    size, data = setting.size, setting.data
    judge = setting.network(derive(seed, NAME, "judge"))
    settings = SearchConfig(batch=min(128, len(data.train)), es=EsConfig(population=32))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        targets = search_solution(judge, data.train, folder, config=settings, seed=seed, dtype=torch.bfloat16)
        searching = time.monotonic() - began
        learned = setting.network(derive(seed, NAME, "learned"))
        config = LearnConfig(epochs=size.learned, batch=size.batch)
        learn_targets(learned, data.train, targets, validation=data.validation, config=config, seed=seed)
        evaluations = targets.evaluations
    q0 = main_recipe(size).q0
    half = size.budget // 2
    searched = measure(setting, recipe_of(size, q0, budget=half - size.learned), seed, [learned])
    for point in searched["points"]:
        point["epochs"] += size.learned
    random = measure(setting, recipe_of(size, q0, budget=half), seed)
    return {"searched": searched, "random": random, "search_seconds": searching, "evaluations": evaluations}


def measure_more_data(arguments: Arguments, setting: Setting, times: int, seed: int) -> dict[str, Any] | None:
    """A single network on so many times more images, for as many steps as the best single network took, about."""
    size, few = setting.size, len(setting.data.train)
    data = _load(setting.source, arguments.data_root, size, None)
    if times * few > len(data.train):
        return None
    more = replace(data, train=data.train.subset(range(times * few)))
    epochs = max(1, max(size.singles) // 4 // times) * 2
    q0 = replace(base(size), cycles=1, lr_floor=0.0, wd_floor=1.0, epochs=epochs, weight_decay=min(size.decays))
    found = measure(replace(setting, data=more), Recipe("single", 1, q0), seed)
    return {"images": times * few, "epochs": epochs, **found["points"][-1]["uniform"]}


@functools.lru_cache(maxsize=4)
def _load(source: str, data_root: Path | None, size: Q0Size, train: int | None) -> ImageData:
    config = DataConfig(name=source, train=train, validation=size.validation, prior=size.prior, test=size.test)
    return load_data(config, data_root=data_root)


def curves(size: Q0Size, found: dict[str, list[dict[str, Any]]], known: dict[str, Recipe]) -> dict[str, Any]:
    """By method and weighting: for each number of epochs, the recipe that validation chooses, and its test figures."""
    budgets = sorted({point["epochs"] for seeds in found.values() for point in seeds[0]["points"]})
    result: dict[str, Any] = {}
    for method in METHODS:
        for weighting in WEIGHTINGS if method in ("q0", "snapshot") else WEIGHTINGS[:1]:
            line = []
            for budget in budgets:
                options = []
                for name, seeds in found.items():
                    if known[name].method != method:
                        continue
                    for i, point in enumerate(seeds[0]["points"]):
                        if point["epochs"] <= budget:
                            of_seeds = [seed["points"][i][weighting] for seed in seeds]
                            chosen_by = statistics.mean(entry["validation_nll"] for entry in of_seeds)
                            options.append((chosen_by, point["epochs"], name, of_seeds, point["members"]))
                if options:
                    _, epochs, name, of_seeds, members = min(options, key=lambda option: option[:2])
                    line.append(
                        {
                            "budget": budget,
                            "epochs": epochs,
                            "recipe": name,
                            "text": known[name].text,
                            "members": members,
                            **{f: spread([e[f] for e in of_seeds]) for f in ("test_nll", "test_accuracy", "validation_nll")},
                        }
                    )
            result[f"{method}-{weighting}"] = line
    return result


def ratios(of_baseline: Sequence[dict[str, Any]], of_ours: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Epochs the baseline needs over ours, at each NLL that the baseline reaches, and where it ends."""
    rows = []
    for entry in of_baseline:
        level = entry["test_nll"]["mean"]
        first = next((e for e in of_baseline if e["test_nll"]["mean"] <= level), entry)
        ours = next((e for e in of_ours if e["test_nll"]["mean"] <= level), None)
        rows.append(
            {
                "nll": level,
                "baseline_epochs": first["epochs"],
                "epochs": ours and ours["epochs"],
                "ratio": ours and first["epochs"] / ours["epochs"],
            }
        )
    best = min(rows, key=lambda row: row["nll"])
    return {
        "at_the_baselines_best": best,
        "all": rows,
        "ours_best": min(e["test_nll"]["mean"] for e in of_ours),
        "baseline_never_reaches_ours_best_within": of_baseline[-1]["budget"],
    }


def run(arguments: Arguments, size: Q0Size) -> list[dict[str, Any]]:
    """An entry for each data set."""
    parts, entries = Parts(arguments.out, NAME, size), []
    place = devices.resolve(arguments.device)
    for source in arguments.data or size.data:
        data = _load(source, arguments.data_root, size, dict(size.train)[key(source)])
        setting = Setting(source, data, size, place)
        known = {recipe.name: recipe for recipe in recipes(size)}
        extra = ablations(size)
        makers: dict[str, Callable[[int], Any]] = {
            **{name: functools.partial(measure, setting, recipe) for name, recipe in known.items()},
            **{f"ablation-{r.name}": functools.partial(measure, setting, r) for r in extra.values()},
            "searched": functools.partial(measure_searched, setting),
            **{f"data-{times}": functools.partial(measure_more_data, arguments, setting, times) for times in size.more_data},
        }
        made: dict[str, list[Any]] = {name: [] for name in makers}
        with Progress().task(f"{NAME}, {key(source)}", len(makers) * len(size.seeds), "parts") as advance:
            for seed in size.seeds:  # whole seeds first: a run that is stopped has some
                for name, make in makers.items():
                    made[name].append(parts.get(f"{key(source)}-{name}-seed{seed}", functools.partial(make, seed)))
                    advance(1)
        entries.append(summary(source, arguments, size, made, known, extra))
    return entries


def summary(
    source: str,
    arguments: Arguments,
    size: Q0Size,
    made: dict[str, list[Any]],
    known: dict[str, Recipe],
    extra: dict[str, Recipe],
) -> dict[str, Any]:
    """A data set's figures, over the seeds."""
    lines = curves(size, {name: made[name] for name in known}, known)

    def last(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
        ends = [seed["points"][-1] for seed in seeds]
        weighted = {w: spread([end[w]["test_nll"] for end in ends]) for w in WEIGHTINGS}
        return {"test_nll": weighted, "disagreement": spread([end["disagreement"] for end in ends])}

    def end_nll(found: dict[str, Any]) -> float:
        return found["points"][-1]["later_half"]["test_nll"]

    searched = made["searched"]
    return {
        "data": label(source, arguments.data_root),
        "train": dict(size.train)[key(source)],
        "curves": lines,
        "ratio": {w: ratios(lines["ensemble-uniform"], lines[f"q0-{w}"]) for w in WEIGHTINGS},
        "ablations": {
            name: {"recipe": recipe.text, **last(made[f"ablation-{recipe.name}"])} for name, recipe in extra.items()
        },
        "searched": {
            **{which: last([seed[which] for seed in searched]) for which in ("searched", "random")},
            "difference": spread([end_nll(seed["searched"]) - end_nll(seed["random"]) for seed in searched]),
            "search_seconds": spread([seed["search_seconds"] for seed in searched]),
            "evaluations": searched[0]["evaluations"],
            "curves": searched,
        },
        "more_data": [
            {
                "images": made[f"data-{times}"][0]["images"],
                "epochs": made[f"data-{times}"][0]["epochs"],
                **{f: spread([s[f] for s in made[f"data-{times}"]]) for f in ("test_nll", "test_accuracy")},
            }
            for times in size.more_data
            if made[f"data-{times}"][0] is not None
        ],
        "recipes": {
            name: {"method": recipe.method, "text": recipe.text, "seeds": made[name]} for name, recipe in known.items()
        },
    }


LOOKS = {
    "single-uniform": ("one network, longer", style.GREY, (0, (1, 1)), "v"),
    "ensemble-uniform": ("independent networks", style.VERMILLION, (0, (4, 1.6)), "s"),
    "snapshot-uniform": ("snapshot ensemble", style.GREEN, (0, (3, 1, 1, 1)), "^"),
    "q0-uniform": ("q0, uniform", "#56B4E9", "-", "."),
    "q0-learned": ("q0, learned prior", style.BLUE, "-", "o"),
}


@style.styled
def draw(entries: list[dict[str, Any]]) -> Figure:
    """Test NLL against total epochs, a panel for each data set."""
    figure = style.new_figure(3.2)
    for axes, entry in zip(figure.subplots(1, len(entries), squeeze=False)[0], entries, strict=True):
        for name, (text, color, line, marker) in LOOKS.items():
            points = entry["curves"][name]
            means, stds = ([point["test_nll"][f] for point in points] for f in ("mean", "std"))
            look: dict[str, Any] = {"color": color, "ls": line, "marker": marker, "ms": 3, "elinewidth": 0.7, "label": text}
            axes.errorbar([point["budget"] for point in points], means, stds, **look)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title(f"{entry['data']}, {entry['train']} images")
        axes.set_xlabel("total epochs")
    figure.axes[0].set_ylabel("test NLL (nats)")
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper left", ncols=len(LOOKS), columnspacing=1.0, fontsize=7.5)
    return figure


def plans_of(entries: list[dict[str, Any]], size: Q0Size, made: dict[str, Any]) -> dict[str, Any]:
    """What `decouple q0 plan` reads: every measured point of every recipe that makes a population or a single network."""
    rows = []
    for entry in entries:
        for recipe in entry["recipes"].values():
            for i, point in enumerate(recipe["seeds"][0]["points"]):
                options = {w: [s["points"][i][w] for s in recipe["seeds"]] for w in WEIGHTINGS}
                weighting = min(options, key=lambda w: statistics.mean(s["validation_nll"] for s in options[w]))
                chosen = options[weighting]
                rows.append(
                    {
                        "data": entry["data"],
                        "images": entry["train"],
                        "method": recipe["method"],
                        "epochs": point["epochs"],
                        "members": point["members"],
                        "weights": weighting,
                        "recipe": recipe["text"],
                        "validation_nll": statistics.mean(s["validation_nll"] for s in chosen),
                        "test_nll": spread([s["test_nll"] for s in chosen]),
                    }
                )
    return {"benchmark": NAME, "made": made, "settings": to_builtins(size), "rows": rows}


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    size = replace(size, seeds=arguments.seeds or size.seeds)
    entries = run(arguments, size)
    name = NAME if arguments.scale == "small" else f"{NAME}-{arguments.scale}"
    save_pictures(draw(entries), name, arguments.figures)
    settings = {**to_builtins(size), "scale": arguments.scale, "data": named(arguments.data or size.data)}
    figures = {"seconds_of_last_sitting": time.monotonic() - began, "data": entries}
    path = write_receipt(name, figures, settings=settings, device=arguments.device, folder=arguments.figures)
    if arguments.plans is not None:
        from decouple.files import read_json

        plans = plans_of(entries, size, read_json(path)["made"])
        Plans.check(plans)
        write_json(arguments.plans, plans)
    for entry in entries:
        print(f"{entry['data']}, {entry['train']} images")
        for line, points in entry["curves"].items():
            print(f"  {line:<18} " + "  ".join(f"{p['budget']}: {p['test_nll']['mean']:.4f}" for p in points))
        best = entry["ratio"]["learned"]["at_the_baselines_best"]
        print(f"  q0, learned prior, at the ensemble's best ({best['nll']:.4f}): ratio of epochs {best['ratio']}")
        for name, ablation in entry["ablations"].items():
            print(f"  {name:<30} " + "  ".join(f"{w} {v['mean']:.4f}" for w, v in ablation["test_nll"].items()))
        difference = entry["searched"]["difference"]
        print(f"  searched minus random: {difference['mean']:+.4f} ± {difference['std']:.4f} nats")
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
