"""What a training asks of its objective: a loss; and what else one may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from decouple.device import room
from decouple.training.stream import Batch, HeldRows, Rows


class Objective(Protocol):
    """A loss of a network on a batch."""

    def __call__(self, network: Any, batch: Batch, /) -> Tensor:
        """The mean loss over what counts in the batch; whatever is random in it comes from the batch's seed."""
        ...


@runtime_checkable
class Fetching(Objective, Protocol):
    """An objective that needs something for each image, which is fetched while the preceding steps are taken."""

    def fetch(self, positions: Tensor) -> Sequence[Tensor]:
        """Tensors (B, …) for the images at `positions`, on the CPU. Called in another thread, ahead of the step; the batch
        has them as its rows: on the network's device, in its layout; float32, or bfloat16 for maps under autocast to it."""
        ...


@runtime_checkable
class Holding(Fetching, Protocol):
    """One that can keep what it fetches on a GPU."""

    def rows_on(self, device: torch.device, limit: int) -> Rows | None:
        """As `fetch`, for positions on `device` from copies there; None: they would take more than `limit` bytes."""
        ...


@runtime_checkable
class Remembering(Objective, Protocol):
    """An objective that carries something from step to step: kept where the training's state is kept."""

    def memory(self) -> dict[str, Tensor]:
        """What it carries, by name."""
        ...

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Go on with what `memory` gave."""
        ...


@runtime_checkable
class Capturable(Objective, Protocol):
    """One that may be nothing but operations on the tensors of the network, the batch and its own memory (see
    `decouple.training.graphs`)."""

    def networks(self) -> list[nn.Module] | None:
        """The other networks that it runs; None: it is more than that."""
        ...


def fetch_of(objective: Objective, device: torch.device) -> Rows | None:
    """What a loader fetches for the objective: from a GPU, if all of it takes at most a quarter of its free memory."""
    if device.type == "cuda" and isinstance(objective, Holding):
        rows = objective.rows_on(device, room(device, on_cpu=0))
        if rows is not None:
            return HeldRows(rows, device)
    return objective.fetch if isinstance(objective, Fetching) else None
