"""Noise on the weights between cycles, so that a trajectory leaves its basin."""

from __future__ import annotations

import math

import torch
from torch import nn


def perturbation_scale(cycle: int, cycles: int, *, first: float = 0.25, last: float = 0.05) -> float:
    """Scale of the noise before cycle `cycle`: last + (first − last)·½(1 + cos π(c − 1)/(C − 2)).

    With two cycles there is one perturbation, of scale `first`. Source: Mandal et al., arXiv 2606.03938, and its public
    code.

    >>> [round(perturbation_scale(c, 5), 3) for c in (1, 2, 3, 4)]
    [0.25, 0.2, 0.1, 0.05]

    Args:
        cycle: c = 1 … C − 1; nothing is perturbed before cycle 0.
        cycles: C, of the whole trajectory.
        first: scale before cycle 1, at least 0.
        last: scale before cycle C − 1, at least 0.

    Raises:
        ValueError: an argument is out of its range; names it.
    """
    if not 1 <= cycle < cycles:
        raise ValueError(f"cycle = {cycle}: expected 1 … cycles − 1 = {cycles - 1}")
    for name, value in (("first", first), ("last", last)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} = {value}: expected a finite number, at least 0")
    if cycles == 2:
        return first
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * (cycle - 1) / (cycles - 2)))


@torch.no_grad()
def perturb_(module: nn.Module, scale: float, generator: torch.Generator, *, skip_vectors: bool = True) -> None:
    """Add N(0, 1) · std(p) · scale to every trainable parameter p of `module`, in place.

    Buffers and frozen parameters are left alone; a parameter that is used twice is perturbed once. The same generator
    state gives the same noise on every device and in every precision, since it is drawn where the generator lives.

    >>> layer = nn.Linear(4, 4)
    >>> before = layer.weight.detach().clone()
    >>> perturb_(layer, 0.1, torch.Generator().manual_seed(0))
    >>> bool((layer.weight == before).any())
    False

    Args:
        scale: in units of each tensor's standard deviation, at least 0.
        generator: on any device.
        skip_vectors: leave parameters with fewer than 2 dimensions alone. False: take every parameter with more than one
            element, as the public code does. The deviation of a short vector is wild, so in a small network norms and
            biases are better skipped.

    Raises:
        ValueError: `scale` is negative or not finite.
    """
    if not 0 <= scale < math.inf:
        raise ValueError(f"scale = {scale}: expected a finite number, at least 0")
    for parameter in module.parameters():
        # The standard deviation of a single number is undefined.
        if not parameter.requires_grad or parameter.numel() < 2 or (skip_vectors and parameter.dim() < 2):
            continue
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32, device=generator.device)
        parameter.add_(noise.to(parameter) * (parameter.std() * scale))
