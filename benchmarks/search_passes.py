"""What a search costs beside the bare forward passes of the candidates that it scores.

    OMP_NUM_THREADS=1 python -m benchmarks.search_passes      # about 10 minutes
    python -m benchmarks.search_passes --device cuda

The search is the public call, its files included. The bare passes are those of the images to each search point, and of as
many candidates as the search scores from there on, which lie ready in the faster memory layout; nothing draws, compares or
stores them. A ratio below 1 says that the search needs less than they do: candidates that share directions go through affine
layers as these (`decouple.networks.factored`). Multiply-adds show where from: those of a scored candidate, counted by torch.

Every ratio is the median, over repeats, of the ratio of two runs taken one after the other; `cpu_ratio` is the same for the
processor time, and `beyond_images` compares what is left of both without the pass of the images themselves. Images are noise:
speed does not depend on them. Writes figures/search-passes-DEVICE.json.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import VisionTransformer, resnet18

from benchmarks.command import launch
from benchmarks.receipt import write_receipt
from benchmarks.timing import SHAPES, Counting, compared, problem, say, timed
from decouple import device as devices
from decouple.config import EsConfig, PaperConfig, SearchConfig
from decouple.data import Split
from decouple.networks import Stages
from decouple.search import Algorithm, EvolutionStrategy, Judge, PaperSearch, SearchPoint, search_batch, search_solution

CANDIDATES = 49
"""Of an image and generation by default, with its centre."""


class Case(NamedTuple):
    algorithm: str
    points: str
    width: int
    """Channels."""
    batch: int
    """Images searched together."""
    batches: int
    generations: int
    """Of blocks; the logits have a quarter."""
    limits: dict[str, float]
    """Ratio that the project sets itself, by type."""


CASES = (
    Case("es", "all", 32, 64, 1, 16, {"float32": 0.7, "bfloat16": 0.9}),
    Case("es", "all", 256, 16, 1, 10, {"float32": 0.6, "bfloat16": 0.6}),
    Case("es", "last", 32, 128, 32, 40, {"float32": 1.0, "bfloat16": 1.0}),
    Case("es", "last", 256, 128, 8, 40, {"float32": 0.5, "bfloat16": 0.5}),
    Case("paper", "all", 32, 32, 1, 4, {"float32": 2.0, "bfloat16": 2.0}),
    Case("paper", "all", 256, 4, 1, 2, {"float32": 1.5, "bfloat16": 1.5}),
)


@dataclass(frozen=True)
class Arguments:
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    repeats: int = 5
    """Of every measurement."""


def main(arguments: Arguments) -> None:
    device = devices.resolve(arguments.device)
    devices.prepare()
    rows = [
        measure(case, "28x28", dtype, device, arguments.repeats)
        for case, dtype in itertools.product(CASES, ("float32", "bfloat16"))
    ]
    figures = {"passes": rows, "networks": by_network()}
    settings = {"repeats": arguments.repeats, "cases": [case._asdict() for case in CASES]}
    print(write_receipt(f"search-passes-{device.type}", figures, settings=settings, device=str(device)))


def measure(case: Case, shape: str, dtype: str, device: torch.device, repeats: int) -> dict[str, Any]:
    """Seconds of the search and of the bare passes, and multiply-adds of a candidate."""
    network, images, labels = problem(case.width, case.batch, SHAPES[shape], device)
    kind, algorithm = getattr(torch, dtype), algorithm_of(case)
    judge = Counting(network, dtype=kind)
    counted = multiply_adds(lambda: search_batch(judge, images, labels, algorithm, seed=0, points=case.points))
    plain = Judge(network, dtype=kind, factored=False)
    in_full = multiply_adds(lambda: search_batch(plain, images, labels, algorithm, seed=0, points=case.points))
    passes = [forward_passes(plain, images, judge, layout) for layout in (torch.channels_last, torch.contiguous_format)]
    bare = multiply_adds(passes[0])
    better = min(passes, key=lambda each: min(timed(each, device)[0] for _ in range(2)))
    repeated = images.repeat(case.batches, 1, 1, 1).cpu(), labels.repeat(case.batches).cpu()
    split = Split(*repeated, torch.arange(case.batch * case.batches))

    def search() -> None:
        with tempfile.TemporaryDirectory() as folder:
            config = SearchConfig(points=case.points, batch=case.batch)
            search_solution(network, split, folder, config=config, algorithm=algorithm, dtype=kind, identity="search")

    def forward() -> None:
        for _ in range(case.batches):
            better()

    def pass_of_images() -> None:
        for _ in range(case.batches):
            own_pass(plain, images)

    ratios = compared(search, forward, device, repeats, 1)
    own = statistics.median(timed(pass_of_images, device)[0] for _ in range(repeats))
    beyond = (ratios["seconds"] - own) / (ratios["plain_seconds"] - own)
    scored = case.batch * sum(count for _, count in judge.scored)
    row = {"algorithm": case.algorithm, "points": case.points, "width": case.width, "input": shape, "dtype": dtype}
    row |= ratios | {"beyond_images": beyond, "limit": case.limits[dtype]}
    row |= {"multiply_adds": {"search": counted / scored, "unfactored": in_full / scored, "bare": bare / scored}}
    say(
        f"{case.algorithm}, {case.points}, {case.width} channels, {shape}, {dtype}: {row['ratio']:.2f} x bare (without the images' "
        f"own pass {beyond:.2f}, processor time {row['cpu_ratio']:.2f}, multiply-adds {counted / bare:.2f}; limit {row['limit']})"
    )
    return row


@torch.no_grad()
def own_pass(judge: Judge, images: Tensor) -> None:
    """The images' own pass, which both sides have."""
    for index in range(len(judge.network)):
        images = judge.advance(index, images)


def forward_passes(judge: Judge, images: Tensor, counted: Counting, layout: torch.memory_format) -> Callable[[], None]:
    """What `counted` did, as bare passes of activations that lie there ready: scored, or on their way to the next point."""

    def repeated(values: Tensor, count: int) -> Tensor:
        many = values.repeat_interleave(count, 0)
        return many.contiguous(memory_format=layout) if many.dim() == 4 else many

    scored, advanced = {}, {}
    with torch.no_grad():
        values = images
        for point in judge.points(images[:2]):
            for total in {total for index, total in counted.advanced if index == point.index and total >= len(images)}:
                advanced[point.index, total] = repeated(values, total // len(images))
            values = judge.advance(point.index, values)
            for count in {count for at, count in counted.scored if at == point}:
                scored[point, count] = repeated(values, count)

    @torch.no_grad()
    def passes() -> None:
        for key in counted.advanced:
            if key in advanced:
                judge.advance(key[0], advanced[key])
        for at, count in counted.scored:
            judge.logits(at, scored[at, count])

    return passes


def algorithm_of(case: Case) -> Algorithm:
    generations = {"blocks": case.generations, "logits": max(1, case.generations // 4)}
    if case.algorithm == "paper":
        return PaperSearch(PaperConfig(smoothing="noise", generations=generations))
    return EvolutionStrategy(EsConfig(generations=generations), shared_seed=0)


def multiply_adds(run: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


def networks() -> dict[str, Stages]:
    """What is searched, for images of 3×32×32."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        paper = problem(64, 2, SHAPES["32x32"], torch.device("cpu"))[0]
        vit = VisionTransformer(32, 4, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10)
        hidden = [layer for _ in range(3) for layer in (nn.LazyLinear(512), nn.ReLU())]
        mlp = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, 10))
        mlp(torch.zeros(1, *SHAPES["32x32"]))
        layers = [f"encoder.layers.encoder_layer_{layer}" for layer in range(4)]
        return {
            "the paper's, 64 channels": paper,
            "ResNet-18": Stages.from_module(resnet18(num_classes=10), ["layer1", "layer2", "layer3", "layer4", "fc"]),
            "ViT, 4 layers of 64": Stages.from_module(vit, [*layers, "heads"]),
            "MLP, 3 layers of 512": Stages.from_sequential(mlp, [2, 4, 6, 7]),
        }


@torch.no_grad()
def by_network() -> list[dict[str, Any]]:
    """Multiply-adds of a candidate behind each search point, described and in full, for a batch of 8 images."""
    rows: list[dict[str, Any]] = []
    labels = torch.arange(8) % 10
    for name, network in networks().items():
        values: Tensor = torch.randn(8, *SHAPES["32x32"], generator=torch.Generator().manual_seed(0))
        judges = [Judge(network, factored=factored) for factored in (True, False)]
        for point in judges[0].points(values)[:-1]:
            values = judges[0].advance(point.index, values)
            described, in_full = (passes_of(judge, point, values, labels) for judge in judges)
            rows.append({"network": name, "point": point.name, "described": described, "in_full": in_full})
        of_network = [(row["described"], row["in_full"]) for row in rows if row["network"] == name]
        total = sum(described for described, _ in of_network) / sum(in_full for _, in_full in of_network)
        by_point = ", ".join(f"{described / in_full:.2f}" for described, in_full in of_network)
        say(f"{name}: {total:.2f} of the multiply-adds, by point {by_point}")
    return rows


def passes_of(judge: Judge, point: SearchPoint, start: Tensor, labels: Tensor) -> float:
    algorithm = EvolutionStrategy(replace(EsConfig(), population=CANDIDATES - 1))
    candidates, _ = algorithm.ask(
        algorithm.init(start, point, 0, None, functools.partial(judge.fitness, point, labels=labels))
    )
    return multiply_adds(lambda: judge.fitness(point, candidates, labels)) / (len(start) * CANDIDATES)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
