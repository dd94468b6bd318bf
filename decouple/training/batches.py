"""Which images make a step, decided by (seed, epoch) alone."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from decouple.seeds import generator


def even_batches(count: int, batch: int) -> list[tuple[int, int]]:
    """Bounds of consecutive batches of nearly equal size, none above `batch`: no image is dropped and no batch tiny.

    >>> even_batches(10, 4)
    [(0, 4), (4, 7), (7, 10)]
    """
    parts = -(-count // batch)
    base, extra = divmod(count, parts)
    bounds = itertools.accumulate((base + (part < extra) for part in range(parts)), initial=0)
    return list(itertools.pairwise(bounds))


def largest_batch(count: int, batch: int) -> int:
    """Examples in the largest of the `even_batches`.

    >>> largest_batch(3000, 2000), largest_batch(10, 2000)
    (1500, 10)
    """
    return max(end - first for first, end in even_batches(count, batch))


def epoch_batches(count: int, batch: int, *, seed: int, epoch: int, shuffle: str = "epoch") -> list[Tensor]:
    """Positions of the images of every step of an epoch.

    Args:
        shuffle: "epoch" composes the batches anew each epoch; "fixed" keeps the composition and only permutes the
            order in which the batches come (paper: "same batch composition every epoch").
    """
    composition = torch.randperm(
        count, generator=generator(seed, "batches", 0 if shuffle == "fixed" else epoch), device="cpu"
    )
    batches = [composition[a:b] for a, b in even_batches(count, batch)]
    if shuffle == "fixed":
        order = torch.randperm(len(batches), generator=generator(seed, "order", epoch), device="cpu")
        batches = [batches[i] for i in order.tolist()]
    return batches
