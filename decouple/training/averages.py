"""BatchNorm's running averages, where an epoch has few steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

MEMORY = 1 / 3
"""Of an epoch: how far back running averages look, at most."""


@contextmanager
def averages_follow(network: nn.Module, steps: int) -> Iterator[None]:
    """Inside, BatchNorm's running averages remember no more than a third of an epoch of so many steps.

    torch's momentum of 0.1 remembers ten steps. On a few thousand images this is more than an epoch: the averages are then those of
    earlier weights, and the network that is evaluated is not the one that was trained. A ResNet on 1000 images lost 5 points after
    20 epochs by it, and snapshots at the end of short cycles half of their accuracy. Averages that remember less stay as they are,
    and so do cumulative ones (momentum = None) and frozen ones (0).
    """
    before = {norm: norm.momentum for norm in network.modules() if isinstance(norm, _BatchNorm) and norm.momentum}
    for norm, momentum in before.items():
        norm.momentum = max(momentum, min(1.0, 1 / (MEMORY * steps)))
    try:
        yield
    finally:
        for norm, momentum in before.items():
            norm.momentum = momentum
