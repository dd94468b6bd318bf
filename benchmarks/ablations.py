"""What each choice is worth, of the search and of learning: accuracy of the network that learns.

    python -m benchmarks.ablations --data-root DATA                              # two CPU cores
    python -m benchmarks.ablations --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images

Every row learns one network from targets of all training images, for each of three seeds; rows of a seed share images, the
searched network and the initialisation of the learned one. Settings
are chosen by validation accuracy; the test accuracy stands beside it. Writes figures/ablations.json and .md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.command import launch
from benchmarks.common import STORED, Common, Parts, Size, alpha_for, by_place, check_rows, key, label, leave
from benchmarks.receipt import markdown, spread, written
from benchmarks.rows import opened, trained
from decouple import device as devices
from decouple.config import (
    CompareConfig,
    DataConfig,
    EsConfig,
    LearnConfig,
    LiveConfig,
    PaperConfig,
    RoundsConfig,
    RunConfig,
    SearchConfig,
    SgdConfig,
)
from decouple.progress import Progress

NAME = "ablations"


@dataclass(frozen=True, kw_only=True)
class AblationSize(Size):
    validation: int = 1000
    epochs: int = 40
    groups: int = 1
    """ConvGroups a block of the learned network."""
    weight_decay: dict[str, float] = field(default_factory=lambda: {"mnist": 2e-2, "cifar10": 5e-2})
    """By data set, for learning and SGD alike."""
    es: EsConfig = field(default_factory=lambda: EsConfig(population=32))
    """The base."""
    layers: tuple[int, ...] = (24, 12, 12, 10)
    """Generations where all blocks are evolved."""


SCALES = {
    "tiny": AblationSize(data=("digits",), images=60, batch=30, validation=100, epochs=2, seeds=(0,)),
    "small": AblationSize(data=("mnist", "cifar10"), images=1000, batch=125),
}


LIVE: dict[str, Any] = {"target_weight": 0.5, "kl_weight": 1.0, "live": LiveConfig()}
"""Settings of learning with live search; the base is without."""


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: 1000 images of MNIST and CIFAR-10, 32 channels."""
    rows: tuple[str, ...] = ()
    """Names of the rows to measure; default: all."""
    seeds: tuple[int, ...] | None = None
    """Default: the scale's."""


@dataclass(frozen=True)
class Row:
    """A choice: how to search, and how to learn from it."""

    search: SearchConfig | None
    """None: SGD on the labels."""
    learn: dict[str, Any] = field(default_factory=dict)
    """Settings of learning that differ from the base."""
    rounds: int = 0
    """Searches again by the learned network."""


def rows_of(size: AblationSize, source: str) -> dict[str, Row]:
    """The base and what differs from it in one choice, by name."""
    es = size.es
    base = SearchConfig(solutions=1, batch=size.batch, es=es)
    every = replace(base, points="all", es=replace(es, generations=by_place(size.layers)))
    # As many candidates as es has for all blocks: 44 new ones a generation.
    generations = by_place([max(1, count * es.population // 44) for count in size.layers])
    alpha = alpha_for(source)
    paper = PaperConfig(population=48, parents=4, explorers=20, generations=generations, alpha=alpha, smoothing="noise")
    genetic = replace(base, points="all", algorithm="paper", paper=paper)
    return {
        "SGD": Row(None),
        "es, the last block": Row(base),
        "es, one more round": Row(base, rounds=1),
        "es, live": Row(base, LIVE),
        "es, live, 128 directions": Row(base, {**LIVE, "live": LiveConfig(directions=128)}),
        "es, live, radius 1": Row(base, {**LIVE, "live": LiveConfig(radius=1.0)}),
        "es, live, full weight of the stored targets": Row(base, {**LIVE, "target_weight": 1.0}),
        "live, no weight of the stored targets": Row(base, {**LIVE, "target_weight": 0.0}),
        "random search, live": Row(replace(base, algorithm="random"), LIVE),
        "es, all blocks, all supervised": Row(every, {"supervise": "all"}),
        "es, all blocks, block 0 not supervised": Row(every, {"supervise": "skip-first"}),
        "es, all blocks, the last supervised": Row(every),
        "es, frozen statistics, all blocks, the last supervised": Row(replace(every, statistics="frozen")),
        "es, in units of the channel": Row(replace(base, es=replace(es, scale="channel"))),
        "es, radius 0.1": Row(replace(base, es=replace(es, radius=0.1))),
        "es, directions of each image": Row(replace(base, es=replace(es, noise="image"))),
        "es, own moments": Row(replace(base, es=replace(es, moments="own"))),
        "es, half the step": Row(replace(base, es=replace(es, step={"blocks": 0.05, "logits": 0.5}))),
        "es, twice the step": Row(replace(base, es=replace(es, step={"blocks": 0.2, "logits": 0.5}))),
        "es, a quarter of the generations": Row(replace(base, es=replace(es, generations=10))),
        "es, 4 times the generations": Row(replace(base, es=replace(es, generations={"blocks": 160, "logits": 10}))),
        "es, kl_weight 0.03": Row(base, {"kl_weight": 0.03}),
        "es, weight decay 5e-4": Row(base, {"weight_decay": 5e-4}),
        "paper, noise smoothed, all supervised": Row(genetic, {"supervise": "all"}),
        "paper, noise smoothed, the last supervised": Row(genetic),
        "paper, map smoothed, the last supervised": Row(replace(genetic, paper=replace(paper, smoothing="map"))),
        "random search": Row(replace(base, algorithm="random")),
        "gradient (oracle)": Row(replace(base, algorithm="gradient")),
    }


def base_of(size: AblationSize, source: str, seed: int) -> RunConfig:
    """What all rows of a seed share; images differ between seeds."""
    training: dict[str, Any] = {"epochs": size.epochs, "weight_decay": size.weight_decay.get(key(source), 2e-2)}
    return RunConfig(
        seed=seed,
        precision="mixed",
        data=DataConfig(name=source, train=size.images, validation=size.validation, prior=20, seed=seed),
        network=replace(size.network, groups=size.groups),
        search=SearchConfig(solutions=1, batch=size.batch, es=size.es, paper=PaperConfig(alpha=alpha_for(source))),
        learn=LearnConfig(**training, **STORED),
        sgd=SgdConfig(**training, groups=(size.groups,)),
        compare=CompareConfig(images=min(60, size.validation), records=2),
    )


def config_of(base: RunConfig, row: Row) -> RunConfig:
    """The settings of a row."""
    learn, rounds = replace(base.learn, **row.learn), RoundsConfig(count=row.rounds)
    return replace(base, search=row.search or base.search, learn=learn, rounds=rounds)


def every(
    arguments: Common, name: str, size: Size, base: RunConfig, rows: Mapping[tuple[Any, ...], tuple[RunConfig, bool]]
) -> dict[tuple[Any, ...], Any]:
    """What `trained` gives for settings of a seed, by name, each with whether it is SGD's; kept if --out names a folder."""
    parts, what = Parts(arguments.out, name, size), f"{key(base.data.name)}-seed{base.seed}"
    with ExitStack() as stack:
        folder = parts.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run = stack.enter_context(opened(folder / what, base, progress=Progress(quiet=True), **arguments.place))
        makers = {
            (what, *words): partial(trained, replace(run, config=config), sgd=sgd) for words, (config, sgd) in rows.items()
        }
        return {words[1:]: found for words, found in parts.all(f"{name}, {what}", makers).items()}


def run(arguments: Arguments, size: AblationSize) -> list[dict[str, Any]]:
    """An entry for each data set."""
    found = []
    for source in arguments.data or size.data:
        known = rows_of(size, source)
        check_rows(arguments.rows, known)
        rows = {name: row for name, row in known.items() if name in (arguments.rows or known)}
        seeds: dict[str, list[Any]] = {name: [] for name in rows}
        for seed in size.seeds:
            base = base_of(size, source, seed)
            settings = {(name,): (config_of(base, row), row.search is None) for name, row in rows.items()}
            for (name,), row in every(arguments, NAME, size, base, settings).items():
                seeds[name].append(row)
        entry = {"data": label(source, arguments.data_root), "rows": {name: _row(seeds[name]) for name in rows}}
        found.append(entry | {"seeds": seeds})
    return found


def _row(seeds: list[Any]) -> dict[str, Any]:
    """Mean and deviation over the seeds."""
    row: dict[str, Any] = {which: spread([100 * seed[which] for seed in seeds]) for which in ("validation", "test")}
    if "cross_entropy" in seeds[0]:
        points = range(len(seeds[0]["cross_entropy"]))
        row |= {name: [spread([seed[name][p] for seed in seeds]) for p in points] for name in ("cross_entropy", "cosine")}
        row["evaluations"] = seeds[0]["evaluations"]
    return row


def as_markdown(entries: list[dict[str, Any]]) -> str:
    """A table for each data set."""
    head = ["", "evaluations an image", "cross-entropy after each point", "validation", "test"]
    tables = []
    for entry in entries:
        rows = []
        for name, row in entry["rows"].items():
            reached = " / ".join(f"{value['mean']:.2f}" for value in row.get("cross_entropy", ()))
            accuracies = (written(row[which]) for which in ("validation", "test"))
            rows.append([name, row.get("evaluations", ""), reached, *accuracies])
        tables.append(f"**{entry['data']}**\n\n{markdown(head, rows)}")
    return "\n".join(tables)


def main(arguments: Arguments) -> None:
    devices.prepare()
    size = SCALES[arguments.scale]
    if arguments.seeds is not None:
        size = replace(size, seeds=arguments.seeds)
    entries = run(arguments, size)
    leave(NAME, arguments, {"data": entries}, settings=size.settings(arguments), table=as_markdown(entries))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
