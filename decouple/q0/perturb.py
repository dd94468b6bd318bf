"""Noise on the weights between cycles, so that a trajectory leaves its basin."""

from __future__ import annotations

import math

import torch
from torch import nn


def perturbation_scale(cycle: int, cycles: int, *, first: float = 0.25, last: float = 0.05) -> float:
    """The noise before cycle `cycle` (1 … cycles − 1): half a cosine from `first` to `last`.

    >>> [round(perturbation_scale(c, 5), 3) for c in (1, 2, 3, 4)]
    [0.25, 0.2, 0.1, 0.05]
    """
    if not 1 <= cycle < cycles:
        raise ValueError(f"cycle = {cycle}: expected 1 … cycles − 1 = {cycles - 1}")
    if cycles == 2:
        return first
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * (cycle - 1) / (cycles - 2)))


@torch.no_grad()
def perturb_(module: nn.Module, scale: float, generator: torch.Generator, *, skip_vectors: bool = True) -> None:
    """Add N(0, 1) · std(p) · scale to every trainable parameter, in place; buffers are untouched.

    Args:
        generator: on the CPU.
        skip_vectors: leave parameters of fewer than 2 dimensions alone. The public code takes every parameter with more
            than one element; the deviation of a short vector is wild.
    """
    for parameter in module.parameters():
        if not parameter.requires_grad or parameter.numel() < 2 or (skip_vectors and parameter.dim() < 2):
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(noise.to(parameter) * parameter.std() * scale)
