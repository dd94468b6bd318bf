"""What a population needs to know of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from decouple.training.stream import Batch, Loader
from decouple.training.team import Team

Teacher = Callable[[Any], Tensor]
"""What a network learns from: another network, or an ensemble."""


class Task(Protocol):
    """The examples that networks are trained on, the losses, and how a network is built."""

    @property
    def examples(self) -> int:
        """How many an epoch shuffles: images, or rows of tokens."""
        ...

    def loader(self, network: nn.Module, *, precision: str, seed: int, epoch: int, team: Team | None) -> Loader:
        """Makes the batches of an epoch.

        Args:
            seed: of the training; with `epoch` it decides all that is random.
            team: the processes that share each batch; None: this one has all of it.
        """
        ...

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """The mean over what counts in the batch."""
        ...

    def distilled(self, network: nn.Module, teacher: Teacher, batch: Batch, *, alpha: float, temperature: float) -> Tensor:
        """The loss mixed with the divergence from a teacher, which has the weight `alpha` (see `distillation_loss`)."""
        ...

    def hidden(self, network: nn.Module) -> Sequence[nn.Parameter]:
        """The weights of hidden layers, which Muon takes as matrices; all others go to AdamW."""
        ...

    def build(self, seed: int) -> nn.Module:
        """A new network, for chains that begin each cycle with one.

        Raises:
            ConfigError: the task cannot build one.
        """
        ...
