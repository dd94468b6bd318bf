"""Further judges of representations, for `benchmarks.terms`: heads at the earlier blocks, networks that never saw an image, and
stored targets that fade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.solutions import PRECISION, Seed
from decouple.config import LiveConfig, SgdConfig
from decouple.fitness import Agreement
from decouple.learn import CrossEntropy, fit
from decouple.learn.live import LiveSearch
from decouple.learn.objective import Regression
from decouple.networks import Stages
from decouple.seeds import generator
from decouple.training.evaluate import logits
from decouple.training.stream import Batch


@dataclass
class Inner:
    """An objective around another one."""

    inner: Any
    """`CrossEntropy` or `Regression`."""

    def fetch(self, positions: Tensor) -> Sequence[Tensor]:
        fetched: Sequence[Tensor] = self.inner.fetch(positions) if isinstance(self.inner, Regression) else []
        return fetched


@dataclass
class Fading(Inner):
    """Learning whose stored targets have the less weight the later the step, and none at the last."""

    steps: int
    taken: int = 0

    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        weight = self.inner.target_weight * (1 - self.taken / self.steps)
        self.taken += 1
        loss: Tensor = replace(self.inner, target_weight=weight)(network, batch)
        return loss


@dataclass
class EveryBlock(Inner):
    """With a small head at each block but the last: a linear one on means over space, which learns from the labels and judges.

    Learning with live search displaces the block's activations by what a search finds with the head as judge; the baseline follows the
    gradient of the head's cross-entropy. The heads learn by SGD of their own, and leave the blocks alone.
    """

    weight: float
    classes: int
    lr: float = 0.1
    _heads: list[nn.Module] = field(default_factory=list)
    _searches: list[LiveSearch] = field(default_factory=list)

    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        shown: dict[int, Tensor] = {}
        blocks = list(network.stages)[:-2]
        hooks = [
            block.register_forward_hook(lambda module, given, found, at=at: shown.update({at: found}))
            for at, block in enumerate(blocks)
        ]
        try:
            loss: Tensor = self.inner(network, batch)
        finally:
            for hook in hooks:
                hook.remove()
        for at, values in shown.items():
            if at == len(self._heads):
                self._begin(values)
            loss = loss + self._judged(at, values, batch)
        return loss

    def _begin(self, values: Tensor) -> None:
        linear = nn.Linear(values.shape[1], self.classes)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).to(values.device)
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
        self._heads.append(head)
        self._searches.append(LiveSearch(LiveConfig()))

    def _judged(self, at: int, values: Tensor, batch: Batch) -> Tensor:
        head = self._heads[at]
        with torch.enable_grad(), torch.autocast(values.device.type, enabled=False):
            of_head = functional.cross_entropy(head(values.detach().float()), batch.labels)
            gradients = torch.autograd.grad(of_head, list(head.parameters()))
            if isinstance(self.inner, Regression):
                better = values.detach().float() + self._searches[at].displacement(head, values.detach(), batch)
                squares = functional.mse_loss(values.float(), better) * values[0].numel()
                found = self.weight / 2 * squares
            else:
                frozen = {name: value.detach().clone() for name, value in head.named_parameters()}
                says: Tensor = torch.func.functional_call(head, frozen, (values.float(),))
                found = self.weight * functional.cross_entropy(says, batch.labels)
            with torch.no_grad():
                for parameter, gradient in zip(head.parameters(), gradients, strict=True):
                    parameter.sub_(self.lr * gradient)
        return found


def out_of_fold(of_seed: Seed, folds: int) -> Agreement:
    """What networks say of the training images that they were not trained on: each learned, by SGD, from the images of the other
    folds, with the settings and as many epochs as the networks that they judge."""
    train = of_seed.data.train
    order = torch.randperm(len(train), generator=generator(of_seed.seed, "folds"))
    says = torch.zeros(len(train), of_seed.data.num_classes)
    for number in range(folds):
        held, others = order[number::folds], torch.cat([order[fold::folds] for fold in range(folds) if fold != number])
        network = of_seed.network(5000 + folds * of_seed.seed + number)
        options: dict[str, Any] = {"seed": of_seed.seed + 1000 + number, "precision": PRECISION}
        settings = SgdConfig(**of_seed.training.options)
        fit(network, train.subset(others), of_seed.data.validation, CrossEntropy(), settings, **options)
        says[held] = logits(network, train.subset(held)).cpu().float().softmax(1)
    return Agreement(says)
