"""How far learning from searched targets stays behind tuned SGD where the other tables do not look: with the paper's search at
its full budget, and on all images of CIFAR-10.

    python -m benchmarks.gap --data-root DATA --out RUNS                    # about two hours
    python -m benchmarks.gap --data-root DATA --out RUNS --case cifar10     # CIFAR-10 as a folder of images; four hours

Case `mnist`: 1000 images, 32 channels, the paper's genetic algorithm with all its 240 candidates and its 300, 100, 100 and 10
generations. The paper's learner supervises all blocks, with both readings of the regression's norm; ours supervises the last.
Case `cifar10`: 64 channels, the default search, the images that validation leaves of 50,000; tuned on 10,000 of them.

Every row is tuned by `decouple.tune` on validation images of the first seed, with as many trials as SGD. What it chooses serves
all seeds; each network keeps its best epoch on validation and is tested once. The run directories in --out are ordinary ones: a
benchmark that was stopped continues with what they hold. Writes figures/gap-CASE.json and .md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.command import launch
from benchmarks.common import label
from benchmarks.receipt import FIGURES, spread, write_receipt, write_table
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
    TuneConfig,
)
from decouple.pipeline import RunDirectory, open_run
from decouple.pipeline.learning import learn, networks_of
from decouple.pipeline.searching import search
from decouple.pipeline.trials import Tuning, configured
from decouple.pipeline.tune import tune
from decouple.progress import Progress
from decouple.settings import to_builtins
from decouple.training.evaluate import accuracy

STORED = {"live.weight": 0.0, "target_weight": 1.0}
"""Settings of learning from stored targets only."""
PAPER = STORED | {"supervise": "all", "kl_weight": 0.03}
"""The paper's learner."""


@dataclass(frozen=True)
class Case:
    config: RunConfig
    tuned_on: int
    """Training images of the trials."""
    rows: Mapping[str, Mapping[str, Any]]
    """By row, settings of learning that are not tuned; SGD comes first."""
    trials: int
    lr: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
    weight_decay: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)


def case(data: DataConfig, search: SearchConfig, rows: Mapping[str, Mapping[str, Any]], **others: Any) -> Case:
    """A case with so many `width` channels, `groups`, `epochs` and `trials`, tuned on `tuned_on` images."""
    groups, epochs = others.pop("groups"), others.pop("epochs")
    config = RunConfig(
        precision="bfloat16",
        data=data,
        network=NetworkConfig(width=others.pop("width"), groups=groups),
        search=search,
        learn=LearnConfig(epochs=epochs),
        sgd=SgdConfig(epochs=epochs, groups=(groups,)),
        compare=CompareConfig(images=30, records=2),
    )
    return Case(config, rows={"SGD": {}, **rows}, **others)


READINGS = {
    "paper's learner, mean of the squares": PAPER | {"norm": "mean"},
    "paper's learner, sum of the squares": PAPER | {"norm": "sum"},
    "the last block supervised": STORED | {"supervise": "last", "kl_weight": 0.3},
}
OURS = {"stored targets only": STORED | {"kl_weight": 0.3}, "with live search, the default": {}}


def full_budget(name: str, train: int, validation: int, paper: PaperConfig, **others: Any) -> Case:
    search = SearchConfig(algorithm="paper", points="all", solutions=1, batch=125, paper=paper)
    return case(
        DataConfig(name=name, train=train, validation=validation, prior=20), search, READINGS, tuned_on=train, **others
    )


def all_images(groups: int) -> Case:
    search = SearchConfig(solutions=1, batch=125, es=EsConfig(population=32))
    data = DataConfig(name="folder:cifar10", validation=2500, prior=20)
    decays = (0.005, 0.01, 0.02, 0.05)
    return case(
        data,
        search,
        OURS,
        tuned_on=10_000,
        width=64,
        groups=groups,
        epochs=20,
        trials=8,
        lr=(0.05, 0.1, 0.2, 0.4),
        weight_decay=decays,
    )


TINY = PaperConfig(population=12, parents=2, explorers=5, generations=2, alpha=0.1, smoothing="noise")
CASES = {
    "tiny": full_budget("digits", 80, 60, TINY, width=8, groups=1, epochs=2, trials=2),
    "mnist": full_budget(
        "mnist", 1000, 1000, PaperConfig(alpha=0.1, smoothing="noise"), width=32, groups=2, epochs=50, trials=16
    ),
    "cifar10": all_images(1),
    "cifar10-deep": all_images(2),
}


@dataclass(frozen=True)
class Arguments:
    out: Path
    """Folder of the runs, which a later call continues."""
    case: Literal["tiny", "mnist", "cifar10", "cifar10-deep"] = "mnist"
    """tiny: digits, to try the program; cifar10-deep: with two ConvGroups a block."""
    data_root: Path | None = None
    """Folder of the data sets."""
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    figures: Path = FIGURES
    """Folder of the receipt and the table."""


def tuned(arguments: Arguments, chosen: Case, row: str) -> Tuning:
    """The trials of a row, on the first seed."""
    data = replace(chosen.config.data, train=chosen.tuned_on)
    config = replace(chosen.config, data=data, seed=arguments.seeds[0])
    out = folder(arguments, chosen, config)
    with RunDirectory(out) as directory:  # which holds the settings of the row that was trained last
        directory.write_config(config)
    method: Literal["sgd", "learn"] = "sgd" if row == "SGD" else "learn"
    grid: dict[str, tuple[int | float | str, ...]] = {
        f"{method}.lr": chosen.lr,
        f"{method}.weight_decay": chosen.weight_decay,
    }
    grid |= {f"learn.{name}": (value,) for name, value in chosen.rows[row].items()}
    tuning = TuneConfig(trials=chosen.trials, methods=(method,), grid=grid, extensions=0)
    options: dict[str, Any] = {"device": arguments.device, "data_root": arguments.data_root, "quiet": False}
    return tune(config, out, tuning=tuning, resume=True, **options)


def folder(arguments: Arguments, chosen: Case, config: RunConfig) -> Path:
    """Of a run: searches of the same images and seed are shared."""
    return arguments.out / arguments.case / f"{config.data.train or 'all'}-seed{config.seed}"


def trained(arguments: Arguments, chosen: Case, row: str, values: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A row's network of a seed, tested; and what its search has cost and reached."""
    config = replace(configured(chosen.config, values), seed=seed)
    with (
        RunDirectory(folder(arguments, chosen, config)) as directory,
        open_run(
            directory, config, device=arguments.device, data_root=arguments.data_root, progress=Progress(quiet=False)
        ) as run,
    ):
        directory.write_config(config)
        stores = [] if row == "SGD" else search(run)
        networks = [each for each in networks_of(run) if (each.kind == "sgd") == (row == "SGD")]
        learn(run, stores, networks)
        (network,) = networks
        fit = network.result()
        found: dict[str, Any] = {
            "validation": fit.best_validation,
            "test": accuracy(network.network(run), run.data.test),
            "steps": fit.gradient_steps,
            "images": len(run.data.train),
            "evaluations": 0,
        }
        if stores:
            found["evaluations"] = stores[0].evaluations + config.learn.evaluations
            found["cross_entropy"] = stores[0].diagnostics()["after"].mean(1).tolist()
            found["search_seconds"] = directory.read_run()["stages"]["search"]["seconds"]
        return found


def measure(arguments: Arguments, chosen: Case) -> dict[str, Any]:
    """Everything about a case: by row its trials, the chosen settings, and what came of them over the seeds."""
    tunings = {row: tuned(arguments, chosen, row) for row in chosen.rows}
    rows: dict[str, Any] = {}
    for row, tuning in tunings.items():
        method = "sgd" if row == "SGD" else "learn"
        values = tuning.best(method).values
        seeds = [trained(arguments, chosen, row, values, seed) for seed in arguments.seeds]
        rows[row] = {
            "chosen": values,
            "at_edge": [name for name, _ in tuning.beyond(tuning.best(method))],
            "trials": [{**trial.values, "validation": trial.accuracy} for trial in tuning.trials],
            "seeds": seeds,
            **{name: spread([100 * seed[name] for seed in seeds]) for name in ("validation", "test")},
        }
        gaps = [100 * (seed["test"] - sgd["test"]) for seed, sgd in zip(seeds, rows["SGD"]["seeds"], strict=True)]
        rows[row]["against_sgd"] = spread(gaps)
    images = rows["SGD"]["seeds"][0]["images"]
    return {"data": label(chosen.config.data.name, arguments.data_root), "train": images, "rows": rows}


def as_markdown(figures: dict[str, Any]) -> str:
    lines = [
        "| | test accuracy (%) | against SGD (points) | evaluations an image | learning rate, weight decay |",
        "|---|---|---|---|---|",
    ]
    for name, row in figures["rows"].items():
        test, gap = row["test"], row["against_sgd"]
        difference = "" if name == "SGD" else f"{gap['mean']:+.1f} ± {gap['std']:.1f}"
        chosen = [value for setting, value in row["chosen"].items() if setting.endswith((".lr", ".weight_decay"))]
        evaluations = row["seeds"][0]["evaluations"] or ""
        lines.append(
            f"| {name} | {test['mean']:.1f} ± {test['std']:.1f} | {difference} | {evaluations} | {chosen[0]:g}, {chosen[1]:g} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Arguments) -> None:
    chosen = CASES[arguments.case]
    figures = measure(arguments, chosen)
    settings = {
        **to_builtins(chosen.config),
        "trials": chosen.trials,
        "tuned_on": chosen.tuned_on,
        "seeds": list(arguments.seeds),
    }
    path = write_receipt(
        f"gap-{arguments.case}", figures, settings=settings, device=arguments.device, folder=arguments.figures
    )
    write_table(path, as_markdown(figures))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
