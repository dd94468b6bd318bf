"""Several processes that take each step together, through `torch.distributed`.

Each works on its part of every batch; gradients are averaged by `DistributedDataParallel`, and BatchNorm's statistics
are those of the whole batch, so the result is that of one process up to rounding. torch's SyncBatchNorm is for GPUs
alone, so the statistics are reduced here, on any device.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from decouple.errors import ConfigError
from decouple.training.stream import Batch

_NAMES = inspect.signature(DistributedDataParallel).parameters
_UNSENT: dict[str, Any] = {"forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False}
"""Buffers are equal already, and not sent at each step; torch has renamed the option."""

Loss = Callable[[Any, Batch], Tensor]


class Team:
    """This process's share in the work of all. Build with `team_of`."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self._replica = DistributedDataParallel(_Loss(network, loss), **_UNSENT)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def part(self, size: int) -> slice:
        """This process's examples of a batch of `size`.

        Raises:
            ConfigError: there are fewer examples than processes.
        """
        if size < self.count:
            raise ConfigError(
                f"a batch of {size} is too small for {self.count} processes; use a larger batch, or start fewer"
            )
        return slice(self.rank * size // self.count, (self.rank + 1) * size // self.count)

    def loss(self, batch: Batch) -> Tensor:
        """Mean loss of this process's part of a batch; `backward` averages the gradients over the processes."""
        return self._replica(batch)

    def weight(self, part: int, size: int) -> float:
        """What the mean loss over `part` of the `size` that count in a batch weighs in the average over the processes."""
        return part * self.count / size

    def total(self, value: Tensor) -> Tensor:
        """The sum over the processes."""
        dist.all_reduce(value)
        return value


class _Loss(nn.Module):
    """What DistributedDataParallel asks for: a module whose forward pass uses the parameters."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network, self._loss = network, loss

    def forward(self, batch: Batch) -> Tensor:
        return self._loss(self.network, batch)


@contextmanager
def team_of(network: nn.Module, loss: Loss, epochs: int) -> Iterator[Team | None]:
    """The team of a process group that was initialised (`torch.distributed.init_process_group`); None in a single process.

    Args:
        network: on this process's device. Every process's gets the weights of the first one's, and whole-batch statistics.
        epochs: done already, by this process's checkpoint.

    Raises:
        ConfigError: the processes have done different numbers of epochs.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        yield None
        return
    device = next(network.parameters()).device
    bounds = torch.tensor([epochs, -epochs], dtype=torch.int64, device=device)
    dist.all_reduce(bounds, dist.ReduceOp.MAX)
    if int(bounds[0]) != -int(bounds[1]):
        raise ConfigError(
            f"the processes go on after {-int(bounds[1])} to {int(bounds[0])} epochs: every one must find the same checkpoint; put "
            "it on a file system that all of them share"
        )
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.forward = functools.partial(_whole_batch, norm)  # type: ignore[method-assign]
    try:
        yield Team(network, loss)
    finally:
        for norm in norms:
            del norm.forward


def _whole_batch(norm: _BatchNorm, values: Tensor) -> Tensor:
    """What `norm` gives for this process's part of a batch (B, C, …), with mean and variance of the whole batch."""
    if not norm.training:
        return type(norm).forward(norm, values)
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    others = [0, *range(2, wide.dim())]
    shape = [1, -1, *[1] * (wide.dim() - 2)]
    count = torch.tensor(wide.numel() / wide.shape[1], dtype=torch.float32, device=wide.device)
    dist.all_reduce(count)
    mean = _Summed.apply(wide.sum(others)) / count
    centred = wide - mean.view(shape)
    variance = _Summed.apply(centred.square().sum(others)) / count
    if norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean.detach(), share)
        norm.running_var.lerp_(variance.detach() * count / (count - 1), share)
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    normal = centred * scale.view(shape)
    if norm.bias is not None:
        normal = normal + norm.bias.view(shape)
    return normal.to(values.dtype)


class _Summed(torch.autograd.Function):
    """The sum over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Summed.apply(gradient)
