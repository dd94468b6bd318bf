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

Cases `mnist-lenet`, `-mlp`, `-resnet` and `-vit` have other networks (`benchmarks.networks`), 1000 images, the default search, and
random search in its place; LeNet and the MLP also with a last layer that sees normalised values, as searched targets are: that is
the second bar there.

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

from benchmarks.command import launch
from benchmarks.common import Placed, check_rows, label, leave
from benchmarks.gap_cases import CASES, Case, twin
from benchmarks.receipt import FIGURES, markdown, written
from benchmarks.rows import against, opened, summary, trained
from decouple.config import RunConfig, TuneConfig
from decouple.errors import ConfigError
from decouple.files import read_json
from decouple.pipeline import RunDirectory
from decouple.pipeline.trials import Trial, Tuning, configured
from decouple.pipeline.tune import tune
from decouple.settings import located, to_builtins


@dataclass(frozen=True)
class Arguments(Placed):
    out: Path
    """Folder of the runs, which a later call continues."""
    case: str = "mnist"
    """tiny (to try the program), digits, mnist, cifar10, cifar10-deep (two ConvGroups a block); mnist-lenet,
    mnist-mlp, mnist-resnet, mnist-vit (other networks); mnist-1k, mnist-3k, mnist-10k,
    mnist-58k, cifar10-2k, cifar10-10k or cifar10-10k-flip-crop (augmented)."""
    rows: tuple[str, ...] = ()
    """Names of the rows to measure beside SGD; default: those of the case but for rounds and heads."""
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
    text = markdown(heads, [[cells[head] for head in heads] for cells in table])
    for name, gap in figures.get("against_twin", {}).items():
        text += "\n{}, against {}: {} points, {}.\n".format(name, twin(name), *shown(gap))
    return text


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
    leave(f"gap-{arguments.case}", arguments, figures, settings=settings, table=as_markdown(figures))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
