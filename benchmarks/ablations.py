"""What each choice of the search is worth: accuracy of the network that learns from its targets.

    python -m benchmarks.ablations --data-root DATA                              # two CPU cores
    python -m benchmarks.ablations --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images

Every row searches all training images once, by layers, and learns one network (2 ConvGroups a block) from the targets, for
each of three seeds; rows of a seed share images, the searched network and the initialisation of the learned one. Settings
are chosen by validation accuracy; the test accuracy stands beside it. Writes figures/ablations.json and .md.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from benchmarks.common import Common, Parts, Size, key, label
from benchmarks.receipt import spread, write_receipt
from decouple import device as devices
from decouple.config import DataConfig, EsConfig, LearnConfig, PaperConfig, SearchConfig, SgdConfig
from decouple.data import ImageData, load_data
from decouple.files import write_text
from decouple.learn import learn_targets, train_sgd
from decouple.networks import Stages, paper_network
from decouple.progress import Progress
from decouple.search import search_solution
from decouple.seeds import derive
from decouple.settings import to_builtins
from decouple.training.evaluate import accuracy

NAME = "ablations"


@dataclass(frozen=True, kw_only=True)
class AblationSize(Size):
    validation: int = 1000
    epochs: int = 40
    weight_decay: dict[str, float] = field(default_factory=lambda: {"mnist": 5e-4, "cifar10": 5e-3})
    """By data set, for learning and SGD alike: the small presets'."""
    es: EsConfig = field(default_factory=lambda: EsConfig(population=32, generations=(24, 12, 12, 10)))
    """The base: that of the small presets."""


SCALES = {
    "tiny": AblationSize(data=("digits",), images=60, batch=30, validation=100, epochs=2, seeds=(0,)),
    "small": AblationSize(data=("mnist", "cifar10"), images=1000, batch=125),
}


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: 1000 images of MNIST and CIFAR-10, 32 channels."""
    rows: tuple[str, ...] = ()
    """Names of the rows to measure; default: all."""
    seeds: tuple[int, ...] | None = None
    """Default: the scale's."""


def rows_of(size: AblationSize, source: str) -> dict[str, SearchConfig | None]:
    """Search settings by row; None: SGD on the labels."""
    es = size.es
    base = SearchConfig(batch=size.batch, es=es)
    alpha = (0.1,) if key(source) in ("mnist", "digits") else PaperConfig().alpha
    evaluations = [count * es.population for count in es.generations]
    paper = PaperConfig(
        population=48,
        parents=4,
        explorers=20,
        generations=tuple(max(1, count // 44) for count in evaluations),
        alpha=alpha,
        smoothing="noise",
    )
    return {
        "SGD": None,
        "es": base,
        "es, frozen statistics": replace(base, statistics="frozen"),
        "es, directions of each image": replace(base, es=replace(es, noise="image")),
        "es, own moments": replace(base, es=replace(es, moments="own")),
        "es, own moments, smoothed noise": replace(base, es=replace(es, moments="own", blur=(2, 1, 1, 0))),
        "es, smoothed noise": replace(base, es=replace(es, blur=(2, 1, 1, 0))),
        "es, half the step": replace(base, es=replace(es, step=(0.05, 0.05, 0.05, 0.5))),
        "es, twice the step": replace(base, es=replace(es, step=(0.2, 0.2, 0.2, 0.5))),
        "es, 4 times the generations": replace(base, es=replace(es, generations=tuple(4 * n for n in es.generations))),
        "paper, noise smoothed": replace(base, algorithm="paper", paper=paper),
        "paper, map smoothed": replace(base, algorithm="paper", paper=replace(paper, smoothing="map")),
        "random (no selection)": replace(base, algorithm="random"),
        "gradient (oracle)": replace(base, algorithm="gradient"),
    }


def measure(data: ImageData, size: AblationSize, source: str, seed: int, config: SearchConfig | None, device: str) -> Any:
    """One row for one seed."""
    place = devices.resolve(device)

    def network(groups: int, *what: str) -> Stages:
        made = paper_network(data.train.images, data.num_classes, size.network, groups=groups, seed=derive(seed, *what))
        return made.to(place)

    decay = size.weight_decay.get(key(source), 5e-4)
    learned, found = network(2, "learned"), {}
    began = time.monotonic()
    if config is None:
        settings = SgdConfig(epochs=size.epochs, weight_decay=decay)
        fit = train_sgd(learned, data.train, validation=data.validation, config=settings, seed=seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            dtype = getattr(torch, size.dtype)
            searched = network(1, "searched")
            targets = search_solution(searched, data.train, folder, config=config, seed=seed, dtype=dtype)
            found = {
                "cross_entropy": targets.diagnostics()["after"].mean(1).tolist(),
                "cosine": targets.diagnostics()["cosine"].mean(1).tolist(),
                "evaluations": targets.evaluations,
                "search_seconds": time.monotonic() - began,
            }
            learning = LearnConfig(epochs=size.epochs, weight_decay=decay)
            fit = learn_targets(learned, data.train, targets, validation=data.validation, config=learning, seed=seed)
    found |= {"validation": max(fit.validation), "test": accuracy(learned, data.test)}
    return {**found, "seconds": time.monotonic() - began}


def run(arguments: Arguments, size: AblationSize) -> list[dict[str, Any]]:
    """An entry for each data set."""
    parts, found = Parts(arguments.out, NAME, size), []
    for source in arguments.data or size.data:
        rows = {name: row for name, row in rows_of(size, source).items() if name in (arguments.rows or (name,))}
        seeds: dict[str, list[Any]] = {name: [] for name in rows}
        with Progress().task(f"{NAME}, {key(source)}", len(rows) * len(size.seeds), "networks") as advance:
            for seed in size.seeds:
                wanted = DataConfig(name=source, train=size.images, validation=size.validation, prior=20, seed=seed)
                data = load_data(wanted, data_root=arguments.data_root)
                for name, row in rows.items():
                    make: Callable[[], Any] = partial(measure, data, size, source, seed, row, arguments.device)
                    seeds[name].append(parts.get(f"{key(source)}-{name}-seed{seed}", make))
                    advance(1)
        entry = {"data": label(source, arguments.data_root), "rows": {name: _row(seeds[name]) for name in rows}}
        found.append(entry | {"seeds": seeds})
    return found


def _row(seeds: list[Any]) -> dict[str, Any]:
    """Mean and deviation over the seeds."""
    row: dict[str, Any] = {which: spread([100 * seed[which] for seed in seeds]) for which in ("validation", "test")}
    if "evaluations" in seeds[0]:
        points = range(len(seeds[0]["cross_entropy"]))
        row |= {name: [spread([seed[name][p] for seed in seeds]) for p in points] for name in ("cross_entropy", "cosine")}
        row["evaluations"] = seeds[0]["evaluations"]
    return row


def as_markdown(entries: list[dict[str, Any]]) -> str:
    """A table for each data set."""
    lines = []
    for entry in entries:
        lines += [
            f"**{entry['data']}**",
            "",
            "| | evaluations an image | cross-entropy after each point | validation | test |",
        ]
        lines.append("|---|---|---|---|---|")
        for name, row in entry["rows"].items():
            reached = " / ".join(f"{value['mean']:.2f}" for value in row.get("cross_entropy", ()))
            accuracies = (f"{row[which]['mean']:.1f} ± {row[which]['std']:.1f}" for which in ("validation", "test"))
            lines.append(f"| {name} | {row.get('evaluations', '')} | {reached} | {' | '.join(accuracies)} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: Arguments) -> None:
    devices.prepare()
    size = SCALES[arguments.scale]
    if arguments.seeds is not None:
        size = replace(size, seeds=arguments.seeds)
    entries = run(arguments, size)
    name = NAME if arguments.scale == "small" else f"{NAME}-{arguments.scale}"
    settings = {**to_builtins(size), "scale": arguments.scale, "data": list(arguments.data or size.data)}
    path = write_receipt(name, {"data": entries}, settings=settings, device=arguments.device, folder=arguments.figures)
    text = as_markdown(entries)
    write_text(Path(arguments.figures) / f"{name}.md", text)
    print(text)
    print(path)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
