"""The paper's Tables 1 and 2: how far learning from searched targets stays behind tuned SGD, or passes it.

    python -m benchmarks.gap --data-root DATA --out RUNS                    # three hours on one core
    python -m benchmarks.gap --data-root DATA --out RUNS --case cifar10     # CIFAR-10 as a folder of images; four hours
    python -m benchmarks.gap --data-root DATA --out RUNS --case mnist-1k    # a quarter of an hour
    python -m benchmarks.gap --out RUNS --case digits --settings-of cifar10-2k    # what was tuned there, on data never tuned on

Case `mnist`: 1000 images, 32 channels, the paper's genetic algorithm with all its 240 candidates and its 300, 100, 100 and 10
generations. The paper's learner supervises all blocks, with both readings of the regression's norm; ours supervises the last.
Case `cifar10`: 64 channels, the default search, the images that validation leaves of 50,000; tuned on 10,000 of them.
The others, named by their images: 32 channels; the paper's algorithm with about as many candidates as es has, es, es with live search,
the same with similarity as a second term of its fitness, and SGD with that term, the second bar; and, if --rows asks for them, both
with heads at every block too, es with a round, and SGD and es with as many steps as that takes.

Every row is tuned by `decouple.tune` on validation images of the first seed, with as many trials as SGD, however many settings it
has. The best of them (--finalists) are trained on the two seeds after it as well, and the mean of the three decides: one seed's
validation images leave a point of doubt. What it chooses serves all seeds; each network keeps its best epoch on validation and is
tested once. The run directories in --out are ordinary ones: a benchmark that was stopped continues with what they hold. Writes
figures/gap-CASE.json and .md.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.ablations import check_rows
from benchmarks.command import launch
from benchmarks.common import label
from benchmarks.receipt import FIGURES, write_receipt, write_table, written
from benchmarks.rows import against, opened, summary, trained
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
from decouple.errors import ConfigError
from decouple.files import read_json
from decouple.pipeline import RunDirectory
from decouple.pipeline.trials import Trial, Tuning, configured
from decouple.pipeline.tune import tune
from decouple.settings import located, to_builtins

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
    augment = others.pop("augment", "none")
    config = configured(config, {"learn.augment": augment, "sgd.augment": augment})
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


LIVE = "searched, es, live"


def twin(row: str) -> str:
    """What a search with further terms or heads is compared with beside plain SGD: a gain over SGD is the method's, one over this the
    search's."""
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


def few(name: str, train: int | None, epochs: int, alpha: Any = None, augment: str = "none") -> Case:
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
        "search.paper.alpha": alpha or PaperConfig().alpha,
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
        trials=12,
        lr=(0.05, 0.1, 0.2, 0.4),
        weight_decay=(0.01, 0.02, 0.05, 0.1, 0.2) if scarce else (0.002, 0.005, 0.01, 0.02, 0.05),
        further=tuple(further),
        augment=augment,
    )


TINY = PaperConfig(population=12, parents=2, explorers=5, generations=2, alpha=0.1, smoothing="noise")
CASES = {
    "tiny": full_budget("digits", 80, 60, TINY, width=8, groups=1, epochs=2, trials=2),
    "mnist": full_budget(
        "mnist", 1000, 1000, PaperConfig(alpha=0.1, smoothing="noise"), width=32, groups=2, epochs=50, trials=16
    ),
    "cifar10": all_images(1),
    "cifar10-deep": all_images(2),
    "digits": few("digits", 1000, 50, 0.1),
    "mnist-1k": few("mnist", 1000, 50, 0.1),
    "mnist-3k": few("mnist", 3000, 40, 0.1),
    "mnist-10k": few("mnist", 10_000, 20),
    "mnist-58k": few("mnist", None, 10),
    "cifar10-2k": few("folder:cifar10", 2000, 50),
    "cifar10-10k": few("folder:cifar10", 10_000, 20),
    "cifar10-10k-flip-crop": few("folder:cifar10", 10_000, 20, augment="flip-crop"),
}


@dataclass(frozen=True)
class Arguments:
    out: Path
    """Folder of the runs, which a later call continues."""
    case: str = "mnist"
    """tiny (to try the program), digits, mnist, cifar10, cifar10-deep (two ConvGroups a block); mnist-1k, mnist-3k, mnist-10k,
    mnist-58k, cifar10-2k, cifar10-10k or cifar10-10k-flip-crop (augmented)."""
    rows: tuple[str, ...] = ()
    """Names of the rows to measure beside SGD; default: those of the case but for rounds."""
    settings_of: str | None = None
    """A case whose receipt in --figures has what is to be taken, instead of trials, of rows with the same names."""
    data_root: Path | None = None
    """Folder of the data sets."""
    seeds: tuple[int, ...] = (0, 1, 2)
    finalists: int = 1
    """Settings of a row, the best on the first seed, among which three seeds decide; 1: the first seed alone does."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    figures: Path = FIGURES
    """Folder of the receipt and the table."""

    @property
    def place(self) -> dict[str, Any]:
        """Where a run finds its data and computes."""
        return {"device": self.device, "data_root": self.data_root}


def method_of(row: str) -> Literal["sgd", "learn"]:
    return "sgd" if row.startswith("SGD") else "learn"


def tuned(arguments: Arguments, chosen: Case, row: str) -> Tuning:
    """The trials of a row, on the first seed; of rounds, those of the learning before them."""
    data, method = replace(chosen.config.data, train=chosen.tuned_on), method_of(row)
    config = replace(configured(chosen.config, fixed(chosen.rows[row])), data=data, seed=arguments.seeds[0])
    out = folder(arguments, config)
    with RunDirectory(out) as directory:  # which holds the settings of the row that was trained last
        directory.write_config(located(config, arguments.data_root))
    further = {name: values for name, values in chosen.rows[row].items() if isinstance(values, tuple)}
    grid: dict[str, Any] = {f"{method}.lr": chosen.lr, f"{method}.weight_decay": chosen.weight_decay, **further}
    tuning = TuneConfig(trials=chosen.trials, methods=(method,), grid=grid, extensions=0)
    return tune(config, out, tuning=tuning, resume=True, quiet=False, **arguments.place)


def fixed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a row that are not tuned."""
    return {name: value for name, value in row.items() if not isinstance(value, tuple)}


def folder(arguments: Arguments, config: RunConfig) -> Path:
    """Of a run: searches of the same images and seed are shared."""
    return arguments.out / arguments.case / f"{config.data.train or 'all'}-seed{config.seed}"


def measured(arguments: Arguments, chosen: Case, row: str, values: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A row's network of a seed, with the tuned `values`."""
    config = replace(configured(chosen.config, {**fixed(chosen.rows[row]), **values}), seed=seed)
    with opened(folder(arguments, config), config, **arguments.place) as run:
        return trained(run, sgd=method_of(row) == "sgd")


def choice(arguments: Arguments, chosen: Case, row: str) -> dict[str, Any]:
    """The settings of a row, and the trials that they were chosen by."""
    if arguments.settings_of is not None:
        path = arguments.figures / f"gap-{arguments.settings_of}.json"
        there = read_json(path)["figures"]["rows"] if path.exists() else {}
        if row not in there:
            raise ConfigError(f"--settings-of {arguments.settings_of}: {path} has no row '{row}'; measure that case first")
        return {"chosen": there[row]["chosen"], "at_edge": [], "trials": []}
    tuning = tuned(arguments, chosen, row)
    best = tuning.best(method_of(row))
    if arguments.finalists > 1:
        best = screened(arguments, chosen, row, tuning)
    return {
        "chosen": {**best.values, **fixed(chosen.rows[row])},
        "at_edge": [name for name, _ in tuning.beyond(best)],
        "trials": [{**trial.values, "validation": trial.accuracy} for trial in tuning.trials],
    }


def screened(arguments: Arguments, chosen: Case, row: str, tuning: Tuning) -> Trial:
    """The best of the finalists, by the mean of their validation accuracy over the first three seeds."""
    done = [trial for trial in tuning.trials if trial.accuracy is not None]
    finalists = sorted(done, key=lambda trial: trial.accuracy or 0.0, reverse=True)[: arguments.finalists]

    def mean(trial: Trial) -> float:
        others = [measured(arguments, chosen, row, trial.values, seed)["validation"] for seed in arguments.seeds[1:3]]
        return statistics.mean([trial.accuracy or 0.0, *others])

    return max(finalists, key=mean)


def measure(arguments: Arguments, chosen: Case) -> dict[str, Any]:
    """Everything about a case: by row its trials, the chosen settings, and what came of them over the seeds."""
    check_rows(arguments.rows, chosen.rows)
    wanted = ["SGD", *arguments.rows] if arguments.rows else [row for row in chosen.rows if row not in chosen.further]
    choices = {row: choice(arguments, chosen, row) for row in dict.fromkeys(wanted)}
    rows: dict[str, Any] = {}
    for row, made in choices.items():
        seeds = [measured(arguments, chosen, row, made["chosen"], seed) for seed in arguments.seeds]
        rows[row] = {
            **made,
            "seeds": seeds,
            **summary(seeds, rows["SGD"]["seeds"] if rows else seeds),
        }
    return {
        "data": label(chosen.config.data.name, arguments.data_root),
        "train": rows["SGD"]["seeds"][0]["images"],
        "rows": rows,
        "against_twin": {
            name: against(row["seeds"], rows[twin(name)]["seeds"])
            for name, row in rows.items()
            if twin(name) not in (name, "SGD") and twin(name) in rows
        },
    }


def as_markdown(figures: dict[str, Any]) -> str:
    """A line for each row, without the columns that say nothing of any."""
    table = [cells_of(name, row) for name, row in figures["rows"].items()]
    heads = [head for head in table[0] if head == "" or any(cells[head] for cells in table)]
    lines = [f"| {' | '.join(heads)} |".replace("|  |", "| |"), "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(cells[head] for head in heads)} |" for cells in table]
    for name, gap in figures.get("against_twin", {}).items():
        lines.append("\n{}, against {}: {} points, {}.".format(name, twin(name), *shown(gap)))
    return "\n".join(lines) + "\n"


def cells_of(name: str, row: Mapping[str, Any]) -> dict[str, str]:
    """By the head of the column."""
    test, nll, calibrated, method = row["test"], row.get("test_nll"), row.get("test_nll_calibrated"), method_of(name)
    gap, between = shown(row["against_sgd"]) if name != "SGD" else ("", "")
    cells = {
        "": name,
        "test accuracy (%)": written(test),
        "against SGD (points)": gap,
        "95 % interval": between,
        "test NLL": f"{nll['mean']:.3f}" if nll else "",
        "calibrated": f"{calibrated['mean']:.3f}" if calibrated else "",
        "evaluations an image": str(row["seeds"][0]["evaluations"] or ""),
    }
    for head, setting in {"learning rate": "lr", "weight decay": "weight_decay", "similarity": "similarity"}.items():
        value = row["chosen"].get(f"{method}.{setting}")
        edge = " (edge of the grid)" if f"{method}.{setting}" in row["at_edge"] else ""
        cells[head] = "" if value is None else f"{value:g}{edge}"
    return cells


def shown(gap: Mapping[str, float]) -> list[str]:
    """A mean difference with its deviation, and its interval."""
    low, high = gap.get("low"), gap.get("high")
    between = "" if low is None or high is None else f"{low:+.1f} to {high:+.1f}"
    return [written(gap, sign="+"), between]


def main(arguments: Arguments) -> None:
    if arguments.case not in CASES:
        raise ConfigError(f"--case {arguments.case}: expected one of {', '.join(CASES)}")
    chosen = CASES[arguments.case]
    figures = measure(arguments, chosen)
    settings = {
        **to_builtins(chosen.config),
        "trials": chosen.trials,
        "tuned_on": chosen.tuned_on,
        "settings_of": arguments.settings_of,
        "finalists": arguments.finalists,
        "seeds": list(arguments.seeds),
    }
    path = write_receipt(
        f"gap-{arguments.case}", figures, settings=settings, device=arguments.device, folder=arguments.figures
    )
    write_table(path, as_markdown(figures))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
