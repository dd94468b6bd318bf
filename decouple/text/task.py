"""Next-token prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.config import GptConfig
from decouple.tasks.base import Teacher
from decouple.tasks.distill import IGNORED, distillation_loss
from decouple.text.gpt import Gpt
from decouple.text.stream import Part, Stream
from decouple.torch_state import device_of
from decouple.training.stream import Batch
from decouple.training.team import Team


@dataclass(frozen=True)
class TextTask:
    """Networks that predict the next token of a text."""

    train: Part
    network: GptConfig
    vocabulary: int

    @property
    def examples(self) -> int:
        return self.train.rows(self.network.context)

    def loader(self, network: nn.Module, *, precision: str, seed: int, epoch: int, team: Team | None) -> TokenLoader:
        stream = self.train.stream(seed=seed, epoch=epoch)
        return TokenLoader(stream, self.network.context, device_of(network), team)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        logits = network(batch.inputs).float()
        return functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)

    def distilled(self, network: nn.Module, teacher: Teacher, batch: Batch, *, alpha: float, temperature: float) -> Tensor:
        logits = network(batch.inputs)
        with torch.no_grad():
            taught = teacher(batch.inputs)
        return distillation_loss(logits, taught, batch.labels, alpha=alpha, temperature=temperature)

    def hidden(self, network: nn.Module) -> Sequence[nn.Parameter]:
        assert isinstance(network, Gpt)
        return list(network.blocks.parameters())

    def build(self, seed: int) -> nn.Module:
        return Gpt(self.network, vocabulary=self.vocabulary, seed=seed)


@dataclass(frozen=True)
class TokenLoader:
    """Makes batches of rows of a stream of tokens."""

    stream: Stream
    context: int
    device: torch.device
    team: Team | None

    def make(self, item: tuple[int, Tensor]) -> Batch:
        """See `Loader`."""
        _, positions = item
        inputs, targets = self.stream.batch(positions, self.context)
        by_all = int((targets != IGNORED).sum())
        part = slice(None) if self.team is None else self.team.part(len(positions))
        inputs, targets = inputs[part], targets[part]
        counted = int((targets != IGNORED).sum())
        return Batch(
            positions[part],
            inputs.to(self.device),
            targets.to(self.device),
            [],
            team=self.team,
            size=len(positions),
            tokens=(counted, by_all),
        )

    def received(self, batch: Batch) -> Batch:
        """See `Loader`."""
        return batch
