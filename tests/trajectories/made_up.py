"""Recordings of networks that give what they are told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from decouple.trajectories import Recorder, Recording

COUNT = 24
LABELS = torch.arange(COUNT) % 3


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Table(nn.Module):
    """Gives rows of tables, by layer; samples are row numbers."""

    def __init__(self, values: Mapping[str, Tensor], width: int = 1) -> None:
        super().__init__()
        self.values = dict(values)
        self.layers = nn.ModuleDict({name: nn.Identity() for name in values})
        self.weight = nn.Parameter(torch.zeros(width))  # networks of another width are of another architecture

    def forward(self, rows: Tensor) -> Tensor:
        for name, values in self.values.items():
            last = self.layers[name](values[rows[:, 0]])
        return last


def recorded(
    folder: Path, values: Mapping[int, Mapping[str, Tensor]], *, width: int = 1, name: str | None = None, **options
) -> Recording:
    """A recording of tables by step and layer; the last layer holds the class scores."""
    layers = {name: f"layers.{name}" for name in next(iter(values.values()))}
    options = {"labels": LABELS, "logits": list(layers)[-1], **options}
    recorder = Recorder(layers, torch.arange(COUNT)[:, None], folder, **options)
    for step, tables in values.items():
        recorder(step, Table(tables, width))
    found = Recording.open(folder)
    return found if name is None else replace(found, name=name)


def training(target: Mapping[str, Tensor], *, noise: float, seed: int, steps: int = 3) -> dict[int, dict[str, Tensor]]:
    """From noise of its own towards a target."""
    found = {}
    for step in range(steps):
        share = step / (steps - 1)
        found[step] = {
            name: share * value + (1 - share + noise) * normal(*value.shape, seed=1000 * seed + i)
            for i, (name, value) in enumerate(target.items())
        }
    return found


def solution(seed: int, *, apart: float = 1.0) -> dict[str, Tensor]:
    """Targets: what all solutions share, and something of its own."""
    own = {"one": normal(COUNT, 4, 3, seed=50 + seed), "two": normal(COUNT, 6, seed=70 + seed)}
    shared = {"one": normal(COUNT, 4, 3, seed=1), "two": normal(COUNT, 6, seed=2)}
    scores = 3 * nn.functional.one_hot(LABELS, 3) + apart * normal(COUNT, 3, seed=90 + seed)
    return {**{name: shared[name] + apart * own[name] for name in own}, "scores": scores}
