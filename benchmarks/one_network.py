"""How much of what a population gains over one network a single network keeps that is distilled from it.

    python -m benchmarks.one_network --data-root DATA --data mnist                  # two CPU cores, half an hour
    python -m benchmarks.one_network --data-root DATA --data mnist folder:cifar10   # and CIFAR-10 as a folder of images

A population of q0 in two trajectories, as in `benchmarks.q0_starts`, with its learned prior and temperature; and networks of one
start that are trained equally long, at the same rates: on the labels, or mostly on what the population answers, of the images as they
are, of augmented views, or of mixtures of two. All are calibrated: the networks by the validation images, the population by the
prior part. What a network keeps is its gain over the one that learns the labels of the images, as a share of the population's, both
means over the seeds. Writes figures/one_network.json and .md.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.command import launch
from benchmarks.common import Common, Parts, check_rows, key, label, leave, named
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
from decouple.tasks.base import Teacher
from decouple.training.evaluate import logits
from decouple.training.stream import Batch

NAME = "one_network"
RATES = {"digits": (0.3, 0.06), "mnist": (0.6, 0.03), "cifar10": (0.6, 0.12)}
"""Learning rate and weight decay of one network, by data: what was best for the longest that `benchmarks.q0_images` tuned."""


class Mixtures(ImageTask):
    """On mixtures λ·x_i + (1 − λ)·x_j of a batch's images in random pairs, each with a λ that is uniform in 0…1: the labels by their
    shares, or what a teacher answers there.

    Sources: Zhang et al., "mixup" (2018); with a teacher and without labels, Beyer et al., "Knowledge distillation: a good teacher is
    patient and consistent" (2022).
    """

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        mixed, share, partners = mixtures(batch)
        says = network(mixed).float().log_softmax(1)
        own, other = (functional.nll_loss(says, each, reduction="none") for each in (batch.labels, batch.labels[partners]))
        return (share * own + (1 - share) * other).mean()

    def distillation_loss(
        self, network: nn.Module, teacher: Teacher, batch: Batch, *, alpha: float, temperature: float
    ) -> Tensor:
        mixed = batch._replace(inputs=mixtures(batch)[0])
        return super().distillation_loss(network, teacher, mixed, alpha=1.0, temperature=temperature)


def mixtures(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The mixtures; λ (B,), and each image's j (B,)."""
    images, stream = batch.inputs, batch.generator("mixtures", device=torch.device("cpu"))
    share = torch.rand(len(images), generator=stream).to(images.device)
    partners = torch.randperm(len(images), generator=stream).to(images.device)
    own = share.to(images.dtype).view(-1, *[1] * (images.dim() - 1))
    return own * images + (1 - own) * images[partners], share, partners


ROWS: dict[str, tuple[type[ImageTask], bool, float]] = {
    "labels": (ImageTask, False, 0.0),
    "distilled": (ImageTask, False, 0.9),
    "labels, augmented": (ImageTask, True, 0.0),
    "distilled, augmented": (ImageTask, True, 0.9),
    "labels of mixtures": (Mixtures, False, 0.0),
    "distilled on mixtures": (Mixtures, False, 0.9),
}
"""By network: its task, whether images are augmented, and the weight of the population's answers."""
VIEWS = {"digits": "crop", "mnist": "crop", "cifar10": "flip-crop"}
"""Augmentation, by data."""


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: 2000 images of MNIST or 5000 of CIFAR-10."""
    epochs: int = 64
    """Of one network."""
    rows: tuple[str, ...] = ()
    """Networks to train beside the one that learns labels; default: all."""
    name: str = ""
    """Added to the names of the files, where only some rows are measured."""


def population(bench: Bench, folder: Path, seed: int) -> Ensemble:
    """Trained into a folder, or read from it."""
    size = bench.size
    cycles = cycles_in(size.budget // 2, size.base.epochs_in(0), size.base.epochs)
    starts = [bench.new(seed, trajectory) for trajectory in range(2)]
    config = replace(size.base, cycles=cycles)
    return train_population(starts, bench.data, folder, config=config, seed=seed, precision=size.precision)


def measure(bench: Bench, arguments: Arguments, source: str, seed: int, folder: Path, row: str) -> dict[str, float]:
    """Figures of a network, or of the population."""
    size, data, began = bench.size, bench.data, time.perf_counter()
    ensemble = population(bench, folder, seed)
    if row == "population":
        return figures(ensemble, data.test) | {"seconds": time.perf_counter() - began}
    (lr, decay), (kind, augmented, alpha), began = RATES[key(source)], ROWS[row], time.perf_counter()
    training = replace(size.base, epochs=arguments.epochs, lr=lr, weight_decay=decay, temperature=1.0)
    student, task = bench.network(derive(seed, NAME)), kind(data, VIEWS[key(source)] if augmented else "none")
    one = distill(ensemble, student, task, training, alpha=alpha, seed=seed, precision=size.precision)
    one.temperature = fit_temperature(logits(one, data.validation).double().exp(), data.validation.labels)
    return figures(one, data.test) | {"seconds": time.perf_counter() - began}


def figures(model: Ensemble, test: Split) -> dict[str, float]:
    """Accuracy, and NLL before and after calibration."""
    calibrated = logits(model, test).double().exp()
    plain = tempered(calibrated, 1 / model.temperature)
    return {
        "accuracy": 100 * float((calibrated.argmax(1) == test.labels).double().mean()),
        "nll": float(nll(p_truth(plain, test.labels))),
        "calibrated": float(nll(p_truth(calibrated, test.labels))),
    }


def kept(rows: Mapping[str, Mapping[str, Mapping[str, float]]], row: str, figure: str) -> float | None:
    """A network's share of the population's gain over the network that learns labels; None: it has none."""
    means = {name: rows[name][figure]["mean"] for name in ("population", "labels", row)}
    gain = means["population"] - means["labels"]
    better = gain > 0 if figure == "accuracy" else gain < 0
    return (means[row] - means["labels"]) / gain if better else None


def run(arguments: Arguments) -> dict[str, dict[str, Any]]:
    """An entry for each data set."""
    check_rows(arguments.rows, ROWS)
    entries = {}
    for source, size in sizes_of(arguments.scale, arguments.data):
        parts = Parts(arguments.out, NAME, (size, arguments.epochs))
        with tempfile.TemporaryDirectory() as temporary:
            folder = (parts.folder or Path(temporary)) / key(source)
            entries[label(source, arguments.data_root)] = entry_of(arguments, source, size, parts, folder)
    return entries


def entry_of(arguments: Arguments, source: str, size: ImageSize, parts: Parts, folder: Path) -> dict[str, Any]:
    bench = Bench(source, size, arguments.data_root, arguments.device, parts)
    names = ["population", *(row for row in ROWS if not arguments.rows or row in ("labels", *arguments.rows))]
    makers = {
        (key(source), seed, row): partial(measure, bench, arguments, source, seed, folder / str(seed), row)
        for seed in size.seeds
        for row in names
    }
    found = parts.all(f"{NAME}, {key(source)}", makers)
    seeds = {row: [found[key(source), seed, row] for seed in size.seeds] for row in names}
    rows = {row: {figure: spread([each[figure] for each in own]) for figure in own[0]} for row, own in seeds.items()}
    shares = {row: {figure: kept(rows, row, figure) for figure in ("accuracy", "calibrated")} for row in names[2:]}
    return {"train": size.train, "rows": rows, "kept": shares, "seeds": seeds, "settings": to_builtins(size)}


def as_markdown(entries: dict[str, dict[str, Any]]) -> str:
    rows = []
    for data, entry in entries.items():
        for name, row in entry["rows"].items():
            cells = [written(row["accuracy"], 2), *(written(row[figure], 4) for figure in ("nll", "calibrated"))]
            of_row = entry["kept"].get(name, {}).values()
            shares = ["none to keep" if share is None else f"{share:.0%}" for share in of_row] or ["", ""]
            rows.append([f"{data}, {entry['train']}", name, *cells, *shares, f"{row['seconds']['mean']:.0f}"])
    return markdown(
        ["data", "", "test accuracy (%)", "test NLL", "calibrated", "kept, accuracy", "kept, NLL", "seconds"], rows
    )


def main(arguments: Arguments) -> None:
    devices.prepare()
    entries = run(arguments)
    settings = {"scale": arguments.scale, "epochs": arguments.epochs, "data": named(arguments.data or ())}
    leave(NAME, arguments, {"data": entries}, settings=settings, table=as_markdown(entries))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
