"""What there is to measure at the paper's scale, in order of value, and what each piece is expected to cost on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.accuracy_scaling import Grid, search_settings
from benchmarks.common import STORED, key
from decouple.config import CompareConfig, LearnConfig, RunConfig, SearchConfig
from decouple.errors import ConfigError
from decouple.estimate import GPUS, SIZES, Work
from decouple.networks.build import build_network
from decouple.pipeline.trials import configured
from decouple.presets import preset
from decouple.search import search_points
from decouple.search.algorithm import chosen
from decouple.search.solutions import algorithm_of
from decouple.settings import fingerprint
from decouple.training.batches import even_batches

GPU = GPUS["h100"]
"""What the times are expected on."""
SEARCH_KERNELS, STEP_KERNELS = 15, 60
"""Of a generation and of a training step, by search point: rough counts of the code."""

DEFAULT, ES, PAPER, SUMMED, EVERY = (
    "es, live (the default)",
    "es, stored targets",
    "the paper's algorithm",
    "the paper's algorithm, sum of squares",
    "the paper's algorithm, all blocks supervised",
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    data: tuple[str, ...]
    few: int
    """Training images of the paper's algorithm before all of them."""
    epochs: int
    """Of MNIST, and of few images half as many."""
    figure: Grid
    """Populations and generations of Fig. 4."""
    settings: dict[str, Any]
    """That differ from the presets', by name."""
    seeds: tuple[int, ...] = (0, 1, 2)


SCALES = {
    "tiny": Scale(
        data=("digits",),
        few=60,
        epochs=4,
        figure=Grid(populations=(12, 24), population=24, generation_counts=(2,), generations=2),
        settings={
            "data.train": 120,
            "network.width": 8,
            "network.groups": 1,
            "search.batch": 30,
            "search.paper.population": 24,
            "search.paper.parents": 2,
            "search.paper.explorers": 10,
            "search.paper.generations": {"blocks": 2, "logits": 1},
            "search.es.generations": {"blocks": 3, "logits": 2},
            "learn.batch": 40,
            "sgd.batch": 40,
            "learn.epochs": 4,
            "sgd.epochs": 4,
        },
        seeds=(0, 1),
    ),
    "paper": Scale(
        data=("cifar10", "mnist", "cifar100"),
        few=2000,
        epochs=100,
        figure=Grid(populations=(24, 72, 240), population=240, generation_counts=(19, 75, 300), generations=300),
        settings={},
    ),
}


@dataclass(frozen=True)
class Piece:
    """One network of one seed."""

    row: str
    config: RunConfig

    @property
    def sgd(self) -> bool:
        return self.row.startswith("SGD")

    @property
    def training(self) -> Any:
        return self.config.sgd if self.sgd else self.config.learn

    @property
    def folder(self) -> str:
        return f"{key(self.config.data.name)}-{self.config.data.train or 'all'}"

    @property
    def unit(self) -> str:
        """Names what was measured: rows of the figure may be the table's too."""
        return f"{self.folder}-{fingerprint(self.config, self.sgd)}"

    @property
    def searched(self) -> str:
        """Names its search, which other pieces may share."""
        config = self.config
        return fingerprint(config.data, config.network, config.precision, config.seed, config.search)

    @property
    def entry(self) -> str:
        """What it is compared within."""
        augmented = ", augmented" if self.training.augment != "none" else ""
        return f"{augmented}, {self.training.epochs} epochs"

    @property
    def name(self) -> str:
        return f"{self.folder}{self.entry}: {self.row}, seed {self.config.seed}"


def base_of(source: str, scale: Scale) -> RunConfig:
    """The paper's settings for a data set, with the images that validation leaves."""
    name = {"digits": "mnist"}.get(key(source), key(source))
    if name not in ("mnist", "cifar10", "cifar100"):
        raise ConfigError(
            f"--data {source}: expected one of the paper's data sets, mnist, cifar10 or cifar100, or a folder so called"
        )
    config = preset(name)
    data = replace(config.data, name=source, prior=20, validation=config.data.validation if key(source) == name else 60)
    epochs = {"learn.epochs": scale.epochs, "sgd.epochs": scale.epochs} if name == "mnist" else {}
    config = replace(config, data=data, compare=CompareConfig(images=60, records=2))
    return configured(config, epochs | {"sgd.groups": (config.network.groups,)} | scale.settings)


def rows_of(base: RunConfig) -> dict[str, RunConfig]:
    """What a data set's table has, by row."""
    default, es = LearnConfig(), SearchConfig(solutions=1, batch=base.search.batch, es=replace(base.search.es))
    ours: dict[str, Any] = {
        "supervise": "last",
        "target_weight": default.target_weight,
        "kl_weight": default.kl_weight,
        "live": default.live,
    }
    depths = {
        f"SGD, {2 * groups} convolutions a block": replace(base, sgd=replace(base.sgd, groups=(groups,)))
        for groups in (1, 2, 3)
    }
    return {
        "SGD": base,
        DEFAULT: replace(base, search=es, learn=replace(base.learn, **ours)),
        ES: replace(base, search=es, learn=replace(base.learn, **(ours | STORED))),
        PAPER: base,
        SUMMED: replace(base, learn=replace(base.learn, norm="sum")),
        EVERY: replace(base, learn=replace(base.learn, supervise="all")),
        **{row: config for row, config in depths.items() if config != base},
    }


def few_of(base: RunConfig, scale: Scale) -> RunConfig:
    """With fewer images, on which the paper's batches would make a step an epoch: the library's own training, not augmented."""
    small: dict[str, Any] = {"batch": 125, "optimizer": "sgd", "lr": 0.2, "clip": 1.0, "shuffle": "epoch", "augment": "none"}
    small |= {"epochs": scale.epochs // 2, "weight_decay": 2e-2 if key(base.data.name) in ("mnist", "digits") else 5e-2}
    return replace(
        base,
        data=replace(base.data, train=scale.few),
        learn=replace(base.learn, **small, supervise="all"),
        sgd=replace(base.sgd, **small),
    )


def plain(base: RunConfig) -> RunConfig:
    return configured(base, {"learn.augment": "none", "sgd.augment": "none", "learn.supervise": "all"})


def plan(sources: Sequence[str], scale: Scale) -> list[Piece]:
    """All pieces, in their order."""
    bases = [base_of(source, scale) for source in sources]
    augmented = [base for base in bases if base.learn.augment != "none"]
    wanted: list[tuple[RunConfig, Iterable[str]]] = []
    for rows in (("SGD", DEFAULT), (ES,)):
        wanted += [(base, rows) for base in bases]
    wanted += [(few_of(base, scale), ("SGD", PAPER, SUMMED, DEFAULT, ES)) for base in bases]
    wanted += [(replace(base, seed=seed), ("SGD", DEFAULT, ES)) for seed in scale.seeds[1:] for base in bases]
    wanted += [(base, [row for row in rows_of(base) if row.startswith("SGD, ")]) for base in bases]
    wanted += [(base, (PAPER, EVERY) if base in augmented else (PAPER,)) for base in bases]
    wanted += [(plain(base), ("SGD", DEFAULT, ES, PAPER)) for base in augmented]
    pieces = [Piece(row, rows_of(base)[row]) for base, rows in wanted for row in rows]
    pieces += [piece for base in (few_of(bases[-1], scale), plain(bases[-1])) for piece in figure_of(base, scale).values()]
    full = [configured(base, {"learn.epochs": 1000, "sgd.epochs": 1000}) for base in bases if key(base.data.name) == "mnist"]
    pieces += [Piece(row, rows_of(base)[row]) for base in full for row in ("SGD", PAPER, DEFAULT)]
    once: dict[str, Piece] = {}
    for piece in pieces:
        once.setdefault(piece.unit, piece)
    return list(once.values())


def figure_of(base: RunConfig, scale: Scale) -> dict[tuple[str, int, int], Piece]:
    """The networks of Fig. 4, by algorithm, population and generations of block 0."""
    return {
        ("paper", population, generations): Piece(
            f"the paper's algorithm, population {population}, generations {generations}",
            replace(base, search=search_settings(base.search, "paper", population, generations)),
        )
        for population, generations in scale.figure.places
    }


@functools.cache
def flops(name: str, width: int, groups: int) -> list[int]:
    """Of a forward pass of one image, by stage."""
    shape, classes, _, _ = SIZES[name]
    config = replace(preset("cifar10").network, width=width)
    images = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0))
    values, found = torch.zeros(2, *shape), []
    with torch.no_grad():
        for stage in build_network(config, images, classes, groups=groups, seed=0).eval():
            with FlopCounterMode(display=False) as counter:
                values = stage(values)
            found.append(counter.get_total_flops() // 2)
    return found


def expected(piece: Piece) -> dict[str, float]:
    """Seconds by stage on an H100: see the text above."""
    config, training = piece.config, piece.training
    shape, classes, whole, _ = SIZES[key(config.data.name)]
    images = config.data.train or whole - config.data.validation - config.data.prior
    groups = config.baselines[0] if piece.sgd else config.network.groups
    once = flops(key(config.data.name), config.network.width, groups)
    live = 0 if piece.sgd else config.learn.evaluations(config.network.blocks)
    steps = training.epochs * len(even_batches(images, training.batch))
    operations = images * (3.0 * training.epochs * sum(once) + live * once[-1])
    found = {"learn": GPU.seconds(Work(operations, kernels=steps * STEP_KERNELS * len(once) * groups), "bfloat16")}
    if not piece.sgd:
        behind = flops(key(config.data.name), config.network.width, 1)
        network = build_network(replace(config.network, width=1), torch.rand(64, *shape), classes, groups=1, seed=0)
        algorithm, points = algorithm_of(config.search, 0), chosen(search_points(network, shape), config.search.points)
        scored = {point.index: algorithm.evaluations(point, coupled=True) for point in points}
        operations = images * sum(float(count) * sum(behind[index + 1 :]) for index, count in scored.items())
        kernels = len(even_batches(images, config.search.batch)) * sum(map(algorithm.generations, points)) * len(behind)
        found["search"] = GPU.seconds(Work(operations, kernels=kernels * SEARCH_KERNELS), "bfloat16")
    return found
