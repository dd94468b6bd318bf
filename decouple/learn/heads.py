"""Small heads at the earlier blocks, which judge what a block makes of an image long before the network's own head can.

Each is linear, on the means over space. It learns from the labels, beside the network and not through it: its loss leaves the
block alone. What teaches the block is a search around its activations, whose candidates the head scores; the SGD baseline follows
the gradient of the head's cross-entropy instead.

Such a head sees nothing but the means, so the search moves these alone. Its directions span them where a block has no more channels
than there are directions; where it has more, they find a part of the gradient, as those at the last block do.

Sources: Lee et al., "Deeply-supervised nets" (2015), heads at hidden layers; Nøkland and Eidnes, "Training neural networks with local
error signals" (2019); Ren et al., "Scaling forward gradient with local losses" (2023), perturbed activations that local heads judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.config import LiveConfig
from decouple.errors import ConfigError
from decouple.fitness import pooled
from decouple.learn.live import LiveSearch
from decouple.training.stream import Batch


class Heads:
    """Heads at all blocks but the last, where the network's own judges.

    Args:
        weight: of what they teach, beside the last block's.
        search: how candidates are made; None: blocks follow the gradient of the heads' cross-entropy.
    """

    def __init__(self, weight: float, search: LiveConfig | None = None) -> None:
        self.weight, self.search = weight, search
        self._heads: dict[str, Tensor] = {}
        self._searches: dict[str, LiveSearch] = {}

    def __call__(self, points: Sequence[Tensor], classes: int, batch: Batch) -> Tensor:
        """A loss for the blocks that gave `points`, the activations (B, …) at the earlier search points. Each head learns a step.

        Raises:
            ConfigError: there is no earlier block.
        """
        check_heads(self.weight, len(points) + 1)
        with torch.autocast(points[0].device.type, enabled=False):
            losses = [
                self._loss(f"head {block}", pooled(values).flatten(1), classes, batch) for block, values in enumerate(points)
            ]
        return self.weight * torch.stack(losses).sum()

    def _loss(self, name: str, features: Tensor, classes: int, batch: Batch) -> Tensor:
        """Of a block, by what the head called `name` makes of its features (B, F)."""
        seen, known = features.detach(), self._heads.get(name)
        head = _Head(seen.new_zeros(classes, seen.shape[1] + 1) if known is None else known.to(seen))
        self._heads[name] = head.learned(seen, batch)
        if self.search is None:
            return functional.cross_entropy(head(features), batch.labels)
        better = seen + self._search(name, self.search).displacement(head, seen, batch)
        return (features - better).square().sum(1).mean() / 2

    def _search(self, name: str, config: LiveConfig) -> LiveSearch:
        return self._searches.setdefault(name, LiveSearch(config, stream=name))

    def memory(self) -> dict[str, Tensor]:
        """What the heads and their searches have learned, for a checkpoint."""
        guides = {f"{name} {key}": value for name, each in self._searches.items() for key, value in each.memory().items()}
        return self._heads | guides

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Go on with what `memory` gave."""
        self._heads = {name: value for name, value in memory.items() if re.fullmatch(r"head \d+", name)}
        if self.search is not None:
            for name in {*self._searches, *self._heads}:
                self._search(name, self.search).guides = memory.get(f"{name} guides")


def check_heads(weight: float, blocks: int) -> None:
    """Raise ConfigError: the network has no block for a head, of so many before the logits."""
    if weight and blocks < 2:
        raise ConfigError(
            f"heads = {weight:g}: the network has one block before the logits, which its own head judges; cut it at more points, or "
            "leave heads = 0"
        )


class _Head(nn.Module):
    """Logits of features (B, F)."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights
        """(C, F + 1), the bias last."""

    def forward(self, features: Tensor) -> Tensor:
        return functional.linear(features, self.weights[:, :-1], self.weights[:, -1])

    @torch.no_grad()
    def learned(self, features: Tensor, batch: Batch) -> Tensor:
        """The weights after a step along the gradient of the cross-entropy, as long as its curvature allows: that is at most half
        the mean of |(f, 1)|² (Böhning, "Multinomial logistic regression algorithm", 1992). So no rate has to suit the features."""
        given = functional.pad(features, (0, 1), value=1.0)
        wrong = self(features).softmax(1) - functional.one_hot(batch.labels, len(self.weights))
        slope, squares = batch.total(wrong.T @ given), batch.total(given.square().sum())
        return self.weights - 2 * slope / squares
