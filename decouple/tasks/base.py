"""What a population needs to know of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.analysis.calibration import p_truth
from decouple.device import send
from decouple.errors import ConfigError
from decouple.networks.state import own_copy
from decouple.results import Calibration
from decouple.tasks.distill import IGNORED, distillation_loss
from decouple.torch_state import device_of, generators_kept
from decouple.training.processes import Group
from decouple.training.stream import Batch, Loader

HELD_OUT = ("validation", "prior", "test")
"""Parts of the data that no network is trained on; every member answers on each of them once."""

ROUNDING = 1e-4
"""By how much a probability may be above 1."""

Teacher = Callable[[Any], Tensor]
"""What a network learns from: another network, or an ensemble."""


class Task(ABC):
    """The examples that networks are trained on, the losses, and how a network is built and judged.

    Derive your own from it: it needs `examples`, `digest`, `rows` (or `loader`) and `predict`; the rest has defaults.
    Held-out parts are called as in `HELD_OUT`.
    """

    @property
    @abstractmethod
    def examples(self) -> int:
        """How many an epoch shuffles: images, or rows of tokens."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Identifies what networks are trained on: equal digests, equal examples, and equal attributes of the task on which training
        depends. A change of the class's code is noticed without it."""

    def rows(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, …) and labels (B,) or (B, T) of the examples at these positions; a label of −100 does not count."""
        raise ConfigError(f"{type(self).__name__} has no rows(positions): expected it, or a loader of its own")

    def loader(self, network: nn.Module, *, precision: str, seed: int, epoch: int, group: Group) -> Loader:
        """Makes the batches of an epoch; by default from `rows`.

        Args:
            seed: of the training; with `epoch` it decides all that is random.
            group: the processes that share each batch.
        """
        return RowLoader(self.rows, device_of(network), group)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """The mean over what counts in the batch; by default the cross-entropy of logits (B, C) or (B, T, C)."""
        logits = network(batch.inputs).float()
        return functional.cross_entropy(logits.flatten(0, -2), batch.labels.flatten(), ignore_index=IGNORED)

    @abstractmethod
    def predict(self, network: nn.Module, part: str, *, precision: str = "float32") -> Tensor:
        """What a network answers on a held-out part, on the CPU: (N, C) probabilities, or (N,) those of the truth."""

    def distillation_loss(
        self, network: nn.Module, teacher: Teacher, batch: Batch, *, alpha: float, temperature: float
    ) -> Tensor:
        """The loss mixed with the divergence from a teacher, which has the weight `alpha` (see `decouple.tasks.distill`)."""
        logits = network(batch.inputs).float()
        with torch.no_grad():
            taught = teacher(batch.inputs).float()
        return distillation_loss(logits, taught, batch.labels, alpha=alpha, temperature=temperature)

    def muon_parameters(self, network: nn.Module) -> Sequence[nn.Parameter]:
        """The weights of hidden layers, which Muon takes as matrices; all others go to AdamW. By default there are none."""
        return []

    def build(self, seed: int) -> nn.Module:
        """A new network.

        Raises:
            ConfigError: the task cannot build one.
        """
        raise ConfigError(
            "q0.restart = new begins each cycle with a new network: expected a task that builds one; use continue"
        )

    def check(self, network: nn.Module, batch: int) -> None:
        """Raise an error if a network cannot be trained in batches of this size, or cannot answer on the prior part. By default a copy
        of the network is tried on two examples and on the prior part."""
        name = type(self).__name__
        _expect(isinstance(self.digest, str) and self.digest, f"{name}.digest = {self.digest!r}: expected text")
        _expect(
            isinstance(self.examples, int) and self.examples > 0,
            f"{name}.examples = {self.examples!r}: expected a number above 0",
        )
        trial, positions = own_copy(network), torch.arange(min(2, self.examples))
        with generators_kept(device_of(trial)):
            loader = self.loader(trial, precision="float32", seed=0, epoch=0, group=Group(device_of(trial)))
            loss = self.loss(trial, loader.received(loader.make((0, positions))))
            answers = self.predict(trial, "prior")
        _expect(
            isinstance(loss, Tensor) and loss.dim() == 0 and loss.is_floating_point(),
            f"{name}.loss gives {_told(loss)}: expected one number, the mean over what counts",
        )
        fits = isinstance(answers, Tensor) and answers.dim() == (1 if self.true_classes("prior") is None else 2)
        truths = self.p_truth(answers, "prior") if fits else answers
        _expect(
            fits and bool(((truths >= 0) & (truths <= 1 + ROUNDING)).all()),
            f"{name}.predict gives {_told(answers)}: expected probabilities of the truth (N,), or of all classes (N, C) where the "
            "task has true_classes",
        )

    def mark(self, network: nn.Module) -> None:  # noqa: B027 (optional)
        """Note in a network what it is trained on, if it keeps that."""

    def true_classes(self, part: str) -> Tensor | None:
        """(N,) true classes of a held-out part; None, where answers are the probability of the truth."""
        return None

    def p_truth(self, answers: Tensor, part: str) -> Tensor:
        """(N,) probability of the truth among the answers on a held-out part."""
        labels = self.true_classes(part)
        return answers if labels is None else p_truth(answers, labels)

    def samples(self, values: Tensor) -> Tensor:
        """(S,) of independent samples, with the same mean as `values` (N,) of the test part's answers."""
        return values

    def scores(self, answers: Tensor, nll: float) -> dict[str, float]:
        """Further figures of answers on the test part, by name, the headline first; `nll` is theirs, in nats."""
        return {}

    def calibration(self, answers: Tensor) -> Calibration | None:
        """What answers on the test part tell beside their scores; None: the task has nothing of the kind."""
        return None


def _expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise ConfigError(otherwise)


def _told(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    low, high = value.detach().aminmax() if value.numel() else (None, None)
    values = "" if low is None or high is None else f" of values from {float(low):.4g} to {float(high):.4g}"
    return f"a tensor {tuple(value.shape)}{values}"


@dataclass(frozen=True)
class RowLoader:
    """Makes batches from inputs and labels by position."""

    rows: Callable[[Tensor], tuple[Tensor, Tensor]]
    """See `Task.rows`."""
    device: torch.device
    group: Group

    def make(self, item: tuple[int, Tensor]) -> Batch:
        """See `Loader`."""
        _, positions = item
        inputs, labels = self.rows(positions)
        if not len(inputs) == len(labels) == len(positions):
            raise ConfigError(
                f"rows gives {len(inputs)} inputs and {len(labels)} labels for {len(positions)} positions: expected as many"
            )
        part = self.group.part(len(positions))
        counted = labels != IGNORED
        return Batch(
            positions[part],
            send(inputs[part], self.device),
            send(labels[part], self.device),
            [],
            group=self.group,
            size=len(positions),
            tokens=(int(counted[part].sum()), int(counted.sum())),
        )

    def received(self, batch: Batch) -> Batch:
        """See `Loader`."""
        return batch
