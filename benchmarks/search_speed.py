"""What the paper's search costs beside plain code and EvoTorch's stock algorithms, and the memory of a search.

    python -m benchmarks.search_speed                   # about 10 minutes on 2 cores
    python -m benchmarks.search_speed --device cuda

Every figure is a ratio of medians over interleaved repeats in one process, so other load on the machine falls on both
sides. Images are noise: speed does not depend on them. Writes figures/search-speed-DEVICE.json.
"""

from __future__ import annotations

import functools
import itertools
import logging
import multiprocessing
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.command import launch
from benchmarks.plain import plain_search
from benchmarks.receipt import write_receipt
from benchmarks.timing import SHAPES, Counting, medians, problem, say
from decouple import device as devices
from decouple.config import EsConfig, NetworkConfig, PaperConfig, SearchConfig
from decouple.data import Split
from decouple.networks import Stages, paper_network
from decouple.search import Judge, PaperSearch, SearchPoint, search_batch, search_solution


class Size(NamedTuple):
    width: int
    """Channels."""
    images: int
    """A batch; both sides get the same."""
    share: float
    """Of the generations of the paper's search, 300/100/100/10."""
    fewer: int = 1
    """Plain code and EvoTorch, which take long, are compared on so many times fewer images."""


SIZES = (Size(32, 64, 0.1, 4), Size(256, 8, 0.02, 2))


@dataclass(frozen=True)
class Arguments:
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    repeats: int = 5
    """Of every measurement."""
    images: tuple[int, ...] = (1000, 4000, 16000)
    """Sizes at which the peak memory is compared."""
    only: tuple[str, ...] = ("plain", "evotorch", "memory")
    """Parts to measure."""


def main(arguments: Arguments) -> None:
    device = devices.resolve(arguments.device)
    devices.prepare()
    parts: dict[str, Callable[[], Any]] = {
        "plain": lambda: compared("plain", device, arguments.repeats),
        "evotorch": lambda: compared("evotorch", device, arguments.repeats),
        "memory": lambda: peak_memory(arguments.images),
    }
    figures = {name: parts[name]() for name in arguments.only}
    settings = {"repeats": arguments.repeats, "sizes": [size._asdict() for size in SIZES], "shapes": SHAPES}
    print(write_receipt(f"search-speed-{device.type}", figures, settings=settings, device=str(device)))


def against_plain(size: Size, shape: str, device: torch.device, repeats: int) -> tuple[float, float, float]:
    """Seconds of the paper's pseudocode written plainly in float32, and of ours in bfloat16 and in float32."""
    network, images, labels = problem(size.width, size.images // size.fewer, SHAPES[shape], device)
    algorithm = PaperSearch(PaperConfig(smoothing="noise", generations=_share(PaperConfig().generations, size.share / 2)))
    runs: list[Callable[[], Any]] = [functools.partial(_plain, network, images, labels, algorithm.config)]
    for dtype in (torch.bfloat16, torch.float32):
        runs.append(functools.partial(search_batch, Judge(network, dtype=dtype), images, labels, algorithm, seed=0))
    plain, half, full = medians(runs, device, repeats)
    return plain, half, full


def against_evotorch(size: Size, shape: str, device: torch.device, repeats: int) -> tuple[float, float, float]:
    """The same of EvoTorch's GeneticAlgorithm at block 0, one image at a time, and of our `paper`, by candidate scored.

    It is told not to score parents again, which it otherwise does in every generation.
    """
    network, images, labels = problem(size.width, size.images // size.fewer, SHAPES[shape], device)
    config = PaperConfig(smoothing="noise", generations=_share({"block0": 300, "blocks": 0, "logits": 0}, size.share))
    theirs = Counting(network)
    point = theirs.points(images[:2])[0]
    start = theirs.advance(0, images[:1])[0]
    judges = [theirs, *(Counting(network, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))]
    runs: list[Callable[[], Any]] = [
        functools.partial(stock_search, theirs, point, start, labels[:1], config.population, generations=5)
    ]
    runs += [functools.partial(search_batch, judge, images, labels, PaperSearch(config), seed=0) for judge in judges[1:]]
    times = medians(runs, device, repeats)
    stock, half, full = (t / (judge.evaluations / (repeats + 1)) for t, judge in zip(times, judges, strict=True))
    return stock, half, full


def compared(part: str, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """How many times as long as ours the other search of a part takes, by size and input."""
    search, limit = {"plain": (against_plain, 8.0), "evotorch": (against_evotorch, 10.0)}[part]
    rows = []
    for size, shape in itertools.product(SIZES, SHAPES):
        other, half, full = search(size, shape, device, repeats)
        ratios = {"bfloat16": other / half, "float32": other / full}
        rows.append({"width": size.width, "input": shape, **ratios, "limit": limit})
        said = ", ".join(f"{ratio:.1f} x {dtype}" for dtype, ratio in ratios.items())
        say(f"{part}, {size.width} channels, {shape}: {said} (at least {limit:.0f})")
    return rows


def stock_search(judge: Judge, point: SearchPoint, start: Tensor, label: Tensor, population: int, generations: int) -> None:
    """One image as EvoTorch's documentation would have it: a vectorised Problem, its GeneticAlgorithm and operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evotorch import Problem
        from evotorch.algorithms import GeneticAlgorithm
        from evotorch.decorators import vectorized
        from evotorch.operators import GaussianMutation, OnePointCrossOver

        logging.getLogger("evotorch.core").setLevel(logging.WARNING)

        @vectorized
        def fitness(values: Tensor) -> Tensor:
            with torch.no_grad():
                return judge.fitness(point, values.view(1, -1, *point.shape), label)[0]

        bounds = (start.flatten() - 0.1, start.flatten() + 0.1)
        problem = Problem("max", fitness, solution_length=start.numel(), initial_bounds=bounds, device=start.device, seed=0)
        operators = [OnePointCrossOver(problem, tournament_size=4), GaussianMutation(problem, stdev=0.1)]
        GeneticAlgorithm(problem, operators=operators, popsize=population, re_evaluate=False).run(generations)


def _plain(network: Stages, images: Tensor, labels: Tensor, config: PaperConfig) -> None:
    plain_search(Judge(network), images, labels, config, torch.Generator(images.device).manual_seed(0))


def peak_memory(sizes: Sequence[int]) -> dict[str, Any]:
    """Peak resident memory of a process that searches so many images."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for images in sizes:
        with context.Pool(1) as pool:
            found[images] = pool.apply(_peak, (images,))
        say(f"{images} images: peak {found[images] / 2**20:.0f} MiB")
    values = list(found.values())
    return {"bytes": found, "spread": max(values) / min(values) - 1, "limit": 0.05}


def _peak(images: int) -> int:
    devices.prepare()
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 1, 28, 28), dtype=torch.uint8, generator=stream)
    split = Split(pixels, torch.arange(images) % 10, torch.arange(images))
    network = paper_network(pixels[:256], 10, NetworkConfig(width=8), groups=1, seed=0)
    config = SearchConfig(es=EsConfig(population=8, generations=1))
    with tempfile.TemporaryDirectory() as folder:
        search_solution(network, split, folder, config=config, dtype=torch.bfloat16)
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "the peak is read from Linux's /proc"
    return int(found[1]) * 1024


def _share(generations: int | dict[str, int], share: float) -> dict[str, int]:
    assert isinstance(generations, dict)
    return {point: max(min(1, count), round(share * count)) for point, count in generations.items()}


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
