"""How networks that learn searched targets move through representation space, beside SGD; and what recording it costs.

    python -m benchmarks.trajectories --data-root DATA                              # two CPU cores, under half an hour
    python -m benchmarks.trajectories --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images
    python -m benchmarks.trajectories --data-root DATA --scale paper                # a GPU

For each data set and seed (other images, another searched network): solutions that are searched with half, once and twice the step,
so that their targets differ by more and by less, are learned by networks of one start; two of them by networks of a second start too;
and SGD trains networks of three starts. Every network is recorded on images that were searched as well, and that none was trained on.

- curves: cosine distance to the targets and entropies, by epoch (the paper's figures 5 to 7), over all seeds.
- differences: whether other solutions make networks more different than other starts do.
- correlations: whether solutions that are further apart give networks that are.
- recorder: time of training with a record an epoch and without.
- entropy: time of a large collision entropy over that of the one matrix product.

Writes figures/trajectories.json, the table as figures/trajectories.md, and pictures.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from benchmarks.command import launch
from benchmarks.common import PAPER_NETWORK, STORED, Common, Parts, Size, by_place, key, label, named, save_pictures
from benchmarks.receipt import scaled, spread, write_receipt
from decouple import device as devices
from decouple.analysis import collision_entropy
from decouple.config import DataConfig, EsConfig, LearnConfig, SearchConfig, SgdConfig
from decouple.data import ImageData, Split, as_float, load_data
from decouple.files import write_text
from decouple.learn import learn_targets, train_sgd
from decouple.learn.fitting import recorded_epochs
from decouple.networks import Stages, paper_network
from decouple.progress import Progress
from decouple.report.figures import draw_comparison
from decouple.report.figures.pairs import correlation_figure, headline_correlations
from decouple.report.figures.trajectories import distances_figure, entropies_figure
from decouple.results import Interval, TrajectoryCurve, to_json
from decouple.search import TargetStore, search_solution
from decouple.seeds import derive
from decouple.settings import to_builtins
from decouple.training.evaluate import accuracy
from decouple.trajectories import Recorder, Recording, compare_recordings
from decouple.trajectories.results import TrajectoryComparison

NAME = "trajectories"


@dataclass(frozen=True, kw_only=True)
class TrajectorySize(Size):
    probe: int
    """Validation images that are searched and recorded."""
    epochs: int
    records: int = 10
    step_factors: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Of the search's step: two solutions each."""
    sgd: int = 3
    """SGD networks, each from a start of its own."""
    weight_decay: dict[str, float] = field(default_factory=lambda: {"mnist": 2e-2, "cifar10": 5e-2})
    """By data set, for learning and SGD alike."""
    groups: int = 1
    """ConvGroups a block of the trained networks."""
    es: EsConfig = field(default_factory=lambda: EsConfig(population=32, generations=by_place((24, 12, 12, 10))))
    """All blocks are searched, and all are supervised, as in the paper."""
    timed_images: int
    """Training images of the recorder's timing: those of the presets."""
    timed_epochs: int = 2
    """Of the recorder's timing, with a record before the first and after the last: one an epoch, twice as many as the presets make."""
    test: int | None = 2000
    """Test images; None: all."""
    repeats: int = 3
    entropy: tuple[int, int] = (10_000, 12_544)
    """Rows and features of the large collision entropy."""


SCALES = {
    "tiny": TrajectorySize(
        data=("digits",), images=60, batch=30, seeds=(0,), probe=40, epochs=3, timed_images=200, test=100, entropy=(400, 500)
    ),
    "small": TrajectorySize(data=("mnist", "cifar10"), images=1000, batch=125, probe=250, epochs=20, timed_images=10_000),
    "paper": TrajectorySize(
        data=("mnist", "cifar10"),
        images=46_000,
        batch=64,
        network=PAPER_NETWORK,
        probe=500,
        epochs=90,
        groups=2,
        es=EsConfig(),
        timed_images=46_000,
        test=None,
    ),
}


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small", "paper"] = "small"
    """tiny: digits, to try the program; small: 1000 images of MNIST and CIFAR-10, 32 channels; paper: a GPU."""
    seeds: tuple[int, ...] | None = None
    """Default: the scale's."""


@dataclass(frozen=True)
class Setting:
    """What the trainings of one seed share."""

    size: TrajectorySize
    source: str
    seed: int
    data: ImageData
    device: torch.device
    folder: Path

    @property
    def probe(self) -> Split:
        return self.data.validation

    def network(self, groups: int, *what: str | int) -> Stages:
        """A new network, its start named by `what`."""
        images, seed = self.data.train.images, derive(self.seed, *what)
        return paper_network(images, self.data.num_classes, self.size.network, groups=groups, seed=seed).to(self.device)

    def recorder(self, network: Stages, name: str, **about: Any) -> Recorder:
        return Recorder(
            {point: f"stages.{i}" for i, point in enumerate(network.names)},
            as_float(self.probe.images),
            self.folder / name,
            ids=self.probe.ids,
            labels=self.probe.labels,
            at=recorded_epochs(self.size.epochs, self.size.records),
            logits=network.names[-1],
            **about,
        )

    @property
    def training(self) -> dict[str, Any]:
        return {"epochs": self.size.epochs, "weight_decay": self.size.weight_decay.get(key(self.source), 2e-2)}


def setting_of(arguments: Arguments, size: TrajectorySize, source: str, seed: int, folder: Path, images: int) -> Setting:
    wanted = DataConfig(name=source, train=images, validation=size.probe, prior=20, test=size.test, seed=seed)
    data = load_data(wanted, data_root=arguments.data_root)
    return Setting(size, source, seed, data, devices.resolve(arguments.device), folder)


def measure(arguments: Arguments, size: TrajectorySize, source: str, seed: int) -> dict[str, Any]:
    """Search, train, record and compare for one seed."""
    began = time.monotonic()
    # At the scale of the paper six solutions take 40 GB: they lie where the parts do, if that was said.
    with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
        setting = setting_of(arguments, size, source, seed, Path(folder), size.images)
        learned, targets, search_seconds = _solutions(setting)
        recordings, accuracies = [], {}
        trainings: list[tuple[str, int, str | None]] = [(f"{name}, start 0", 0, name) for name in learned]
        trainings += [(f"{name}, start 1", 1, name) for name in learned if name.startswith("step ×1 ")]
        trainings += [(f"SGD, start {start}", start, None) for start in range(size.sgd)]
        for name, start, solution in trainings:
            network = setting.network(size.groups, "start", start)
            kind = "sgd" if solution is None else "search"
            recorder = setting.recorder(network, name, kind=kind, solution=solution, start=str(start))
            arguments_of_all: dict[str, Any] = {
                "validation": setting.probe,
                "seed": derive(seed, "batches", start),
                "record": recorder,
            }
            if solution is None:
                train_sgd(network, setting.data.train, config=SgdConfig(**setting.training), **arguments_of_all)
            else:
                config = LearnConfig(**setting.training, **STORED, supervise="all")
                learn_targets(network, setting.data.train, learned[solution], config=config, **arguments_of_all)
            recordings.append(Recording.open(recorder.folder))
            accuracies[name] = accuracy(network, setting.data.test)
        compared = compare_recordings(recordings, targets=targets)
    return {
        "comparison": to_json(compared),
        "test_accuracy": accuracies,
        "search_seconds": search_seconds,
        "seconds": time.monotonic() - began,
    }


def _solutions(setting: Setting) -> tuple[dict[str, TargetStore], dict[str, dict[str, torch.Tensor]], float]:
    """By name: targets of the training images, and of the probe."""
    began, size = time.monotonic(), setting.size
    searched = setting.network(1, "searched")
    learned, targets = {}, {}
    for factor in size.step_factors:
        assert isinstance(size.es.step, dict)
        es = replace(size.es, step={point: factor * step for point, step in size.es.step.items()})
        for number in range(2):
            name = f"step ×{factor:g} #{number}"
            stores = [
                search_solution(
                    searched,
                    split,
                    setting.folder / f"targets-{factor:g}-{what}",
                    config=SearchConfig(batch=size.batch, points="all", es=es),
                    seed=setting.seed,
                    solution=number,
                    dtype=getattr(torch, size.dtype),
                )
                for what, split in (("train", setting.data.train), ("probe", setting.probe))
            ]
            learned[name] = stores[0]
            rows = stores[1].rows(torch.arange(len(setting.probe)))
            targets[name] = {point: values.float() for point, values in zip(searched.names, rows, strict=True)}
    return learned, targets, time.monotonic() - began


def time_recorder(arguments: Arguments, size: TrajectorySize, source: str) -> dict[str, Any]:
    """Time of SGD training with a record before the first epoch and after the last, and without any; in turns."""
    times: dict[str, list[float]] = {"plain": [], "recorded": []}
    with tempfile.TemporaryDirectory() as folder:
        setting = setting_of(arguments, size, source, 0, Path(folder), size.timed_images)
        config = SgdConfig(**{**setting.training, "epochs": size.timed_epochs})
        for number in range(1 + size.repeats):  # the first warms up
            for what, found in times.items():
                network = setting.network(size.groups, "timed")
                extra: dict[str, Any] = {}
                if what == "recorded":
                    timed = replace(setting, size=replace(size, epochs=size.timed_epochs, records=2))
                    extra["record"] = timed.recorder(network, f"r{number}")
                began = time.monotonic()
                train_sgd(network, setting.data.train, validation=setting.probe, config=config, **extra)
                if setting.device.type == "cuda":
                    torch.cuda.synchronize(setting.device)
                if number:
                    found.append(time.monotonic() - began)
    ratios = [recorded / plain for plain, recorded in zip(*times.values(), strict=True)]
    return {
        "images": size.timed_images,
        "probe": size.probe,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "seconds": times,
    }


def time_entropy(shape: tuple[int, int], repeats: int, threads: int) -> dict[str, Any]:
    """Time of a collision entropy over that of X·Xᵀ, in turns, and the memory that it takes beside its input."""
    torch.set_num_threads(threads)
    reps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = _peak_bytes()
    collision_entropy(reps)
    memory = _peak_bytes() - before
    times: dict[str, list[float]] = {"entropy": [], "product": []}
    for _ in range(repeats):
        began = time.monotonic()
        collision_entropy(reps)
        middle = time.monotonic()
        reps @ reps.T
        times["entropy"].append(middle - began)
        times["product"].append(time.monotonic() - middle)
    ratios = [entropy / product for entropy, product in zip(*times.values(), strict=True)]
    return {
        "shape": list(shape),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "seconds": times,
        "extra_bytes": memory,
        "input_bytes": reps.nbytes,
        "gram_bytes": 4 * shape[0] ** 2,
    }


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _alone(shape: tuple[int, int], repeats: int) -> dict[str, Any]:
    """In a process of its own, whose peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(time_entropy, (shape, repeats, torch.get_num_threads()))


def run(arguments: Arguments, size: TrajectorySize) -> dict[str, Any]:
    parts = Parts(arguments.out, NAME, size)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    sources = arguments.data or size.data
    entries, pictures = [], {}
    with Progress().task(NAME, len(sources) * (len(size.seeds) + 1) + 1, "parts") as advance:
        for source in sources:
            seeds = []
            for seed in size.seeds:
                seeds.append(parts.get(f"{key(source)}-seed{seed}", partial(measure, arguments, size, source, seed)))
                advance(1)
            timed = parts.get(f"{key(source)}-recorder", partial(time_recorder, arguments, size, source))
            advance(1)
            found = [msgspec.convert(seed["comparison"], TrajectoryComparison) for seed in seeds]
            entries.append({"data": label(source, arguments.data_root), **summary(seeds, found), "recorder": timed})
            pictures[key(source)] = found
        entropy = parts.get("entropy", partial(_alone, size.entropy, size.repeats))
        advance(1)
    return {"data": entries, "entropy": entropy, "pictures": pictures}


def summary(seeds: list[dict[str, Any]], found: list[TrajectoryComparison]) -> dict[str, Any]:
    """The figures of a data set over its seeds: mean and deviation over the seeds, and each seed's with its interval."""
    layers, logits = found[0].layers, found[0].logits
    curves = {
        kind: {
            name: {
                layer: [spread([_mean_end(one, kind, name, layer, end) for one in found]) for end in (0, -1)]
                for layer in layers
            }
            for name in ("cosine_distance", "within_entropy", "between_entropy")
        }
        for kind in ("search", "sgd")
    }
    differences = [
        {
            "one": difference.one,
            "other": difference.other,
            "distance": {layer: _over_seeds([one.differences[i].distance[layer] for one in found]) for layer in layers},
            "disagreement": _over_seeds([one.differences[i].disagreement for one in found]),
        }
        for i, difference in enumerate(found[0].differences)
    ]
    correlations = [
        {
            "family": entry.family,
            "pairs": entry.pairs,
            "layer": entry.layer,
            "targets": entry.targets,
            "representations": _over_seeds([one.correlations[i].representations for one in found]),
            "predictions": _over_seeds([one.correlations[i].predictions for one in found]),
        }
        for i, entry in enumerate(found[0].correlations)
        if entry.layer != logits
    ]
    families = {
        name: {
            "pairs": family.pairs,
            "distance": {layer: _over_seeds([one.families[name].distance[layer] for one in found]) for layer in layers},
            "disagreement": _over_seeds([one.families[name].disagreement for one in found]),
        }
        for name, family in found[0].families.items()
    }
    names = {"search": lambda name: not name.startswith("SGD"), "sgd": lambda name: name.startswith("SGD")}
    return {
        "layers": layers,
        "headline": found[0].headline,
        "test_accuracy": {
            kind: spread([statistics.mean(v for n, v in seed["test_accuracy"].items() if of(n)) for seed in seeds])
            for kind, of in names.items()
        },
        "curves_first_and_last": curves,
        "families": families,
        "differences": differences,
        "correlations": correlations,
        "seconds": [seed["seconds"] for seed in seeds],
    }


def _mean_end(found: TrajectoryComparison, kind: str, series: str, layer: str, end: int) -> float:
    """Mean over the networks of a kind, at the first (0) or the last (−1) record."""
    curves = [found.trajectories[name] for name, network in found.networks.items() if network.kind == kind]
    return statistics.mean(getattr(curve, series)[layer][end] for curve in curves)


def _over_seeds(bounds: Sequence[Interval | None]) -> dict[str, Any] | None:
    known = [each for each in bounds if each is not None]
    if not known:
        return None
    return {**spread([each.value for each in known]), "seeds": [[each.value, each.low, each.high] for each in known]}


def draw(arguments: Arguments, name: str, found: dict[str, list[TrajectoryComparison]]) -> None:
    """Curves over all seeds; map, matrix and families of the first."""
    for source, seeds in found.items():
        families: dict[str, list[TrajectoryCurve]] = {"search": [], "sgd": []}
        for one in seeds:
            for network, about in one.networks.items():
                families[about.kind].append(one.trajectories[network])
        figures = {
            "distances": distances_figure(seeds[0].layers, families, "epoch"),
            "entropies": entropies_figure(seeds[0].layers, families, "epoch"),
        }
        drawn = draw_comparison(seeds[0], "epoch")
        figures |= {what: drawn[what] for what in ("map", "pairs", "families")}
        if shown := headline_correlations(seeds[0]):
            figures["correlation"] = correlation_figure(shown)
        for what, figure in figures.items():
            save_pictures(figure, f"{name}-{source}-{what}", arguments.figures)


def as_markdown(found: dict[str, Any]) -> str:
    """The table, for the README."""

    def cells(value: dict[str, Any] | None) -> tuple[str, str]:
        if value is None:
            return "–", "–"
        low, high = min(seed[1] for seed in value["seeds"]), max(seed[2] for seed in value["seeds"])
        texts = f"{value['mean']:+.3f} ± {value['std']:.3f}", f"{low:+.3f} to {high:+.3f}"
        return texts[0].replace("-", "−"), texts[1].replace("-", "−")

    texts = []
    for entry in found["data"]:
        layer, curves = entry["headline"], entry["curves_first_and_last"]
        rows: list[tuple[str, str, str]] = []
        for kind, name in (("search", "searched"), ("sgd", "SGD")):
            reached = entry["test_accuracy"][kind]
            rows.append((f"test accuracy (%): {name}", f"{100 * reached['mean']:.1f} ± {100 * reached['std']:.1f}", ""))
        for kind, name in (("search", "searched"), ("sgd", "SGD")):
            ends = " → ".join(f"{end['mean']:.2f}" for end in curves[kind]["cosine_distance"][layer])
            rows.append((f"distance to the targets at {layer}, first → last epoch: {name}", ends, ""))
        for difference in entry["differences"]:
            what = f"{difference['one']}, less {difference['other']}".replace("sgd", "SGD")
            rows.append((f"1 − CKA at {layer}: {what}", *cells(difference["distance"][layer])))
            rows.append((f"disagreement: {what}", *cells(difference["disagreement"])))
        for correlation in entry["correlations"]:
            if correlation["layer"] == layer and correlation["family"] == entry["correlations"][0]["family"]:
                measure = {"cosine": "cosine distance", "cka": "1 − CKA"}[correlation["targets"]]
                what = f"rank correlation of the targets' {measure} at {layer}, {correlation['pairs']} pairs a seed"
                rows.append((f"{what}, with the networks' 1 − CKA", *cells(correlation["representations"])))
                rows.append((f"{what}, with their disagreement", *cells(correlation["predictions"])))
        head = f"| {entry['data']} | mean ± deviation over seeds | ends of the seeds' 95 % intervals over images |"
        texts.append("\n".join([head, "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n")
    return "\n".join(texts)


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    if arguments.seeds is not None:
        size = replace(size, seeds=arguments.seeds)
    found = run(arguments, size)
    name = scaled(NAME, arguments.scale)
    draw(arguments, name, found.pop("pictures"))
    settings = {**to_builtins(size), "scale": arguments.scale, "data": named(arguments.data or size.data)}
    figures = {"seconds_of_last_sitting": time.monotonic() - began, **found}
    path = write_receipt(name, figures, settings=settings, device=arguments.device, folder=arguments.figures)
    write_text(arguments.figures / f"{name}.md", as_markdown(found))
    print(as_markdown(found))
    for entry in found["data"]:
        print(f"{entry['data']}: training with a recorder takes {entry['recorder']['ratio']:.3f} of the time without")
    entropy = found["entropy"]
    print(
        f"collision entropy of {'×'.join(map(str, entropy['shape']))}: {entropy['ratio']:.2f} of the time of X·Xᵀ, "
        f"{entropy['extra_bytes'] / 2**20:.0f} MiB beside its input (the Gram matrix alone: {entropy['gram_bytes'] / 2**20:.0f} MiB)"
    )
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
