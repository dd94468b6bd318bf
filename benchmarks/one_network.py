"""How much of what a population gains over one network a single network keeps that is distilled from it.

    python -m benchmarks.one_network --data-root DATA --data mnist                  # two CPU cores, ten minutes
    python -m benchmarks.one_network --data-root DATA --data mnist folder:cifar10   # and CIFAR-10 as a folder of images

A population of q0 in two trajectories, as in `benchmarks.q0_starts`, with its learned prior and temperature; and two networks of one
start that are trained equally long, at the same rates: on the labels alone, and mostly on what the population answers. All are
calibrated: the networks by the validation images, the population by the prior part. A gain that is kept is the distilled network's
over the other, as a share of the population's, both means over the seeds. Writes figures/one_network.json and .md.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from benchmarks.command import launch
from benchmarks.common import Common, Parts, key, label, leave, named
from benchmarks.q0_images import Bench, ImageSize, sizes_of
from benchmarks.receipt import markdown, spread, written
from benchmarks.recipes import cycles_in
from decouple import device as devices
from decouple.analysis import fit_temperature, p_truth, tempered
from decouple.data import Split
from decouple.q0 import Ensemble, nll, train_population
from decouple.q0.compress import distill
from decouple.seeds import derive
from decouple.settings import to_builtins
from decouple.tasks import ImageTask
from decouple.training.evaluate import logits

NAME = "one_network"
RATES = {"digits": (0.3, 0.06), "mnist": (0.6, 0.03), "cifar10": (0.6, 0.12)}
"""Learning rate and weight decay of one network, by data: what was best for the longest that `benchmarks.q0_images` tuned."""
ROWS = {"labels": 0.0, "distilled": 0.9}
"""Weight of the population's answers, by network."""


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: 2000 images of MNIST or 5000 of CIFAR-10."""
    epochs: int = 64
    """Of one network."""


def measure(bench: Bench, arguments: Arguments, source: str, seed: int) -> dict[str, dict[str, float]]:
    """Figures of the population and of both networks."""
    size, data = bench.size, bench.data
    cycles = cycles_in(size.budget // 2, size.base.epochs_in(0), size.base.epochs)
    config, began = replace(size.base, cycles=cycles), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        starts = [bench.new(seed, trajectory) for trajectory in range(2)]
        ensemble = train_population(starts, data, folder, config=config, seed=seed, precision=size.precision)
    found = {"population": figures(ensemble, data.test) | {"seconds": time.perf_counter() - began}}
    lr, decay = RATES[key(source)]
    training = replace(size.base, epochs=arguments.epochs, lr=lr, weight_decay=decay, temperature=1.0)
    for name, alpha in ROWS.items():
        student, began = bench.network(derive(seed, NAME)), time.perf_counter()
        task = ImageTask(data, training.augment)
        one = distill(ensemble, student, task, training, alpha=alpha, seed=seed, precision=size.precision)
        one.temperature = fit_temperature(logits(one, data.validation).double().exp(), data.validation.labels)
        found[name] = figures(one, data.test) | {"seconds": time.perf_counter() - began}
    return found


def figures(model: Ensemble, test: Split) -> dict[str, float]:
    """Accuracy, and NLL before and after calibration."""
    calibrated = logits(model, test).double().exp()
    plain = tempered(calibrated, 1 / model.temperature)
    return {
        "accuracy": 100 * float((calibrated.argmax(1) == test.labels).double().mean()),
        "nll": float(nll(p_truth(plain, test.labels))),
        "calibrated": float(nll(p_truth(calibrated, test.labels))),
    }


def kept(seeds: Sequence[dict[str, dict[str, float]]], figure: str) -> float | None:
    """Share of the population's gain; None: it has none."""
    means = {row: sum(seed[row][figure] for seed in seeds) / len(seeds) for row in seeds[0]}
    gain = means["population"] - means["labels"]
    better = gain > 0 if figure == "accuracy" else gain < 0
    return (means["distilled"] - means["labels"]) / gain if better else None


def run(arguments: Arguments) -> dict[str, dict[str, Any]]:
    """An entry for each data set."""
    entries = {}
    for source, size in sizes_of(arguments.scale, arguments.data):
        parts = Parts(arguments.out, NAME, (size, arguments.epochs))
        entries[label(source, arguments.data_root)] = entry_of(arguments, source, size, parts)
    return entries


def entry_of(arguments: Arguments, source: str, size: ImageSize, parts: Parts) -> dict[str, Any]:
    bench = Bench(source, size, arguments.data_root, arguments.device, parts)
    makers = {(key(source), seed): partial(measure, bench, arguments, source, seed) for seed in size.seeds}
    seeds = list(parts.all(f"{NAME}, {key(source)}", makers).values())
    rows = {row: {figure: spread([seed[row][figure] for seed in seeds]) for figure in seeds[0][row]} for row in seeds[0]}
    return {
        "train": size.train,
        "rows": rows,
        "kept": {figure: kept(seeds, figure) for figure in ("accuracy", "calibrated")},
        "seeds": seeds,
        "settings": to_builtins(size),
    }


def as_markdown(entries: dict[str, dict[str, Any]]) -> str:
    rows, lines = [], []
    for data, entry in entries.items():
        for name, row in entry["rows"].items():
            cells = [written(row["accuracy"], 2), *(written(row[figure], 4) for figure in ("nll", "calibrated"))]
            rows.append([f"{data}, {entry['train']}", name, *cells, f"{row['seconds']['mean']:.0f}"])
    for data, entry in entries.items():
        shares = {figure: "none to keep" if share is None else f"{share:.0%}" for figure, share in entry["kept"].items()}
        lines.append(
            f"- {data}: of the population's gain, the distilled network keeps {shares['accuracy']} in accuracy and "
            f"{shares['calibrated']} in NLL."
        )
    table = markdown(["data", "", "test accuracy (%)", "test NLL", "calibrated", "seconds"], rows)
    return "\n".join([table, *lines]) + "\n"


def main(arguments: Arguments) -> None:
    devices.prepare()
    entries = run(arguments)
    settings = {"scale": arguments.scale, "epochs": arguments.epochs, "data": named(arguments.data or ())}
    leave(NAME, arguments, {"data": entries}, settings=settings, table=as_markdown(entries))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
