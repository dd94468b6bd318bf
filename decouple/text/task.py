"""Next-token prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from decouple import device as devices
from decouple.config import GptConfig
from decouple.errors import expect
from decouple.tasks.base import RowLoader, Task
from decouple.tasks.distill import IGNORED
from decouple.text.corpus import Corpus
from decouple.text.gpt import Gpt
from decouple.torch_state import device_of, evaluated, torch_defaults
from decouple.training.batches import even_batches
from decouple.training.processes import Group

BATCH = 64
"""Rows evaluated together."""


@dataclass(frozen=True)
class TextTask(Task):
    """Networks that predict the next token of a text."""

    corpus: Corpus
    network: GptConfig

    @property
    def examples(self) -> int:
        return self.corpus.train.rows(self.network.context)

    @property
    def digest(self) -> str:
        return self.corpus.digest

    def loader(self, network: nn.Module, *, precision: str, seed: int, epoch: int, group: Group) -> RowLoader:
        stream = self.corpus.train.stream(seed=seed, epoch=epoch)
        return RowLoader(lambda rows: stream.batch(rows, self.network.context), device_of(network), group)

    @torch_defaults()
    @torch.no_grad()
    def predict(self, network: nn.Module, part: str, *, precision: str = "float32") -> Tensor:
        """(N,) float32: the probability of each of the part's N tokens.

        The documents come in the order of the text, in rows of the network's context: a token is predicted from what its row
        holds before it.
        """
        tokens, context, device = getattr(self.corpus, part), self.network.context, device_of(network)
        stream, found = tokens.stream(), []
        with evaluated(network):
            for first, last in even_batches(tokens.rows(context), BATCH):
                inputs, targets = stream.batch(torch.arange(first, last), context)
                with devices.autocast(precision, device):
                    logits = network(inputs.to(device))
                counted = (targets != IGNORED).to(device)
                picked = logits.float().log_softmax(-1)[counted].gather(-1, targets.to(device)[counted][:, None])
                found.append(picked.squeeze(-1).exp().cpu())
        return torch.cat(found)

    def muon_parameters(self, network: nn.Module) -> Sequence[nn.Parameter]:
        return list(expect(network, Gpt, "network").blocks.parameters())

    def build(self, seed: int) -> Gpt:
        return Gpt(self.network, vocabulary=self.corpus.vocabulary, seed=seed)

    def samples(self, values: Tensor) -> Tensor:
        """Of documents: the tokens of one are alike."""
        lengths = torch.from_numpy(self.corpus.test.lengths)
        documents = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        sums = values.new_zeros(len(lengths)).index_add(0, documents, values)
        return sums * (len(lengths) / len(values))

    def scores(self, answers: Tensor, nll: float) -> dict[str, float]:
        return {"bits_per_byte": self.corpus.test.bits_per_byte(nll)}
