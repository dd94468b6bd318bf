"""Whether the solutions of one search differ, and what networks and ensembles make of it.

    python -m benchmarks.solutions --data-root DATA                                     # digits and MNIST, a quarter of an hour
    python -m benchmarks.solutions --data-root DATA --data digits mnist folder:cifar10  # CIFAR-10 as a folder of images

For each data set and seed, four solutions are searched with one space for all of them, and with a part of the elements for each
(the default): time, share of images solved, and the effective number of different targets and displacements at the last block. A
network of its own start learns each solution, by the default with live search or from the stored targets alone; four networks that
SGD trains stand beside them. Members, their disagreement, and their ensemble with equal weights are measured on test images. With
--search-only nothing is learned.

Writes figures/solutions.json and .md.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.command import launch
from benchmarks.common import STORED, Common, Parts, key, label, leave
from benchmarks.receipt import markdown, spread, written
from decouple import device as devices
from decouple.analysis import disagreement, fit_temperature, solution_diversity, tempered
from decouple.config import DataConfig, EsConfig, LearnConfig, NetworkConfig, SearchConfig, SgdConfig
from decouple.data import ImageData, load_data
from decouple.learn import learn_targets, train_sgd
from decouple.networks import Stages, paper_network
from decouple.search import TargetStore, search_solutions
from decouple.settings import to_builtins
from decouple.training.evaluate import logits

NAME = "solutions"
PRECISION = "bfloat16"


@dataclass(frozen=True)
class Training:
    """What suits a data set, by SGD's validation."""

    images: int
    validation: int
    epochs: int
    lr: float
    weight_decay: float

    @property
    def options(self) -> dict[str, Any]:
        """Of the settings of learning and of SGD alike."""
        return {"epochs": self.epochs, "batch": 125, "lr": self.lr, "weight_decay": self.weight_decay}


@dataclass(frozen=True)
class Size:
    data: tuple[str, ...] = ("digits", "mnist")
    width: int = 32
    solutions: int = 4
    seeds: tuple[int, ...] = (0, 1, 2)
    es: EsConfig = EsConfig(population=32)  # noqa: RUF009 (frozen)
    training: tuple[tuple[str, Training], ...] = (
        ("digits", Training(800, 150, 40, 0.2, 0.02)),
        ("mnist", Training(1000, 1000, 50, 0.2, 0.05)),
        ("cifar10", Training(2000, 2500, 50, 0.1, 0.05)),
    )


SCALES = {
    "small": Size(),
    "tiny": Size(
        data=("digits",),
        width=4,
        solutions=2,
        seeds=(0,),
        es=EsConfig(population=4, generations=2),
        training=(("digits", Training(40, 40, 1, 0.1, 0.02)),),
    ),
}
MODES: dict[str, dict[str, Any]] = {"live": {}, "stored": STORED}
"""Of learning: by default, and from stored targets alone."""
SPACES = {"one space": 1, "a part each": None}
"""What the solutions of a search share: the number of `EsConfig.subspaces`, None for as many as there are solutions."""


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: to try the program; small: 32 channels."""
    search_only: bool = False
    """Only search: a minute for each data set."""
    name: str = ""
    """Added to the names of the files."""


@dataclass(frozen=True)
class Seed:
    """Images and networks of a seed."""

    size: Size
    training: Training
    data: ImageData
    seed: int
    device: torch.device

    @classmethod
    def of(cls, arguments: Common, size: Size, source: str, seed: int) -> Seed:
        training = dict(size.training)[key(source)]
        config = DataConfig(name=source, train=training.images, validation=training.validation, prior=20, seed=seed)
        data = load_data(config, data_root=arguments.data_root)
        return cls(size, training, data, seed, devices.resolve(arguments.device))

    def network(self, seed: int) -> Stages:
        config = NetworkConfig(width=self.size.width)
        return paper_network(self.data.train.images, self.data.num_classes, config, groups=1, seed=seed).to(self.device)

    def searched(self, folder: str, subspaces: int | None) -> list[TargetStore]:
        config = SearchConfig(batch=125, es=replace(self.size.es, subspaces=subspaces or self.size.solutions))
        return search_solutions(
            self.network(self.seed),
            self.data.train,
            folder,
            solutions=range(self.size.solutions),
            config=config,
            seed=self.seed,
            dtype=torch.bfloat16,
        )

    def starts(self) -> list[Stages]:
        """A network for each solution; their starts are the same in every row."""
        return [self.network(1000 + self.seed * self.size.solutions + number) for number in range(self.size.solutions)]

    def answers(self, networks: Sequence[Stages]) -> dict[str, float]:
        """Of members and of their ensemble, on test; the ensemble's NLL also with a temperature that validation images fit."""
        validation, labels = self.data.validation, self.data.test.labels
        held, says = (
            torch.stack([logits(network, part).cpu().double().log_softmax(1) for network in networks])
            for part in (validation, self.data.test)
        )
        together = says.exp().mean(0).log()
        temperature = fit_temperature(held.exp().mean(0), validation.labels)
        pairs = [disagreement(a, b).double().mean() for a, b in itertools.combinations(says.argmax(2), 2)]
        return {
            "member": float((says.argmax(2) == labels).double().mean()),
            "ensemble": float((together.argmax(1) == labels).double().mean()),
            "member_nll": float(torch.stack([functional.nll_loss(each, labels) for each in says]).mean()),
            "nll": float(functional.nll_loss(together, labels)),
            "nll_calibrated": float(functional.nll_loss(tempered(together.exp(), temperature).log(), labels)),
            "disagreement": float(sum(pairs)) / max(1, len(pairs)),
        }


def measure_sgd(of_seed: Seed) -> dict[str, float]:
    networks, config = of_seed.starts(), SgdConfig(**of_seed.training.options)
    for number, network in enumerate(networks):
        options: dict[str, Any] = {"config": config, "seed": of_seed.seed + 100 * number, "precision": PRECISION}
        train_sgd(network, of_seed.data.train, validation=of_seed.data.validation, **options)
    return of_seed.answers(networks)


def measure_searched(of_seed: Seed, subspaces: int | None, *, search_only: bool = False) -> dict[str, Any]:
    """A search, and what is learned from it, by row."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        stores = of_seed.searched(folder, subspaces)
        found: dict[str, Any] = {"search_seconds": time.perf_counter() - began, **diversity(of_seed, stores)}
        for name, further in {} if search_only else MODES.items():
            networks, config = of_seed.starts(), LearnConfig(**of_seed.training.options, **further)
            for number, (network, store) in enumerate(zip(networks, stores, strict=True)):
                options: dict[str, Any] = {"config": config, "seed": of_seed.seed + 100 * number, "precision": PRECISION}
                learn_targets(network, of_seed.data.train, store, validation=of_seed.data.validation, **options)
            found[name] = of_seed.answers(networks)
    return found


@torch.no_grad()
def diversity(of_seed: Seed, stores: Sequence[TargetStore]) -> dict[str, float]:
    """At the last block: of the targets, of how they moved, and how well they are solved there."""
    images = of_seed.data.train.images
    network = of_seed.network(of_seed.seed).eval()
    own = torch.cat([network.activations(part.to(of_seed.device))[-2].float().cpu() for part in images.split(125)])
    targets: Tensor = torch.stack([store.rows(torch.arange(len(images)))[-2].float() for store in stores])
    diagnostics = [store.diagnostics() for store in stores]
    return {
        "targets": float(solution_diversity(targets).mean()),
        "displacements": float(solution_diversity(targets - own).mean()),
        "solved": float(torch.stack([each["solved"][-2].double().mean() for each in diagnostics]).mean()),
        "cross_entropy": float(torch.stack([each["after"][-2].double().mean() for each in diagnostics]).mean()),
    }


def summary(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of everything, over seeds."""
    first = seeds[0]
    return {
        name: summary([seed[name] for seed in seeds])
        if isinstance(first[name], Mapping)
        else spread([s[name] for s in seeds])
        for name in first
    }


def run(arguments: Arguments, size: Size) -> list[dict[str, Any]]:
    """An entry for each data set."""
    parts, entries = Parts(arguments.out, NAME, (size, arguments.search_only)), []
    names = tuple(SPACES) if arguments.search_only else ("SGD", *SPACES)
    for source in arguments.data or size.data:
        makers: dict[tuple[Any, ...], Any] = {}
        for seed in size.seeds:
            of_seed = Seed.of(arguments, size, source, seed)
            for name in names:
                searched = partial(measure_searched, of_seed, SPACES.get(name), search_only=arguments.search_only)
                makers[key(source), seed, name] = partial(measure_sgd, of_seed) if name == "SGD" else searched
        found = parts.all(f"{NAME}, {key(source)}", makers)
        rows = {name: summary([found[key(source), seed, name] for seed in size.seeds]) for name in names}
        entries.append(
            {"data": label(source, arguments.data_root), "images": dict(size.training)[key(source)].images, "rows": rows}
        )
    return entries


def as_markdown(entries: Sequence[dict[str, Any]]) -> str:
    searches, networks = [], []
    for entry in entries:
        data = f"{entry['data']}, {entry['images']}"
        for name, row in entry["rows"].items():
            if name in SPACES:
                digits = {"targets": 2, "displacements": 2, "solved": 1, "cross_entropy": 3, "search_seconds": 1}
                cells = [written(row[field], many, 100 if field == "solved" else 1) for field, many in digits.items()]
                searches.append([data, name, *cells])
            learned = {"SGD": row} if name == "SGD" else {f"{name}, {mode}": row[mode] for mode in MODES if mode in row}
            for of_networks, figures in learned.items():
                cells = [written(figures[field], factor=100) for field in ("member", "ensemble")]
                cells += [written(figures[field], 3) for field in ("nll", "nll_calibrated")]
                cells.append(written(figures["disagreement"], factor=100))
                networks.append([data, of_networks, *cells])
    found = ["N_eff, targets", "N_eff, displacements", "solved (%)", "cross-entropy (nats)", "seconds"]
    reached = ["member (%)", "ensemble (%)", "its NLL", "calibrated", "disagreement (%)"]
    tables = [markdown(["data", "solutions", *found], searches)]
    return "\n".join([*tables, markdown(["data", "networks", *reached], networks)] if networks else tables)


def main(arguments: Arguments) -> None:
    devices.prepare()
    size = SCALES[arguments.scale]
    entries = run(arguments, size)
    leave(NAME, arguments, {"entries": entries}, settings=to_builtins(size), table=as_markdown(entries))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
