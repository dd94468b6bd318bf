"""The losses of learning from searched targets, and of the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from decouple.data.images import Split
from decouple.networks.stages import Stages


class Targets(Protocol):
    """Searched activations of a split, by position."""

    def check(self, split: Split) -> None:
        """Raise DataError if these are the targets of other images than those of `split`."""
        ...

    def rows(self, positions: Tensor) -> list[Tensor]:
        """By search point: (B, …) targets of the images at `positions`, logits last; on the CPU, any float type."""
        ...


@dataclass(frozen=True)
class Regression:
    """mean over blocks of MSE(H_θ(ℓ), Ĥ(ℓ)) + λ · KL(p̂ ‖ p_φ(· | stop-gradient(H_θ(last)))).

    The body learns from the MSE alone, the head from the KL alone: no classification gradient enters the body, and the
    labels are not used at all. Source: Vegesna and Dahal, arXiv 2509.10973, "Learning".
    """

    targets: Targets
    kl_weight: float = 0.03
    skip: int = 0
    """Blocks without a target, from the front."""

    def __call__(self, network: Stages, images: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        wanted = [rows.to(images.device) for rows in self.targets.rows(positions)]
        body, head = list(network)[:-1], network.stages[-1]
        values, errors = images, []
        for block, stage in enumerate(body):
            values = stage(values)
            if block >= self.skip:
                errors.append(functional.mse_loss(values.float(), wanted[block].float()))
        log_probabilities = functional.log_softmax(head(values.detach()).float(), 1)
        searched = functional.log_softmax(wanted[-1].float(), 1)
        divergence = functional.kl_div(log_probabilities, searched, reduction="batchmean", log_target=True)
        return torch.stack(errors).mean() + self.kl_weight * divergence


@dataclass(frozen=True)
class CrossEntropy:
    """The baseline's loss."""

    def __call__(self, network: Stages, images: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        return functional.cross_entropy(network(images).float(), labels)
