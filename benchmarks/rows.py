"""Rows of tables: networks that a run's own stages search for, learn and test, so that a stopped row continues as a run does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.receipt import markdown, spread, written
from decouple.config import RunConfig
from decouple.pipeline import Run, RunDirectory, open_run
from decouple.pipeline.learning import learn, learn_results, networks_of
from decouple.pipeline.searching import search
from decouple.progress import Progress


@contextmanager
def opened(
    folder: Path, config: RunConfig, *, device: str, data_root: Path | None, progress: Progress | None = None
) -> Iterator[Run]:
    """The run directory `folder`, in which rows of the same images share what they have in common; its settings become `config`."""
    with RunDirectory(folder) as directory:
        options: dict[str, Any] = {"device": device, "data_root": data_root, "progress": progress or Progress()}
        with open_run(directory, config, **options) as run:
            directory.write_config(config)
            yield run


def trained(run: Run, *, sgd: bool) -> dict[str, Any]:
    """The network that the run's settings describe, after its last round, tested; and what its search has cost and reached.

    Args:
        run: with one solution and one depth of SGD.
        sgd: the baseline's network, in place of the searched one.
    """
    stores = [] if sgd else search(run)
    seconds = {} if sgd else {"search_seconds": _seconds(run, "search")}
    networks = learn(run, stores, [each for each in networks_of(run) if (each.kind == "sgd") == sgd])
    results = list(learn_results(run, networks)[0].values())
    images = len(run.data.train)
    found: dict[str, Any] = {
        "validation": results[-1].validation_accuracy,
        "test": results[-1].test_accuracy,
        "test_nll": results[-1].test_nll,
        "test_nll_calibrated": results[-1].calibrated_nll,
        "temperature": results[-1].temperature,
        "steps": sum(result.gradient_steps for result in results),
        "images": images,
        "evaluations": sum(result.search_evaluations for result in results) // images,
        "learn_seconds": _seconds(run, "learn"),
        **seconds,
    }
    if stores:
        found |= {name: stores[0].diagnostics()[key].mean(1).tolist() for name, key in DIAGNOSTICS.items()}
    return found


DIAGNOSTICS = {"cross_entropy": "after", "cosine": "cosine"}
"""Of the first search, by search point."""


def _seconds(run: Run, stage: str) -> float:
    """Of the stage that was done last, over all sittings."""
    return float(run.directory.read_run()["stages"][stage]["seconds"])


def summary(seeds: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Mean and deviation over the seeds, of accuracies in per cent, and of the difference to the baseline of the same seeds."""
    row: dict[str, Any] = {name: spread([100 * seed[name] for seed in seeds]) for name in ("validation", "test")}
    for name in ("test_nll", "test_nll_calibrated"):
        if name in seeds[0]:  # rows that an earlier version measured were not calibrated
            row[name] = spread([seed[name] for seed in seeds])
    if baseline:
        row["against_sgd"] = against(seeds, baseline)
    return row | {"steps": seeds[0]["steps"], "evaluations": seeds[0]["evaluations"]}


def against(seeds: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The difference in test accuracy to the baseline of the same seeds, in points: mean, deviation, and Student's interval of 95 %
    for the mean, if there are several seeds."""
    found = spread([100 * (a["test"] - b["test"]) for a, b in zip(seeds, baseline, strict=False)])
    if found["n"] < 2:
        return found
    half = float(stats.t.ppf(0.975, found["n"] - 1)) * found["std"] / found["n"] ** 0.5
    return found | {"low": found["mean"] - half, "high": found["mean"] + half}


def as_markdown(entries: Sequence[Mapping[str, Any]], further: Sequence[str] = ()) -> str:
    """A line for each row of each entry; a row's `cells` stand under the heads that are given `further`."""
    heads = ["data", "images", "", "test accuracy (%)", "against SGD (points)", "evaluations an image", "gradient steps"]
    rows = []
    for entry in entries:
        for name, row in entry["rows"].items():
            test, gap = row["test"], row.get("against_sgd")
            difference = "" if name == "SGD" or gap is None else written(gap, sign="+")
            cells = [entry["data"], entry["train"], name, written(test), difference]
            rows.append([*cells, row["evaluations"] or "", row["steps"], *row.get("cells", ())])
    return markdown([*heads, *further], rows)
