"""The paper's Tables 1 and 2: test accuracy of networks learned from searched targets beside tuned SGD.

    python -m benchmarks.tables --data-root DATA                                   # MNIST, two CPU cores
    python -m benchmarks.tables --data-root DATA --data mnist folder:cifar10       # CIFAR-10 as a folder of images
    python -m benchmarks.tables --data-root DATA --scale paper --out PARTS         # all images, 256 channels; for a GPU

SGD and learning are tuned alike: as many trials each, by validation accuracy of the first seed, at every number of images up
to 10,000 (the best weight decay depends on it more than anything else does); what they choose serves all seeds. Views
(--augment) regularise: with them the trials have lower weight decays, and networks of one group alone, which won without
views. Every network keeps its best epoch on validation and is tested once. "Live" is the first search's targets, learned with a
search at every step, in as many steps as SGD. Rounds go on from the network that was learned from the first search, and are
tuned by themselves; SGD and the first search have rows with as many steps as they take, which are tuned by themselves too.
Writes figures/tables.json and .md. Give --out a folder: parts that are finished are kept there.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.ablations import check_rows
from benchmarks.command import launch
from benchmarks.common import Common, Parts, Size, key, label
from benchmarks.receipt import spread, write_receipt, write_table
from decouple import device as devices
from decouple.config import DataConfig, EsConfig, LearnConfig, LiveConfig, PaperConfig, RoundsConfig, RunConfig, SearchConfig
from decouple.data import ImageData, load_data
from decouple.errors import ConfigError
from decouple.learn import Fit, learn_targets, train_sgd
from decouple.networks import Stages, paper_network
from decouple.presets import preset
from decouple.progress import Progress
from decouple.search import TargetStore, search_solution
from decouple.seeds import derive
from decouple.settings import to_builtins
from decouple.training.evaluate import accuracy

NAME = "tables"

ROWS = (
    "SGD",
    "SGD, steps of the rounds",
    "searched, paper's algorithm",
    "searched, es",
    "searched, es, live",
    "searched, es, steps of the rounds",
    "searched, es, rounds",
)

PAPER = {"mnist": "99.1 / 99.0", "cifar10": "89.1 / 88.3", "cifar100": "62.3 / 61.6"}
"""The paper's accuracies without augmentation, all training images, 256 channels: SGD / search-based."""


@dataclass(frozen=True, kw_only=True)
class TableSize(Size):
    train: dict[str, tuple[int, ...]]
    """Numbers of training images by data set; the first is the one to tune at."""
    epochs: dict[int, int]
    """By number of training images; a round has as many again."""
    validation: dict[str, int]
    """Images by data set: differences on CIFAR-10 are small against what a thousand can tell."""
    precision: str = "bfloat16"
    """Of the training."""
    augment: str = "none"
    es: EsConfig = field(default_factory=lambda: EsConfig(population=32))
    rounds: RoundsConfig = field(default_factory=lambda: RoundsConfig(count=1))
    presets: bool = False
    """Whether networks, the paper's search and training are those of the preset that a data set has, rather than small ones."""
    paper: PaperConfig = field(
        default_factory=lambda: PaperConfig(
            population=48, parents=4, explorers=20, smoothing="noise", generations={"block0": 17, "blocks": 8, "logits": 7}
        )
    )
    """Its algorithm, where it is not the presets': with those generations it scores about as many candidates as es does."""
    paper_up_to: int = 3000
    """Training images up to which the paper's algorithm has a row."""
    tuned_up_to: int = 10_000
    """Training images up to which each number is tuned by itself; larger ones have what so many have chosen."""
    groups: tuple[int, ...] = (1, 2)
    """ConvGroups a block: trials of both."""
    weight_decay: tuple[float, ...] = (0.01, 0.02, 0.05)
    """Trials of both."""
    lr: tuple[float, ...] = (0.1, 0.2)
    """Trials of SGD."""
    learn: tuple[tuple[float, float], ...] = ((0.2, 0.1), (0.2, 0.3))
    """Trials of learning: lr and kl_weight."""
    live: tuple[tuple[float, float, float], ...] = ((0.1, 1.0, 0.5), (0.2, 1.0, 0.5))
    """Trials of learning with live search: lr, kl_weight and target_weight."""
    again_weight_decay: tuple[float, ...] = (0.002, 0.005, 0.02, 0.05)
    again_lr: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Trials of a round."""


SCALES = {
    "tiny": TableSize(
        data=("digits",),
        images=0,
        batch=30,
        seeds=(0,),
        train={"digits": (60, 90)},
        epochs={60: 2, 90: 2},
        validation={"digits": 100},
        groups=(1,),
        es=EsConfig(population=4, generations=2),
    ),
    "small": TableSize(
        data=("mnist",),
        images=0,
        batch=125,
        train={"mnist": (1000, 3000, 10_000), "cifar10": (2000, 10_000)},
        validation={"mnist": 1000, "cifar10": 2500},
        epochs={1000: 50, 2000: 50, 3000: 40, 10_000: 20, 46_000: 10, 58_000: 10},
    ),
    "paper": TableSize(
        data=("mnist", "cifar10", "cifar100"),
        images=0,
        batch=125,
        presets=True,
        train={"mnist": (58_000,), "cifar10": (48_000,), "cifar100": (48_000,)},
        validation={"mnist": 1900, "cifar10": 1900, "cifar100": 1900},
        epochs={48_000: 90, 58_000: 1000},
        paper_up_to=58_000,
        tuned_up_to=58_000,
        groups=(1, 2, 3),
        weight_decay=(0.0153,),
        lr=(2.0, 4.0),
        learn=((4.0, 0.03), (4.0, 0.3)),
        live=((2.0, 1.0, 0.5), (4.0, 1.0, 0.5)),
        again_weight_decay=(0.002, 0.0153),
        again_lr=(0.5, 1.0, 2.0),
    ),
}


AUGMENTED: dict[str, Any] = {
    "groups": (1,),
    "weight_decay": (0.005, 0.01, 0.02),
    "learn": ((0.1, 0.3), (0.2, 0.3)),
    "again_weight_decay": (0.002, 0.005),
}
"""What scale small tries where the training images are augmented."""


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small", "paper"] = "small"
    """tiny: digits, to try the program; small: 1000 to 10,000 images, 32 channels; paper: the paper's, for a GPU."""
    rows: tuple[str, ...] = ()
    """Names of the rows to measure; default: all."""
    train: tuple[int, ...] = ()
    """Numbers of training images; default: the scale's. small also has epochs for 46000 and 58000, which take hours."""
    seeds: tuple[int, ...] | None = None
    """Default: the scale's."""
    augment: Literal["none", "crop", "flip-crop"] = "none"
    """Views of the training images, for all rows alike (the paper's Table 2)."""
    groups: tuple[int, ...] = ()
    """ConvGroups a block to try, but in a round; default: the scale's."""


@dataclass(frozen=True)
class Trial:
    """What is tuned."""

    groups: int
    weight_decay: float
    lr: float
    kl_weight: float = 0.0
    """Of learning."""
    target_weight: float = 1.0
    """Of learning with live search."""


KINDS = {
    "sgd": ("SGD",),
    "sgd longer": ("SGD, steps of the rounds",),
    "searched": ("searched, paper's algorithm", "searched, es", "searched, es, rounds"),
    "live": ("searched, es, live",),
    "searched longer": ("searched, es, steps of the rounds",),
    "rounds": ("searched, es, rounds",),
}
"""What is tuned by itself, and the rows that want it."""


def trials(size: TableSize, kind: str, first: Trial | None = None) -> list[Trial]:
    """As many of every kind; those of rounds follow the `first` round's."""
    if kind == "rounds":
        assert first is not None
        options = product(size.again_weight_decay, size.again_lr)
        return [replace(first, weight_decay=decay, lr=lr) for decay, lr in options]
    common = product(size.groups, size.weight_decay)
    if kind == "live":
        return [Trial(groups, decay, *of_live) for groups, decay in common for of_live in size.live]
    if kind.startswith("searched"):
        return [Trial(groups, decay, lr, kl_weight) for groups, decay in common for lr, kl_weight in size.learn]
    return [Trial(groups, decay, lr) for groups, decay in common for lr in size.lr]


@dataclass(frozen=True)
class Setting:
    """A data set, its number of training images and a seed."""

    source: str
    train: int
    seed: int
    size: TableSize
    data_root: Path | None
    device: str

    def factor(self, what: str) -> int:
        """Of a row or a kind: how many times the epochs of one training it has in one go."""
        return 1 + self.size.rounds.count if what.endswith(("longer", "steps of the rounds")) else 1

    def data(self) -> ImageData:
        wanted = DataConfig(
            name=self.source, train=self.train, validation=self.size.validation[key(self.source)], prior=20, seed=self.seed
        )
        return load_data(wanted, data_root=self.data_root)

    @property
    def base(self) -> RunConfig:
        """What rows and trials change: the data set's preset, or small settings."""
        if self.size.presets:
            return preset(key(self.source))
        alpha = 0.1 if key(self.source) in ("mnist", "digits") else PaperConfig().alpha
        paper = replace(self.size.paper, alpha=alpha)
        search = SearchConfig(algorithm="paper", points="all", batch=self.size.batch, paper=paper)
        return RunConfig(network=self.size.network, search=search)

    def network(self, data: ImageData, groups: int, *what: str | int) -> Stages:
        seed = derive(self.seed, *what)
        network = paper_network(data.train.images, data.num_classes, self.base.network, groups=groups, seed=seed)
        return network.to(devices.resolve(self.device))

    def search(self, row: str) -> SearchConfig:
        return self.base.search if "paper" in row else SearchConfig(batch=self.size.batch, es=self.size.es)

    def learning(self, trial: Trial, row: str) -> LearnConfig:
        papers = "skip-first" if self.size.augment != "none" else "all"
        return replace(
            self.base.learn,
            epochs=self.factor(row) * self.size.epochs[self.train],
            weight_decay=trial.weight_decay,
            lr=trial.lr,
            supervise=papers if "paper" in row else "last",  # type: ignore[arg-type]
            kl_weight=trial.kl_weight,
            target_weight=trial.target_weight,
            live=LiveConfig(weight=1.0 if row.endswith("live") else 0.0),
            augment=self.size.augment,  # type: ignore[arg-type]
        )

    def targets(self, data: ImageData, row: str, folder: str) -> TargetStore:
        searched = self.network(data, 1, "searched")
        dtype = getattr(torch, self.size.dtype)
        return search_solution(searched, data.train, folder, config=self.search(row), seed=self.seed, dtype=dtype)

    def targets_again(self, data: ImageData, learned: Stages, number: int, folder: str) -> TargetStore:
        """Of round `number`: what the learned network makes of the images, displaced."""
        search, seed = SearchConfig(batch=self.size.batch, es=self.size.rounds.es), derive(self.seed, "round", number)
        dtype = getattr(torch, self.size.dtype)
        return search_solution(learned, data.train, folder, config=search, seed=seed, dtype=dtype)

    def learn(self, network: Stages, data: ImageData, targets: TargetStore, trial: Trial, number: int, row: str) -> Fit:
        """The network learns the targets of round `number`, of a row or a kind."""
        return learn_targets(
            network,
            data.train,
            targets,
            validation=data.validation,
            config=self.learning(trial, row),
            seed=derive(self.seed, number),
            precision=self.size.precision,
        )


def sgd(setting: Setting, trial: Trial, *, factor: int = 1, tested: bool = True) -> dict[str, Any]:
    """A network trained on the labels, for `factor` times the epochs."""
    data, size = setting.data(), setting.size
    network = setting.network(data, trial.groups, "learned")
    settings = replace(
        setting.base.sgd,
        epochs=factor * size.epochs[setting.train],
        weight_decay=trial.weight_decay,
        lr=trial.lr,
        augment=size.augment,  # type: ignore[arg-type]
    )
    fit = train_sgd(
        network,
        data.train,
        validation=data.validation,
        config=settings,
        seed=setting.seed,
        precision=size.precision,
    )
    test = accuracy(network, data.test) if tested else None
    return {"validation": fit.best_validation, "test": test, "steps": fit.gradient_steps, "evaluations": 0}


def searched(setting: Setting, row: str, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Networks learned from searched targets: after the first search, and after a round for each further trial."""
    data, found = setting.data(), []
    network = setting.network(data, trials[0].groups, "learned")
    evaluations = steps = 0
    for number, trial in enumerate(trials):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            first = number == 0
            targets = setting.targets(data, row, folder) if first else setting.targets_again(data, network, number, folder)
            seconds = time.monotonic() - began
            evaluations += targets.evaluations + setting.learning(trial, row).evaluations
            fit = setting.learn(network, data, targets, trial, number, row)
        steps += fit.gradient_steps
        found.append(
            {
                "validation": fit.best_validation,
                "test": accuracy(network, data.test),
                "steps": steps,
                "evaluations": evaluations,
                "search_seconds": seconds,
                "cross_entropy": targets.diagnostics()["after"].mean(1).tolist(),
            }
        )
    return found


def tune(setting: Setting, kind: str, first: Trial | None) -> list[dict[str, Any]]:
    """Validation accuracy of every trial; the test images are not used.

    Args:
        kind: one of KINDS.
        first: what was chosen for the first round, for "rounds".
    """
    tried = trials(setting.size, kind, first)
    if kind.startswith("sgd"):
        validations = [sgd(setting, trial, factor=setting.factor(kind), tested=False)["validation"] for trial in tried]
    else:
        validations = tune_learning(setting, tried, first, kind)
    return [{**to_builtins(trial), "validation": v} for trial, v in zip(tried, validations, strict=True)]


def tune_learning(setting: Setting, tried: Sequence[Trial], first: Trial | None, kind: str) -> list[float]:
    """Of the first round, or of the second after `first`: all from the same targets."""
    data = setting.data()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as later:
        targets, number, start = setting.targets(data, "es", folder), 0, None
        if first is not None:
            start = setting.network(data, first.groups, "learned")
            setting.learn(start, data, targets, first, 0, kind)
            targets, number = setting.targets_again(data, start, 1, later), 1
        validations = []
        for trial in tried:
            network = copy.deepcopy(start) if start is not None else setting.network(data, trial.groups, "learned")
            validations.append(setting.learn(network, data, targets, trial, number, kind).best_validation)
    return validations


def run(arguments: Arguments, size: TableSize) -> list[dict[str, Any]]:
    """An entry for each data set and number of training images."""
    parts, entries = Parts(arguments.out, NAME, size), []
    check_rows(arguments.rows, ROWS)
    rows = [row for row in ROWS if row in (arguments.rows or ROWS)]
    if strange := set(arguments.train) - set(size.epochs):
        raise ConfigError(
            f"--scale {arguments.scale} has no epochs for {min(strange)} training images: expected {sorted(size.epochs)}"
        )
    if unknown := [key(source) for source in arguments.data or size.data if key(source) not in size.train]:
        raise ConfigError(
            f"--scale {arguments.scale} has no numbers of images for {unknown[0]}: expected {', '.join(size.train)}"
        )
    for source in arguments.data or size.data:
        for train in arguments.train or size.train[key(source)]:
            chosen: dict[str, Trial] = {}
            tuning: dict[str, list[dict[str, Any]]] = {}
            tuned = min(train, size.tuned_up_to)
            first = Setting(source, tuned, size.seeds[0], size, arguments.data_root, arguments.device)
            for kind in (kind for kind, serves in KINDS.items() if set(serves) & set(rows)):
                make = partial(tune, first, kind, chosen["searched"] if kind == "rounds" else None)
                tuning[kind] = parts.get(f"{key(source)}-{tuned}-tune-{kind}".replace(" ", "-"), make)
                best = max(tuning[kind], key=lambda tried: tried["validation"])
                chosen[kind] = Trial(**{name: value for name, value in best.items() if name != "validation"})
            seeds: dict[str, list[Any]] = {row: [] for row in rows if train <= size.paper_up_to or "paper" not in row}
            with Progress().task(f"{NAME}, {key(source)}, {train} images", len(size.seeds), "seeds") as advance:
                for seed in size.seeds:
                    setting = Setting(source, train, seed, size, arguments.data_root, arguments.device)
                    for row in seeds:
                        seeds[row].append(measure(parts, setting, row, chosen))
                    advance(1)
            entries.append(
                {
                    "data": label(source, arguments.data_root),
                    "train": train,
                    "epochs": size.epochs[train],
                    "paper": PAPER.get(key(source)),
                    "tuning": tuning,
                    "chosen": {kind: to_builtins(trial) for kind, trial in chosen.items()},
                    "rows": {row: summary(seeds[row], seeds.get("SGD")) for row in seeds},
                    "seeds": seeds,
                }
            )
    return entries


def measure(parts: Parts, setting: Setting, row: str, chosen: dict[str, Trial]) -> dict[str, Any]:
    """One row for one seed."""
    name = f"{key(setting.source)}-{setting.train}-seed{setting.seed}"
    if row.startswith("SGD"):
        factor = setting.factor(row)
        trial = chosen["sgd" if row == "SGD" else "sgd longer"]
        make: Callable[[], Any] = partial(sgd, setting, trial, factor=factor)
        return parts.get(f"{name}-sgd-{factor}", make)
    if row.endswith(("steps of the rounds", "live")):
        kind = "live" if row.endswith("live") else "searched longer"
        make = partial(searched, setting, row, [chosen[kind]])
        return parts.get(f"{name}-{kind}".replace(" ", "-"), make)[0]
    kind = "paper" if "paper" in row else "es"
    again = [chosen["rounds"]] * setting.size.rounds.count if "rounds" in chosen and kind == "es" else []
    make = partial(searched, setting, kind, [chosen["searched"], *again])
    return parts.get(f"{name}-searched-{kind}-{len(again)}", make)[-1 if "rounds" in row else 0]


def summary(seeds: list[Any], baseline: list[Any] | None) -> dict[str, Any]:
    """Mean and deviation over the seeds, and of the difference from SGD on the same images."""
    row: dict[str, Any] = {which: spread([100 * seed[which] for seed in seeds]) for which in ("validation", "test")}
    if baseline is not None:
        row["against_sgd"] = spread([100 * (a["test"] - b["test"]) for a, b in zip(seeds, baseline, strict=True)])
    return row | {"steps": seeds[0]["steps"], "evaluations": seeds[0]["evaluations"]}


def as_markdown(entries: list[dict[str, Any]]) -> str:
    """A line for each row of each entry."""
    lines = ["| data | images | | test accuracy (%) | against SGD (points) | evaluations an image | gradient steps |"]
    lines.append("|---|---|---|---|---|---|---|")
    for entry in entries:
        for name, row in entry["rows"].items():
            test, gap = row["test"], row.get("against_sgd", {"mean": 0.0, "std": 0.0})
            difference = "" if name == "SGD" else f"{gap['mean']:+.1f} ± {gap['std']:.1f}"
            lines.append(
                f"| {entry['data']} | {entry['train']} | {name} | {test['mean']:.1f} ± {test['std']:.1f} | {difference} | "
                f"{row['evaluations'] or ''} | {row['steps']} |"
            )
    return "\n".join(lines) + "\n"


def main(arguments: Arguments) -> None:
    devices.prepare()
    size = replace(SCALES[arguments.scale], augment=arguments.augment)
    if arguments.augment != "none" and arguments.scale == "small":
        size = replace(size, **AUGMENTED)
    size = replace(
        size, seeds=size.seeds if arguments.seeds is None else arguments.seeds, groups=arguments.groups or size.groups
    )
    entries = run(arguments, size)
    name = "-".join(
        [NAME, *([arguments.scale] * (arguments.scale != "small")), *([arguments.augment] * (arguments.augment != "none"))]
    )
    settings = {**to_builtins(size), "scale": arguments.scale}
    path = write_receipt(name, {"entries": entries}, settings=settings, device=arguments.device, folder=arguments.figures)
    write_table(path, as_markdown(entries))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
