"""What is not in the package, for `benchmarks.terms`: judges that never saw an image, and stored targets that fade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.solutions import PRECISION, Seed
from decouple.config import SgdConfig
from decouple.fitness import Agreement
from decouple.learn import CrossEntropy, fit
from decouple.learn.objective import Regression
from decouple.networks import Stages
from decouple.seeds import generator
from decouple.training.evaluate import logits
from decouple.training.stream import Batch


@dataclass
class Fading:
    """Learning whose stored targets have the less weight the later the step, and none at the last."""

    inner: Regression
    steps: int
    taken: int = 0

    def fetch(self, positions: Tensor) -> Sequence[Tensor]:
        """See `Regression`."""
        return self.inner.fetch(positions)

    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        weight = self.inner.target_weight * (1 - self.taken / self.steps)
        self.taken += 1
        return replace(self.inner, target_weight=weight)(network, batch)


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
