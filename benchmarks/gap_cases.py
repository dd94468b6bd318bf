"""The cases of `benchmarks.gap`: data, network, and the settings of each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.common import alpha_for
from decouple.config import (
    CompareConfig,
    DataConfig,
    EsConfig,
    LearnConfig,
    NetworkConfig,
    PaperConfig,
    RunConfig,
    SearchConfig,
    SgdConfig,
)
from decouple.pipeline.trials import configured

Rows = Mapping[str, Mapping[str, Any]]
"""By row, the settings in which it differs, a tuple of values for one that is tuned; those that are called SGD train on the labels."""

STORED = {"learn.live.weight": 0.0, "learn.target_weight": 1.0, "learn.kl_weight": 0.3}
"""Settings of learning from stored targets only."""
PAPER = STORED | {"learn.supervise": "all", "learn.kl_weight": 0.03}
"""The paper's learner."""


@dataclass(frozen=True)
class Case:
    config: RunConfig
    tuned_on: int
    """Training images of the trials."""
    rows: Rows
    trials: int
    lr: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
    weight_decay: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    further: tuple[str, ...] = ()
    """Rows that are measured only when they are asked for."""


def case(data: DataConfig, search: SearchConfig, rows: Rows, **others: Any) -> Case:
    """A case with so many `width` channels and `groups`, or another `network`, with so many `epochs` and `trials`, tuned on `tuned_on`
    images."""
    groups, epochs = others.pop("groups", 1), others.pop("epochs")
    network = others.pop("network", None) or NetworkConfig(width=others.pop("width"), groups=groups)
    config = RunConfig(
        precision="bfloat16",
        data=data,
        network=network,
        search=search,
        learn=LearnConfig(epochs=epochs),
        sgd=SgdConfig(epochs=epochs, groups=(groups,)),
        compare=CompareConfig(images=30, records=2),
    )
    both = {"augment": others.pop("augment", "none"), "optimizer": others.pop("optimizer", "sgd")}
    config = configured(config, {f"{method}.{name}": value for method in ("learn", "sgd") for name, value in both.items()})
    return Case(config, rows={"SGD": {}, **rows}, **others)


READINGS: dict[str, dict[str, Any]] = {
    "paper's learner, mean of the squares": PAPER | {"learn.norm": "mean"},
    "paper's learner, sum of the squares": PAPER
    | {"learn.norm": "sum", "learn.lr": (0.2, 0.4, 0.8, 1.6, 3.2), "learn.weight_decay": (0.0025, 0.005, 0.01, 0.02, 0.05)},
    "the last block supervised": STORED | {"learn.supervise": "last"},
}
OURS: dict[str, dict[str, Any]] = {"stored targets only": STORED, "with live search, the default": {}}


def full_budget(name: str, train: int, validation: int, paper: PaperConfig, **others: Any) -> Case:
    search = SearchConfig(algorithm="paper", points="all", solutions=1, batch=125, paper=paper)
    return case(
        DataConfig(name=name, train=train, validation=validation, prior=20), search, READINGS, tuned_on=train, **others
    )


ES = SearchConfig(solutions=1, batch=125, es=EsConfig(population=32))


def all_images(groups: int) -> Case:
    data = DataConfig(name="folder:cifar10", validation=2500, prior=20)
    grid = {"lr": (0.05, 0.1, 0.2, 0.4), "weight_decay": (0.005, 0.01, 0.02, 0.05)}
    return case(data, ES, OURS, tuned_on=10_000, width=64, groups=groups, epochs=20, trials=8, **grid)


RANDOM = "the default, targets of random search"
LITTLE_DECAY = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)


def own(network: str, **others: Any) -> Case:
    """A network that is not the paper's, on MNIST. Random search scores as many candidates as es, and keeps the best."""
    data, named = DataConfig(name="mnist", train=1000, validation=1000, prior=20), f"benchmarks.networks:{network}"
    rows = {**OURS, RANDOM: {"search.algorithm": "random"}} | others.pop("rows", {})
    return case(data, ES, rows, tuned_on=1000, network=NetworkConfig(name=named), epochs=30, **others)


def normalised(method: str) -> dict[str, Any]:
    """Where the last layer sees, for each image, a mean of 0 and a deviation of 1: searched targets have these by themselves. Such
    networks want smaller steps and more weight decay."""
    grid = {"lr": (0.025, 0.05, 0.1, 0.2, 0.4, 0.8), "weight_decay": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)}
    return {"network.args": {"norm": True}, **{f"{method}.{name}": values for name, values in grid.items()}}


NORMALISED: dict[str, dict[str, Any]] = {
    "stored targets only": STORED | {"learn.weight_decay": LITTLE_DECAY},
    "SGD, normalised": normalised("sgd"),
    "with live search, normalised": normalised("learn"),
}


MORE_OR_LESS_DECAY: dict[str, dict[str, Any]] = {
    RANDOM: {"search.algorithm": "random", "learn.weight_decay": LITTLE_DECAY},
    "SGD, normalised": NORMALISED["SGD, normalised"] | {"sgd.weight_decay": (5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2)},
}
"""Grids for rows of the MLP whose best value was at an edge."""
ADAM: dict[str, Any] = {
    "trials": 12,
    "optimizer": "adamw",
    "lr": (5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    "weight_decay": (0.02, 0.1, 0.5, 2.0),
}
PLAIN: dict[str, Any] = {
    "lr": (0.1, 0.2, 0.4, 0.8, 1.6, 3.2),
    "weight_decay": (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2),
    "rows": NORMALISED,
    "trials": 18,
}

LIVE = "searched, es, live"


def twin(row: str) -> str:
    """What a search is compared with beside plain SGD: SGD with the same terms and heads, or on a network that is normalised as the
    targets are. A gain over SGD is the method's, one over this the search's."""
    if not row.startswith((LIVE, "SGD")):
        return "SGD, normalised"
    return row.replace(LIVE, "SGD")


HEADS = 0.3
"""Weight of the heads at every block, which is not tuned."""


def similar(method: str, name: str, scarce: bool) -> dict[str, Any]:
    """A row with the term. It has no more trials than SGD for a setting more, so its grid is a small one, around the values that
    were best at a fixed learning rate and weight decay (`benchmarks.terms`)."""
    lr, decay, weight = (f"{method}.{setting}" for setting in ("lr", "weight_decay", "similarity"))
    if scarce and name == "mnist":
        return {lr: (0.1, 0.2, 0.4), decay: (0.02, 0.05, 0.1), weight: (1.0, 3.0, 10.0, 30.0)}
    if scarce:
        return {lr: (0.05, 0.1, 0.2), decay: (0.02, 0.05, 0.1), weight: (3.0, 10.0, 30.0)}
    return {lr: (0.05, 0.1, 0.2), decay: (0.005, 0.01, 0.02), weight: (0.3, 1.0, 3.0)}


DRAWN: dict[str, dict[str, Any]] = {
    "scarce": {"trials": 12, "lr": (0.05, 0.1, 0.2, 0.4), "weight_decay": (0.01, 0.02, 0.05, 0.1, 0.2)},
    "many": {"trials": 12, "lr": (0.05, 0.1, 0.2, 0.4), "weight_decay": (0.002, 0.005, 0.01, 0.02, 0.05)},
}
"""Of 20 combinations 12 are tried, which chance decides."""
ALL_NINE: dict[str, Any] = {"trials": 9, "lr": (0.05, 0.1, 0.2), "weight_decay": (0.005, 0.01, 0.02)}
"""Every combination is tried: among twelve that were drawn from the grid above, the best one of SGD was missing."""


def few(
    name: str,
    train: int | None,
    epochs: int,
    augment: str = "none",
    grids: Mapping[str, Any] | None = None,
) -> Case:
    """Both searches with about as many candidates; the genetic algorithm takes long on many images."""
    scarce = train is not None and train <= 3000
    genetic: dict[str, Any] = {
        **PAPER,
        "search.algorithm": "paper",
        "search.points": "all",
        "search.paper.population": 48,
        "search.paper.parents": 4,
        "search.paper.explorers": 20,
        "search.paper.smoothing": "noise",
        "search.paper.generations": {"block0": 17, "blocks": 8, "logits": 7},
        "search.paper.alpha": alpha_for(name),
    }
    twice: dict[str, Any] = {"sgd.epochs": 2 * epochs, "learn.epochs": 2 * epochs}
    again: dict[str, Any] = {
        "rounds.count": 1,
        **({} if scarce else {"rounds.lr": 0.05, "rounds.weight_decay": 0.002}),
    }
    further: dict[str, dict[str, Any]] = {
        "SGD, steps of the rounds": twice,
        "searched, es, steps of the rounds": STORED | twice,
        "searched, es, rounds": STORED | again,
        "SGD, similarity, heads": similar("sgd", name, scarce) | {"sgd.heads": HEADS},
        f"{LIVE}, similarity, heads": similar("learn", name, scarce) | {"learn.heads": HEADS},
    }
    rows: dict[str, dict[str, Any]] = {"searched, paper's algorithm": genetic} if scarce else {}
    rows |= {"SGD, similarity": similar("sgd", name, scarce), "searched, es": STORED, LIVE: {}}
    rows |= {f"{LIVE}, similarity": similar("learn", name, scarce), **further}
    return case(
        DataConfig(name=name, train=train, validation={"mnist": 1000, "digits": 400}.get(name, 2500), prior=20),
        ES,
        rows,
        tuned_on=train or 10_000,
        width=32,
        groups=1,
        epochs=epochs,
        further=tuple(further),
        augment=augment,
        **(grids or DRAWN["scarce" if scarce else "many"]),
    )


TINY = PaperConfig(population=12, parents=2, explorers=5, generations=2, alpha=0.1, smoothing="noise")
CASES = {
    "tiny": full_budget("digits", 80, 60, TINY, width=8, groups=1, epochs=2, trials=2),
    "mnist": full_budget(
        "mnist", 1000, 1000, PaperConfig(alpha=0.1, smoothing="noise"), width=32, groups=2, epochs=50, trials=16
    ),
    "cifar10": all_images(1),
    "cifar10-deep": all_images(2),
    "mnist-lenet": own("lenet", **PLAIN),
    "mnist-mlp": own("mlp", **PLAIN | {"rows": NORMALISED | MORE_OR_LESS_DECAY}),
    "mnist-resnet": own("resnet", trials=12),
    "mnist-vit": own("vit", **ADAM),
    "digits": few("digits", 1000, 50),
    "mnist-1k": few("mnist", 1000, 50),
    "mnist-3k": few("mnist", 3000, 40),
    "mnist-10k": few("mnist", 10_000, 20),
    "mnist-58k": few("mnist", None, 10),
    "cifar10-2k": few("folder:cifar10", 2000, 50),
    "cifar10-10k": few("folder:cifar10", 10_000, 20),
    "cifar10-10k-flip-crop": few("folder:cifar10", 10_000, 20, augment="flip-crop", grids=ALL_NINE),
}
