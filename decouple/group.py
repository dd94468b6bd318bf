"""The processes that train together: one, or those that torchrun started."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from decouple import device as devices
from decouple.errors import WorkerError

PATIENCE = datetime.timedelta(days=1)
"""How long a process waits for the others: one may be writing or evaluating."""


@dataclass(frozen=True)
class Group:
    """This process among those that train one network together."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process has come here.

        Raises:
            WorkerError: one has ended instead.
        """
        if self.size > 1:
            try:
                distributed.barrier()
            except RuntimeError:
                raise WorkerError("another process of this torchrun has ended; its own message says why") from None

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """What is inside is done by the first process, and then by the others, who find what it has made."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def leave(self) -> Group:
        """All leave, and each is alone from here on; called by every process, or none leaves."""
        if self.size > 1:
            self.wait()
            distributed.destroy_process_group()
        return Group(self.device)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Over the processes."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value


def launched() -> bool:
    """Whether torchrun, or one of its kind, started this process among several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group(device: str = "auto") -> Iterator[Group]:
    """Join the processes of a torchrun; elsewhere the group is this process alone.

    Each process takes the GPU of its local rank (NCCL) where there is one for each, or the CPU (gloo).

    Raises:
        ConfigError: the device is not there.
    """
    if not launched():
        yield Group(devices.resolve(device))
        return
    if device == "auto" and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    place = devices.resolve(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Group(place, distributed.get_rank(), distributed.get_world_size())
    finally:
        if distributed.is_initialized():  # or left already
            distributed.destroy_process_group()
