"""What the benchmarks of speed share: noise to work on, clocks, and a judge that counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from decouple.config import NetworkConfig
from decouple.data import Split
from decouple.networks import Stages, paper_network
from decouple.search import Judge, SearchPoint

SHAPES = {"28x28": (1, 28, 28), "32x32": (3, 32, 32)}


def problem(width: int, images: int, shape: tuple[int, ...], device: torch.device) -> tuple[Stages, Tensor, Tensor]:
    """A network, images and labels."""
    stream = torch.Generator().manual_seed(0)
    noise = torch.randn(images, *shape, generator=stream)
    training = torch.randn(256, *shape, generator=stream)
    network = paper_network(training, 10, NetworkConfig(width=width), groups=1, seed=0)
    return network.to(device), noise.to(device), torch.arange(images, device=device) % 10


def made_up(images: int, shape: Sequence[int]) -> Split:
    """Noise, and labels."""
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, *shape), dtype=torch.uint8, generator=stream)
    return Split(pixels, torch.arange(images) % 10, torch.arange(images))


def medians(runs: Sequence[Callable[[], Any]], device: torch.device, repeats: int) -> list[float]:
    """Median seconds of each, taken in turns, after a first round that does not count."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for each, found in zip(runs, times, strict=True):
            found.append(timed(each, device)[0])
    return [statistics.median(found[1:]) for found in times]


def timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds that pass, and those that the processor works."""
    _wait(device)
    began, worked = time.perf_counter(), time.process_time()
    run()
    _wait(device)
    return time.perf_counter() - began, time.process_time() - worked


def compared(
    ours: Callable[[], None], plain: Callable[[], None], device: torch.device, repeats: int, steps: int
) -> dict[str, float]:
    """Medians over pairs of epochs, after one that does not count; seconds are those of a step."""
    pairs = [(timed(ours, device), timed(plain, device)) for _ in range(repeats + 1)][1:]
    ratios, cpu_ratios = ([mine[clock] / other[clock] for mine, other in pairs] for clock in (0, 1))
    return {
        "ratio": statistics.median(ratios),
        "cpu_ratio": statistics.median(cpu_ratios),
        "seconds": statistics.median(mine[0] for mine, _ in pairs) / steps,
        "plain_seconds": statistics.median(other[0] for _, other in pairs) / steps,
    }


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def say(text: str) -> None:
    print(text, flush=True)


class Counting(Judge):
    """Notes how many candidates it scores where."""

    def __init__(self, network: Stages, **options: Any) -> None:
        super().__init__(network, **options)
        self.scored: list[tuple[SearchPoint, int]] = []
        """Point, and candidates of each image; of every call."""
        self.advanced: list[tuple[int, int]] = []
        """Point, and activations that went through the stage to it."""
        self.evaluations = 0
        """At the first point, over all images."""

    def advance(self, index: int, values: Tensor) -> Tensor:
        self.advanced.append((index, len(values)))
        return super().advance(index, values)

    def fitness(self, point: SearchPoint, candidates: Tensor, labels: Tensor) -> Tensor:
        self.scored.append((point, candidates.shape[1]))
        self.evaluations += len(candidates) * candidates.shape[1] if point.index == 0 else 0
        return super().fitness(point, candidates, labels)
