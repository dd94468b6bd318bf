"""q0 on images against its baselines, where training images are few: test NLL by total epochs.

    python -m benchmarks.q0_images --data-root DATA                              # 2000 images of MNIST; two CPU cores
    python -m benchmarks.q0_images --data-root DATA --data mnist folder:cifar10  # and 5000 of CIFAR-10, as a folder of images

Methods: `benchmarks.recipes`; their tuning: `benchmarks.populations`; the headline: `benchmarks.headline`.
The networks are the paper's with 16 channels. Writes figures/q0_images-DATA.json, .md, .png and .svg for each data set; --plans
PATH also writes what `decouple q0 plan` reads, from all of these that the folder has.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from benchmarks.command import launch
from benchmarks.common import Common, Parts, key, label, leave, named
from benchmarks.headline import WAYS, Point, as_markdown, draw
from benchmarks.populations import compare, points_of, weighted
from benchmarks.receipt import scaled, spread
from benchmarks.recipes import TINY, PopulationSize, Recipe
from decouple import device as devices
from decouple.analysis import fit_temperature, p_truth, tempered
from decouple.config import DataConfig, NetworkConfig, Q0Config
from decouple.data import ImageData, load_data
from decouple.errors import ConfigError
from decouple.files import read_json, write_json
from decouple.networks import Stages, paper_network
from decouple.q0 import cross_validated_strength, fit_prior, mixture, nll
from decouple.q0.plan import Plans
from decouple.q0.trajectories import PREFIX, Chain, State, weights_in
from decouple.seeds import derive
from decouple.settings import fingerprint, to_builtins
from decouple.tasks import ImageTask
from decouple.tasks.base import HELD_OUT
from decouple.training.evaluate import logits
from decouple.training.processes import Group

NAME, UNIT = "q0_images", "NLL (nats)"


@dataclass(frozen=True, kw_only=True)
class ImageSize(PopulationSize):
    base: Q0Config
    train: int
    validation: int = 1000
    prior: int = 500
    test: int | None = 5000
    network: NetworkConfig = NetworkConfig(width=16)  # noqa: RUF009 (frozen)


CHANGES: dict[str, dict[str, Any]] = {
    "q0 with distillation": {"alpha": 0.45},
    "q0 with distillation, T = 2": {"alpha": 0.45, "temperature": 2.0},
    "q0 without distillation": {"alpha": 0.0},
    "q0 without noise": {"perturb": 0.0},
    "q0 with the public code's noise": {"perturb": 0.25},
    "q0 with constant noise": {"perturb_last": 1.0},
    "q0 with flat weight decay": {"wd_floor": 1.0},
    "q0 with a cosine": {"shape": "cosine"},
    "q0 falling to the public code's floor": {"lr_floor": 0.08},
    "q0 with cycles of 2 epochs": {"epochs": 2},
    "q0 with cycles of 4 epochs": {"epochs": 4},
    "q0 with cycles of 8 epochs": {"epochs": 8},
    "q0 with cycles of 16 epochs": {"epochs": 16},
    "q0 with a first cycle of 4 epochs": {"first_epochs": 4},
    "q0 with a first cycle of 16 epochs": {"first_epochs": 16},
}

BASE = Q0Config(init="random", first_epochs=8, epochs=4, weight_decay=0.06, alpha=0.0, perturb=1.0, lr_floor=0.0)
"""What did well in trials. Networks want a long first cycle, noise and rates that fall to 0."""

SCALES: dict[str, dict[str, ImageSize]] = {
    "tiny": {
        "digits": ImageSize(
            base=replace(BASE, first_epochs=2, epochs=1, batch=32),
            grid={"weight_decay": (0.02, 0.06)},
            train=200,
            validation=150,
            prior=100,
            test=None,
            network=NetworkConfig(width=8),
            **TINY,
        )
    },
    "small": {
        "mnist": ImageSize(
            base=BASE,
            budget=96,
            ensembles=192,
            singles=(1, 2, 4, 8, 16, 32),
            models=(8, 16),
            cycles=(4,),
            ablations=48,
            pilot=48,
            grid={"lr": (0.3, 0.6, 1.2, 2.4), "weight_decay": (0.015, 0.03, 0.06, 0.12)},
            q0_grid={"perturb": (0.5, 1.0), "alpha": (0.0, 0.45)},
            train=2000,
            validation=3000,
        ),
        "cifar10": ImageSize(
            base=replace(BASE, epochs=8),
            budget=96,
            ensembles=192,
            singles=(1, 2, 4, 8, 16, 32),
            models=(16, 32),
            cycles=(8,),
            ablations=24,
            pilot=24,
            grid={"lr": (0.15, 0.3, 0.6, 1.2), "weight_decay": (0.03, 0.06, 0.12, 0.24)},
            q0_grid={"perturb": (0.5, 1.0), "alpha": (0.0, 0.45)},
            train=5000,
            validation=3000,
        ),
    },
}


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: 2000 images of MNIST or 5000 of CIFAR-10."""
    plans: Path | None = None
    """Write what `decouple q0 plan` reads to this file."""


class Bench:
    """Measures recipes on a data set, each once."""

    def __init__(self, source: str, size: ImageSize, data_root: Path | None, device: str, parts: Parts) -> None:
        wanted = DataConfig(name=source, train=size.train, validation=size.validation, prior=size.prior, test=size.test)
        self.size, self.data = size, load_data(wanted, data_root=data_root)
        self._device, self._parts, self._key = devices.resolve(device), parts, key(source)

    def network(self, seed: int) -> Stages:
        """A new one."""
        train = self.data.train.images
        network = paper_network(train, self.data.num_classes, self.size.network, groups=1, seed=seed)
        return network.to(self._device)

    def new(self, seed: int, trajectory: int) -> Stages:
        """What a trajectory begins with."""
        return self.network(derive(derive(seed, NAME, trajectory), "network"))

    def measure(self, recipe: Recipe, seed: int) -> list[Point]:
        """NLL of every population that a recipe passes through; kept by what the recipe says, whatever its name."""
        name = f"{self._key}-{recipe.method}-{fingerprint(to_builtins(recipe.q0), seed)}".replace(" ", "-")
        return self._parts.get(name, partial(self.train, recipe, seed))

    def train(self, recipe: Recipe, seed: int, starts: Sequence[Stages] = ()) -> list[Point]:
        """The same from `starts`, if there are: each takes the place of what a trajectory's first cycle leaves."""
        q0, said = recipe.q0, {}
        assert isinstance(q0, Q0Config)
        tested = self.network(0)
        for trajectory in range(q0.trajectories or 1):
            own = derive(seed, NAME, trajectory)
            chain = Chain(self.new(seed, trajectory), ImageTask(self.data, q0.augment), q0, own, self.size.precision)
            before: State | None = None
            for cycle in range(q0.cycles):
                if cycle == 0 and starts:
                    before = {f"{PREFIX}{name}": value for name, value in starts[trajectory].state_dict().items()}, None
                else:
                    before, _ = chain.cycle(cycle, before, Group(self._device))
                tested.load_state_dict(weights_in(before))
                said[trajectory, cycle] = {
                    name: logits(tested, getattr(self.data, name)).double().softmax(1) for name in HELD_OUT
                }
        return points_of(recipe, said, partial(population, self.data))


def population(data: ImageData, members: Sequence[dict[str, Tensor]]) -> Point:
    """The figures of some members together."""
    said = {name: torch.stack([member[name] for member in members]) for name in HELD_OUT}
    truths = {name: p_truth(p, getattr(data, name).labels) for name, p in said.items()}
    prior = learned_prior(truths["prior"])
    found = weighted(truths, prior)
    mixed = {name: mixture(p, prior) for name, p in said.items()}
    uniform = mixture(said["test"], torch.full_like(prior, 1 / len(prior)))
    for way, answers in (("uniform", uniform), ("learned", mixed["test"])):
        found[f"accuracy_{way}"] = float((answers.argmax(1) == data.test.labels).double().mean())
    temperature = fit_temperature(mixed["prior"], data.prior.labels)
    for name in ("validation", "test"):
        found[f"{name}_calibrated"] = float(nll(p_truth(tempered(mixed[name], temperature), getattr(data, name).labels)))
    found |= {"accuracy_calibrated": found["accuracy_learned"], "temperature": temperature}
    votes = said["test"].argmax(2)
    pairs = [(votes[a] != votes[b]).double().mean() for a, b in itertools.combinations(range(len(votes)), 2)]
    return {**found, "disagreement": float(torch.stack(pairs).mean()) if pairs else 0.0}


def learned_prior(p: Tensor) -> Tensor:
    """The weights that `decouple q0` fits: the optimum, pulled toward equal ones as cross-validation asks for."""
    strength = cross_validated_strength(p, repeats=1).strength if len(p) > 1 else 0.0
    return fit_prior(p, strength=strength).weights


def sizes_of(scale: str, data: Sequence[str] | None) -> list[tuple[str, ImageSize]]:
    """Each data set with its size; the scale's first one if none is given.

    Raises:
        ConfigError: the scale has none for a data set; names it.
    """
    sizes = SCALES[scale]
    sources = data or tuple(sizes)[:1]
    if unknown := [key(source) for source in sources if key(source) not in sizes]:
        raise ConfigError(f"--scale {scale} has no sizes for {unknown[0]}: expected {', '.join(sizes)}")
    return [(source, sizes[key(source)]) for source in sources]


def run(arguments: Arguments, source: str, size: ImageSize) -> dict[str, dict[str, Any]]:
    """The entry of a data set, by what it is called."""
    bench = Bench(source, size, arguments.data_root, arguments.device, Parts(arguments.out, NAME, size))
    found = compare(size, bench.measure, CHANGES, f"{NAME}, {key(source)}")
    return {label(source, arguments.data_root): {"train": size.train, "settings": to_builtins(size), **found}}


def receipts(folder: Path, scale: str) -> list[dict[str, Any]]:
    """Those of the scale's data sets that the folder has."""
    paths = [folder / f"{scaled(f'{NAME}-{data}', scale)}.json" for data in SCALES[scale]]
    return [read_json(path) for path in paths if path.exists()]


def plans_of(receipts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `decouple q0 plan` reads: every population that a tuned recipe passes through."""
    rows = []
    entries = {data: entry for receipt in receipts for data, entry in receipt["figures"]["data"].items()}
    made = {data: receipt["made"] for receipt in receipts for data in receipt["figures"]["data"]}
    for data, entry in entries.items():
        for name, recipe in entry["recipes"].items():
            if recipe["method"].startswith("q0 "):
                continue  # with something changed, to see what it is worth
            for of_seeds in zip(*entry["all"][name], strict=True):
                validations = {
                    way: spread([p[f"validation_{way}"] for p in of_seeds])["mean"]
                    for way in WAYS
                    if f"validation_{way}" in of_seeds[0]
                }
                way = min(validations, key=validations.__getitem__)
                rows.append(
                    {
                        "data": data,
                        "images": entry["train"],
                        "method": recipe["method"],
                        "epochs": of_seeds[0]["epochs"],
                        "members": of_seeds[0]["members"],
                        "weights": way,
                        "recipe": text_of(recipe, of_seeds[0]),
                        "settings": settings_of(recipe, of_seeds[0]),
                        "validation_nll": validations[way],
                        "test_nll": spread([point[f"test_{way}"] for point in of_seeds]),
                    }
                )
    first = next(iter(entries.values()))["settings"]
    settings = {"network": first["network"], "batch": first["base"]["batch"]}
    return {"benchmark": NAME, "made": made, "settings": settings, "rows": rows}


CHOSEN = ("first_epochs", "epochs", "lr", "weight_decay", "shape", "lr_floor", "wd_floor", "alpha", "perturb")
"""Settings of q0 in which recipes differ, or presets from them."""


def settings_of(recipe: dict[str, Any], point: Point) -> dict[str, Any]:
    """What `decouple q0` is given for a recipe, as far as a point of it has gone."""
    trajectories = int(point["trajectories"])
    size = {"init": "random", "trajectories": trajectories, "cycles": int(point["members"]) // trajectories}
    return size | {name: recipe[name] for name in CHOSEN}


def text_of(recipe: dict[str, Any], point: Point) -> str:
    """A recipe in words, as far as a point of it has gone."""
    rates = f"lr {recipe['lr']:g}, weight decay {recipe['weight_decay']:g}"
    cycles = int(point["members"] / point["trajectories"])
    if recipe["cycles"] == 1:
        return f"{int(point['trajectories'])} × {recipe['first_epochs']} epoch{'s' * (recipe['first_epochs'] > 1)}, {rates}"
    extras = {
        f"noise {recipe['perturb']:g}": recipe["perturb"] > 0,
        f"distillation {recipe['alpha']:g}": recipe["alpha"] > 0,
        "cosine": recipe["shape"] == "cosine",
        f"the first {cycles} of {recipe['cycles']} cycles": cycles < recipe["cycles"],
    }
    shape = (
        f"{int(point['trajectories'])} × {cycles} cycles of {recipe['epochs']} epochs (the first: {recipe['first_epochs']})"
    )
    return ", ".join([shape, rates, *(name for name, there in extras.items() if there)])


def main(arguments: Arguments) -> None:
    devices.prepare()
    for source, size in sizes_of(arguments.scale, arguments.data):
        began = time.monotonic()
        entries = run(arguments, source, size)
        settings = {"scale": arguments.scale, "data": named([source])}
        figures = {"seconds_of_last_sitting": time.monotonic() - began, "data": entries}
        picture = draw({f"{data}, {entry['train']} images: ": entry for data, entry in entries.items()}, UNIT)
        leave(f"{NAME}-{key(source)}", arguments, figures, settings=settings, table=tables(entries), picture=picture)
    if arguments.plans is not None:
        plans = plans_of(receipts(arguments.figures, arguments.scale))
        msgspec.convert(plans, Plans)
        write_json(arguments.plans, plans)


def tables(entries: dict[str, dict[str, Any]]) -> str:
    """`as_markdown` of each data set."""
    parts = [f"**{data}**, {entry['train']} images\n\n{as_markdown(entry, UNIT)}" for data, entry in entries.items()]
    return "\n".join(parts)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
