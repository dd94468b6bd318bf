"""Classification of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.data.images import Split
from decouple.errors import ConfigError
from decouple.networks.stages import Stages
from decouple.seeds import derive
from decouple.tasks.base import Teacher
from decouple.tasks.distill import distillation_loss
from decouple.training.stream import Batch, ImageLoader
from decouple.training.team import Team


@dataclass(frozen=True)
class ImageTask:
    """Networks that classify images."""

    train: Split
    augment: str = "none"
    new: Callable[[int], Stages] | None = None
    """Builds a network from a seed."""

    @property
    def examples(self) -> int:
        return len(self.train)

    def loader(self, network: nn.Module, *, precision: str, seed: int, epoch: int, team: Team | None) -> ImageLoader:
        return ImageLoader(
            network,
            self.train,
            augmentation=self.augment,
            precision=precision,
            seed=derive(seed, "epoch", epoch),
            team=team,
        )

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(network(batch.inputs).float(), batch.labels)

    def distilled(self, network: nn.Module, teacher: Teacher, batch: Batch, *, alpha: float, temperature: float) -> Tensor:
        logits = network(batch.inputs).float()
        with torch.no_grad():
            taught = teacher(batch.inputs).float()
        return distillation_loss(logits, taught, batch.labels, alpha=alpha, temperature=temperature)

    def hidden(self, network: nn.Module) -> Sequence[nn.Parameter]:
        output = {id(p) for p in network.stages[-1].parameters()} if isinstance(network, Stages) else set()
        return [p for p in network.parameters() if id(p) not in output]

    def build(self, seed: int) -> nn.Module:
        if self.new is None:
            raise ConfigError(
                "q0.restart = new begins each cycle with a new network: expected a task that builds one; use continue"
            )
        return self.new(seed)
