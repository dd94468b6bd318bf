"""What further terms of the fitness are worth, to live search and to SGD (an ablation).

    python -m benchmarks.terms --data-root DATA --data folder:cifar10 --images 2000     # CIFAR-10 as a folder of images; an hour
    python -m benchmarks.terms --data-root DATA --data folder:cifar10 --images 10000

Each term is added to the log-probability of the true class, with one or several weights: live search scores candidates by it, and SGD
follows its gradient. Other rows have further judges: small heads at the earlier blocks; networks of four folds that never saw the
image, which cost three times as many epochs as what they judge, beside SGD with four times the epochs; stored targets that fade. All
rows have the learning rate and the weight decay that suit SGD; a seed's rows share images, searched targets and the network's start.
Test accuracy and NLL, and the difference to plain SGD.

Writes figures/terms-IMAGES.json and .md, or terms-IMAGES-NAME.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.command import launch
from benchmarks.common import Common, Parts, check_rows, key, label, leave
from benchmarks.judges import Fading, out_of_fold
from benchmarks.receipt import markdown, written
from benchmarks.rows import against
from benchmarks.solutions import PRECISION, Seed, Size, Training
from decouple import device as devices
from decouple.config import EsConfig, LearnConfig, SgdConfig, TrainConfig
from decouple.errors import ConfigError
from decouple.fitness import Candidates, Terms, log_likelihood, similarity
from decouple.learn import fit, regression
from decouple.learn.objective import cross_entropy
from decouple.settings import to_builtins
from decouple.training.batches import even_batches
from decouple.training.objectives import Objective

NAME = "terms"


def entropy(candidates: Candidates) -> Tensor:
    """Of the answer: its weight is that of a confidence penalty (Pereyra et al., 2017)."""
    answers = candidates.log_probabilities()
    return -(answers.exp() * answers).sum(2)


def mirrored(candidates: Candidates) -> Tensor:
    """log p(true class) of maps from the other side."""
    return log_likelihood(candidates.judge(candidates.values().flatten(0, 1).flip(-1)), candidates.labels)


def noisy(candidates: Candidates) -> Tensor:
    """log p(true class) of activations with noise of half their deviation, the same for all candidates of an image."""
    values = candidates.values()
    noise = torch.randn(len(values), 1, *values.shape[2:], generator=_stream(candidates), device=values.device)
    scale = 0.5 * values.detach().flatten(1).std(1).view(-1, 1, *[1] * (values.dim() - 2))
    return log_likelihood(candidates.judge((values + scale * noise).flatten(0, 1)), candidates.labels)


def dropped(candidates: Candidates) -> Tensor:
    """log p(true class) without a fifth of the channels, the same for all candidates of an image."""
    values = candidates.values()
    channels = (len(values), 1, values.shape[2], *[1] * (values.dim() - 3))
    kept = torch.rand(channels, generator=_stream(candidates), device=values.device) >= 0.2
    return log_likelihood(candidates.judge((values * kept / 0.8).flatten(0, 1)), candidates.labels)


def _stream(candidates: Candidates) -> torch.Generator:
    """What a step draws, by what it is shown."""
    values = candidates.peers.values.detach()
    return torch.Generator(values.device).manual_seed(int(values.double().sum().abs() * 2**20) % 2**63)


@dataclass(frozen=True)
class Row:
    """What a row has beside the log-probability."""

    terms: Terms = ()
    heads: float = 0.0
    """Weight of those at the earlier blocks."""
    judged: float = 0.0
    """Weight of the agreement with networks that never saw the image."""
    fading: bool = False
    """Of the stored targets, so of live search alone."""
    epochs: int = 1
    """Times as many."""
    methods: tuple[str, ...] = ("SGD", "live")


FOLDS = 4
ROWS: dict[str, Row] = {
    "nothing else": Row(),
    **{f"similarity, {weight:g}": Row(((weight, similarity),)) for weight in (1.0, 3.0, 10.0, 30.0)},
    "entropy, 0.1": Row(((0.1, entropy),)),
    "mirrored, 1": Row(((1.0, mirrored),)),
    "noisy, 1": Row(((1.0, noisy),)),
    "dropped channels, 1": Row(((1.0, dropped),)),
    "heads at every block, 0.3": Row(heads=0.3),
    "similarity, 10, and heads at every block, 0.3": Row(((10.0, similarity),), heads=0.3),
    "fading targets": Row(fading=True, methods=("live",)),
    "judged out of fold, 1": Row(judged=1.0),
    "4 times the epochs": Row(epochs=FOLDS, methods=("SGD",)),
}
TRAINING = {
    ("digits", 40): Training(40, 40, 1, 0.1, 0.02),
    ("cifar10", 2000): Training(2000, 2500, 50, 0.1, 0.05),
    ("cifar10", 10_000): Training(10_000, 2500, 20, 0.1, 0.02),
    ("mnist", 1000): Training(1000, 1000, 50, 0.2, 0.05),
}
"""What suits SGD, by data and images."""


@dataclass(frozen=True)
class Arguments(Common):
    images: int = 2000
    """Training images: 2000 or 10000 of CIFAR-10, 1000 of MNIST; 40 of digits to try the program."""
    seeds: tuple[int, ...] = (0, 1, 2)
    rows: tuple[str, ...] = ()
    """Names of the rows to measure; default: all."""
    name: str = ""
    """Added to the names of the files, where only some rows are measured."""


def measure(of_seed: Seed, row: Row, folder: str) -> dict[str, dict[str, float]]:
    """SGD and learning with live search, both with what the row has; the targets in `folder` serve all rows of the seed."""
    data, found, terms = of_seed.data, {}, row.terms
    if row.judged:
        terms = (*terms, (row.judged, out_of_fold(of_seed, FOLDS)))
    options = of_seed.training.options | {"epochs": row.epochs * of_seed.training.epochs, "heads": row.heads}
    for method in row.methods:
        (network,) = of_seed.starts()
        settings: TrainConfig = SgdConfig(**options)
        objective: Objective = replace(cross_entropy(settings), terms=terms)
        if method == "live":
            (targets,) = of_seed.searched(folder, subspaces=1)
            settings = LearnConfig(**options)
            objective = regression(targets, settings, len(network) - 1, terms)
            if row.fading:
                objective = Fading(objective, settings.epochs * len(even_batches(len(data.train), settings.batch)))
        fit(network, data.train, data.validation, objective, settings, seed=of_seed.seed, precision=PRECISION)
        answers = of_seed.answers([network])
        found[method] = {"test": answers["member"], "test_nll": answers["member_nll"]}
    return found


def run(arguments: Arguments) -> dict[str, Any]:
    source = (arguments.data or ("folder:cifar10",))[0]
    check_rows(arguments.rows, ROWS)
    if (key(source), arguments.images) not in TRAINING:
        known = ", ".join(f"{images} of {data}" for data, images in TRAINING)
        raise ConfigError(f"--images {arguments.images} of {source}: expected {known}")
    training = TRAINING[key(source), arguments.images]
    width = 4 if key(source) == "digits" else 32
    size = Size(width=width, solutions=1, training=((key(source), training),), es=EsConfig(population=32))
    chosen = {name: row for name, row in ROWS.items() if not arguments.rows or name in ("nothing else", *arguments.rows)}
    makers: dict[tuple[Any, ...], Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            of_seed = Seed.of(arguments, size, source, seed)
            makers |= {(seed, name): partial(measure, of_seed, row, folder) for name, row in chosen.items()}
        made = Parts(arguments.out, NAME, size).all(f"{NAME}, {key(source)}", makers)
    plain = [made[seed, "nothing else"]["SGD"] for seed in arguments.seeds]
    rows = {}
    for name, row in chosen.items():
        for method in row.methods:
            seeds = [made[seed, name][method] for seed in arguments.seeds]
            rows[f"{method}, {name}"] = {"seeds": seeds, "against_sgd": against(seeds, plain)}
    return {
        "data": label(source, arguments.data_root),
        "images": arguments.images,
        "rows": rows,
        "settings": to_builtins(training),
    }


def as_markdown(figures: Mapping[str, Any]) -> str:
    rows = []
    for name, row in figures["rows"].items():
        test, nll = (sum(seed[field] for seed in row["seeds"]) / len(row["seeds"]) for field in ("test", "test_nll"))
        rows.append([name, f"{100 * test:.1f}", written(row["against_sgd"], sign="+"), f"{nll:.3f}"])
    return markdown(["fitness or loss", "test accuracy (%)", "against SGD (points)", "test NLL"], rows)


def main(arguments: Arguments) -> None:
    devices.prepare()
    figures = run(arguments)
    settings = {"seeds": list(arguments.seeds), **figures.pop("settings")}
    leave(f"{NAME}-{arguments.images}", arguments, figures, settings=settings, table=as_markdown(figures))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
