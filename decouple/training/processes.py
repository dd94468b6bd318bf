"""The processes that train together: one, or those that torchrun started.

Each works on its part of every batch; `DistributedDataParallel` averages the gradients, and BatchNorm's statistics are those
of the whole batch, so the result is that of one process up to rounding. torch's SyncBatchNorm runs only on GPUs, so the
statistics are reduced here, on any device.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import inspect
import itertools
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from decouple import device as devices
from decouple.errors import ConfigError, WorkerError

Loss = Callable[[Any, Any], Tensor]
"""Of a network on a batch: the mean over what counts in it."""

_NAMES = inspect.signature(DistributedDataParallel).parameters
_UNSENT: dict[str, Any] = {"forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False}
"""Buffers are equal already, and not sent at each step; torch has renamed the option."""

_LOG = logging.getLogger("decouple")

ARRIVAL = 600.0
"""Seconds within which all processes must have started."""

NOTICE = 5.0
"""Seconds after which a process that waits for others reports it."""

PATIENCE = datetime.timedelta(days=1)
"""How long a process then waits for the others, one of which may be writing or evaluating."""


@dataclass(frozen=True)
class Group:
    """This process among those that train one network together; by default there is no other."""

    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    """This process's."""
    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls, device: torch.device) -> Group:
        """The processes of `torch.distributed` where it is initialised, elsewhere this one by itself."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(device, distributed.get_rank(), distributed.get_world_size())
        return cls(device)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process has come here. Raises WorkerError: one has ended instead."""
        if self.size > 1:
            try:
                work = distributed.barrier(async_op=True)
                while not work.is_completed():  # which can be interrupted, as a wait of torch's cannot
                    time.sleep(0.01)
                work.wait()
            except RuntimeError:
                raise WorkerError("another process of this torchrun has ended; its own message says why") from None

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process does what is inside, and then the others, who find what it has made."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def sum(self, value: Tensor) -> Tensor:
        """Over the processes; in place."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def part(self, size: int) -> slice:
        """This process's examples of a batch of `size`. Raises ConfigError: there are fewer examples than processes."""
        if size < self.size:
            raise ConfigError(
                f"a batch of {size} is too small for {self.size} processes; use a larger batch, or start fewer"
            )
        return slice(self.rank * size // self.size, (self.rank + 1) * size // self.size)

    @contextmanager
    def sharing(self, network: nn.Module, loss: Loss, epochs: int) -> Iterator[Loss]:
        """The loss whose gradients `backward` averages over the processes. Weigh it by the process's share of what counts.

        Args:
            network: on this process's device. Every process's gets the weights of the first one's, and whole-batch statistics.
            epochs: done already, by this process's checkpoint.

        Raises:
            ConfigError: the processes have done different numbers of epochs.
        """
        if self.size == 1:
            yield loss
            return
        bounds = torch.tensor([epochs, -epochs], dtype=torch.int64, device=self.device)
        distributed.all_reduce(bounds, distributed.ReduceOp.MAX)
        if int(bounds[0]) != -int(bounds[1]):
            raise ConfigError(
                f"the processes go on after {-int(bounds[1])} to {int(bounds[0])} epochs: every one must find the same "
                "checkpoint; put it on a file system that all of them share"
            )
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.forward = functools.partial(_whole_batch, norm)  # type: ignore[method-assign]
        try:
            replica = DistributedDataParallel(_Loss(network, loss), **_UNSENT)
            yield lambda network, batch: replica(batch)
        finally:
            for norm in norms:
                del norm.forward


ALONE = Group()
"""A process that shares its batches with no other."""


@dataclass(frozen=True)
class _Launch:
    """What torchrun, or a launcher like it, has set in this process's environment."""

    rank: int
    size: int
    host: str
    port: int

    @classmethod
    def of_environment(cls) -> _Launch | None:
        """None: this process was started by itself. Raises ConfigError: a variable that names this process among several is
        missing or no such number."""
        size = _launched()
        if size == 1:
            return None
        needed = ("RANK", "MASTER_ADDR", "MASTER_PORT")
        if missing := [name for name in needed if not os.environ.get(name)]:
            raise ConfigError(
                f"WORLD_SIZE = {size} in the environment, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set; "
                f"{_START}"
            )
        return cls(_whole("RANK", 0, size - 1), size, os.environ["MASTER_ADDR"], _whole("MASTER_PORT", 1, 65535))


def _launched() -> int:
    """How many processes the environment names."""
    return _whole("WORLD_SIZE", 1, None) if os.environ.get("WORLD_SIZE") else 1


def refuse_launch(reason: str) -> None:
    """Raise ConfigError, for this reason, if torchrun has started this process beside others."""
    if _launched() > 1:
        raise ConfigError(reason)


_ALONE = "or unset WORLD_SIZE to run alone"
_START = f"start each of them once, as torchrun does, {_ALONE}"

_MEETINGS = itertools.count()
"""Numbers the groups that this process joins one after the other, since torchrun serves one store for all of them."""


def _whole(name: str, least: int, most: int | None) -> int:
    """The value of an environment variable as a whole number in this range. Raises ConfigError: it is not one."""
    text = os.environ.get(name, "")
    value = int(text) if text.strip().isdecimal() else -1
    if value < least or (most is not None and value > most):
        allowed = f"a whole number from {least}" + ("" if most is None else f" to {most}")
        raise ConfigError(f"{name} = {text!r} in the environment: expected {allowed}, as torchrun sets it; {_ALONE}")
    return value


@contextmanager
def process_group(device: str = "auto") -> Iterator[Group]:
    """Join the processes of a torchrun; elsewhere the group is only this process.

    Each process takes the GPU of its local rank (NCCL) where there is one for each, or the CPU (gloo).

    Raises:
        ConfigError: the device is not there, or the environment's WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT do not fit.
        WorkerError: not all processes came.
    """
    launch = _Launch.of_environment()
    if launch is None:
        yield Group(devices.resolve(device))
        return
    if device == "auto" and torch.cuda.is_available():
        device = f"cuda:{_whole('LOCAL_RANK', 0, None)}"
    place = devices.resolve(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    store = _meet(launch)
    backend = "nccl" if place.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.size, timeout=PATIENCE)
    try:
        yield Group(place, launch.rank, launch.size)
    finally:
        distributed.destroy_process_group()


def _meet(launch: _Launch) -> distributed.Store:
    """The store that all processes share, once all are there.

    torch would wait in one call, deaf to Ctrl-C and SIGTERM: this looks again and again.

    Raises:
        ConfigError: another process has this rank, or another program the port.
        WorkerError: after `ARRIVAL` seconds some are not there.
    """
    meeting = f"decouple/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_MEETINGS)}"
    began = time.monotonic()
    told = False
    store: distributed.Store | None = None
    while True:
        here = 0
        with contextlib.suppress(RuntimeError):  # process 0 has ended, or is not there yet
            store = store or _enter(launch, meeting)
            here = 0 if store is None else store.add("here", 0)
        if store is not None and here == launch.size:
            store.set_timeout(PATIENCE)
            return store
        store = store if here else None
        waited = time.monotonic() - began
        found = f"{here} of {launch.size} are there" if here else f"process 0 does not answer at {launch.host}:{launch.port}"
        if waited > ARRIVAL:
            raise WorkerError(
                f"gave up waiting for {launch.size} processes (WORLD_SIZE in the environment), of which {found}; {_START}"
            )
        if waited > NOTICE and not told:
            told = True
            _LOG.warning("waiting for %d processes (WORLD_SIZE in the environment): %s; %s", launch.size, found, _START)
        time.sleep(0.05)


def _enter(launch: _Launch, meeting: str) -> distributed.Store | None:
    """The store, in which this process has registered; None while there is none."""
    served = _store_of(launch)
    if served is None:
        return None
    store = distributed.PrefixStore(meeting, served)
    if store.add(f"rank {launch.rank}", 1) > 1:
        raise ConfigError(f"RANK = {launch.rank} in the environment is that of another process, too; {_START}")
    store.add("here", 1)
    return store


def _store_of(launch: _Launch) -> distributed.Store | None:
    """The store that torchrun or process 0 serves; None while it does not."""
    patience = datetime.timedelta(seconds=30)
    if launch.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        try:
            return distributed.TCPStore("localhost", launch.port, launch.size, True, patience, wait_for_workers=False)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"MASTER_PORT = {launch.port} in the environment cannot be opened ({reason}); set another port, {_ALONE}"
            ) from None
    try:
        socket.create_connection((launch.host, launch.port), timeout=1).close()  # torch's own attempts fail noisily
    except OSError:
        return None
    return distributed.TCPStore(launch.host, launch.port, launch.size, False, patience, wait_for_workers=False)


class _Loss(nn.Module):
    """What DistributedDataParallel asks for: a module whose forward pass uses the parameters."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network, self._loss = network, loss

    def forward(self, batch: Any) -> Tensor:
        return self._loss(self.network, batch)


def _whole_batch(norm: _BatchNorm, values: Tensor) -> Tensor:
    """What `norm` gives for this process's part of a batch (B, C, …), with mean and variance of the whole batch."""
    if not norm.training:
        return type(norm).forward(norm, values)
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    others = [0, *range(2, wide.dim())]
    shape = [1, -1, *[1] * (wide.dim() - 2)]
    count = torch.tensor(wide.numel() / wide.shape[1], dtype=torch.float32, device=wide.device)
    distributed.all_reduce(count)
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
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Summed.apply(gradient)
