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

import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from benchmarks.ablations import AblationSize, base_of
from benchmarks.command import launch
from benchmarks.common import PAPER_NETWORK, Common, Parts, by_place, key, label, leave, save_pictures
from benchmarks.receipt import markdown, scaled, spread, written
from benchmarks.rows import opened
from decouple import device as devices
from decouple.analysis import collision_entropy
from decouple.config import CompareConfig, EsConfig, RunConfig, SgdConfig
from decouple.data import as_float, load_data
from decouple.learn import train_sgd
from decouple.networks import paper_network
from decouple.pipeline import Run
from decouple.pipeline.comparing import probe_targets
from decouple.pipeline.learning import Trained, learn, networks_of, probe_of
from decouple.pipeline.searching import search
from decouple.progress import Progress
from decouple.report.figures import draw_comparison
from decouple.report.figures.pairs import correlation_figure, headline_correlations
from decouple.report.figures.trajectories import distances_figure, entropies_figure
from decouple.results import Interval, TrajectoryCurve, to_json
from decouple.search import TargetStore
from decouple.seeds import derive
from decouple.training.evaluate import accuracy
from decouple.trajectories import Recorder, Recording, compare_recordings
from decouple.trajectories.results import TrajectoryComparison

NAME = "trajectories"


@dataclass(frozen=True, kw_only=True)
class TrajectorySize(AblationSize):
    """`validation` is of the images that are searched and recorded."""

    records: int = 10
    step_factors: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Of the search's step: two solutions each."""
    sgd: int = 3
    """SGD networks, each from a start of its own."""
    es: EsConfig = field(
        default_factory=lambda: EsConfig(population=32, subspaces=1, generations=by_place((24, 12, 12, 10)))
    )
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
        data=("digits",),
        images=60,
        batch=30,
        seeds=(0,),
        validation=40,
        epochs=3,
        timed_images=200,
        test=100,
        entropy=(400, 500),
    ),
    "small": TrajectorySize(
        data=("mnist", "cifar10"), images=1000, batch=125, validation=250, epochs=20, timed_images=10_000
    ),
    "paper": TrajectorySize(
        data=("mnist", "cifar10"),
        images=46_000,
        batch=64,
        network=PAPER_NETWORK,
        validation=500,
        epochs=90,
        groups=2,
        es=EsConfig(subspaces=1),
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


def settings_of(size: TrajectorySize, source: str, seed: int) -> RunConfig:
    """What all trainings of a seed share."""
    base = base_of(size, source, seed)
    return replace(
        base,
        data=replace(base.data, test=size.test),
        search=replace(base.search, points="all", solutions=2),
        learn=replace(base.learn, supervise="all"),
        compare=CompareConfig(images=size.validation, records=size.records),
    )


def measure(arguments: Arguments, size: TrajectorySize, source: str, seed: int) -> dict[str, Any]:
    """Search, train, record and compare for one seed."""
    began, base, recordings, targets = time.monotonic(), settings_of(size, source, seed), [], {}
    accuracies: dict[str, float] = {}
    # At the scale of the paper six solutions take 40 GB: they lie where the parts do, if that was said.
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.out)))
        run = stack.enter_context(opened(folder, base, progress=Progress(quiet=True), **arguments.place))

        def add(run: Run, stores: list[TargetStore], trained: Trained, solution: str | None, start: int) -> None:
            place = trained.folder / f"start-{start}"  # whose name decides the batches too
            trained = replace(trained, seed=derive(seed, "start", start), folder=place)
            learn(run, stores, [trained])
            name = f"{solution or 'SGD'}, start {start}"
            recordings.append(
                replace(Recording.open(place), name=name, kind=trained.kind, solution=solution, start=str(start))
            )
            accuracies[name] = accuracy(trained.network(run), run.data.test)

        for factor in size.step_factors:
            assert isinstance(size.es.step, dict)
            es = replace(size.es, step={point: factor * step for point, step in size.es.step.items()})
            of_step = replace(run, config=replace(base, search=replace(base.search, es=es)))
            stores, probed = search(of_step), probe_targets(of_step, probe_of(of_step))
            for trained in (network for network in networks_of(of_step) if network.kind == "search"):
                solution = f"step ×{factor:g} #{trained.solution}"
                targets[solution] = probed[trained.name]
                for start in (0, 1) if factor == 1 else (0,):
                    add(of_step, stores, trained, solution, start)
        (baseline,) = [network for network in networks_of(run) if network.kind == "sgd"]
        for start in range(size.sgd):
            add(run, [], baseline, None, start)
        compared = compare_recordings(recordings, targets=targets)
    return {"comparison": to_json(compared), "test_accuracy": accuracies, "seconds": time.monotonic() - began}


def time_recorder(arguments: Arguments, size: TrajectorySize, source: str) -> dict[str, Any]:
    """Time of SGD training with a record before the first epoch and after the last, and without any; in turns."""
    times: dict[str, list[float]] = {"plain": [], "recorded": []}
    base, device = settings_of(size, source, 0), devices.resolve(arguments.device)
    data = load_data(replace(base.data, train=size.timed_images), data_root=arguments.data_root)
    config = SgdConfig(epochs=size.timed_epochs, weight_decay=base.sgd.weight_decay)
    for number in range(1 + size.repeats):  # the first warms up
        for what, found in times.items():
            network = paper_network(data.train.images, data.num_classes, size.network, groups=size.groups, seed=0).to(device)
            with tempfile.TemporaryDirectory() as folder:
                layers = {point: f"stages.{i}" for i, point in enumerate(network.names)}
                recorder = Recorder(layers, as_float(data.validation.images), Path(folder), at=[0, size.timed_epochs])
                extra: dict[str, Any] = {"record": recorder} if what == "recorded" else {}
                began = time.monotonic()
                train_sgd(network, data.train, validation=data.validation, config=config, **extra)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
            if number:
                found.append(time.monotonic() - began)
    ratios = [recorded / plain for plain, recorded in zip(*times.values(), strict=True)]
    about = {"images": size.timed_images, "probe": size.validation, "ratio": statistics.median(ratios)}
    return about | {"ratios": ratios, "seconds": times}


def time_entropy(shape: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Time of a collision entropy over that of X·Xᵀ, in turns."""
    reps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    collision_entropy(reps)
    times: dict[str, list[float]] = {"entropy": [], "product": []}
    for _ in range(repeats):
        began = time.monotonic()
        collision_entropy(reps)
        middle = time.monotonic()
        reps @ reps.T
        times["entropy"].append(middle - began)
        times["product"].append(time.monotonic() - middle)
    ratios = [entropy / product for entropy, product in zip(*times.values(), strict=True)]
    return {"shape": list(shape), "ratio": statistics.median(ratios), "ratios": ratios, "seconds": times}


def run(arguments: Arguments, size: TrajectorySize) -> tuple[dict[str, Any], dict[str, list[TrajectoryComparison]]]:
    """The figures of the receipt, and what the pictures show, by data set."""
    parts, sources = Parts(arguments.out, NAME, size), arguments.data or size.data
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    makers: dict[tuple[str, ...], Any] = {("entropy",): partial(time_entropy, size.entropy, size.repeats)}
    for source in sources:
        makers |= {(key(source), f"seed{seed}"): partial(measure, arguments, size, source, seed) for seed in size.seeds}
        makers[key(source), "recorder"] = partial(time_recorder, arguments, size, source)
    made, entries, pictures = parts.all(NAME, makers), [], {}
    for source in sources:
        seeds = [made[key(source), f"seed{seed}"] for seed in size.seeds]
        found = pictures[key(source)] = [msgspec.convert(seed["comparison"], TrajectoryComparison) for seed in seeds]
        timed = made[key(source), "recorder"]
        entries.append({"data": label(source, arguments.data_root), **summary(seeds, found), "recorder": timed})
    return {"data": entries, "entropy": made["entropy",]}, pictures


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
        texts = written(value, 3, sign="+"), f"{low:+.3f} to {high:+.3f}"
        return texts[0].replace("-", "−"), texts[1].replace("-", "−")

    texts = []
    for entry in found["data"]:
        layer, curves = entry["headline"], entry["curves_first_and_last"]
        rows: list[tuple[str, str, str]] = []
        for kind, name in (("search", "searched"), ("sgd", "SGD")):
            reached = entry["test_accuracy"][kind]
            rows.append((f"test accuracy (%): {name}", written(reached, factor=100), ""))
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
        head = [entry["data"], "mean ± deviation over seeds", "ends of the seeds' 95 % intervals over images"]
        texts.append(markdown(head, rows))
    return "\n".join(texts)


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    if arguments.seeds is not None:
        size = replace(size, seeds=arguments.seeds)
    found, pictures = run(arguments, size)
    draw(arguments, scaled(NAME, arguments.scale), pictures)
    figures = {"seconds_of_last_sitting": time.monotonic() - began, **found}
    leave(NAME, arguments, figures, settings=size.settings(arguments), table=as_markdown(found))
    for entry in found["data"]:
        print(f"{entry['data']}: training with a recorder takes {entry['recorder']['ratio']:.3f} of the time without")
    entropy = found["entropy"]
    print(f"collision entropy of {'×'.join(map(str, entropy['shape']))}: {entropy['ratio']:.2f} of the time of X·Xᵀ")


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
