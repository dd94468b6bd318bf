"""One epoch of gradient steps: the code path that searched targets, SGD and q0 share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from decouple import device as devices
from decouple.data.images import Split, as_float
from decouple.errors import NotFiniteError
from decouple.networks.stages import Stages
from decouple.seeds import generator
from decouple.training.augment import augment


class Objective(Protocol):
    """A loss of a network on a batch."""

    def __call__(self, network: Stages, images: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        """The mean loss.

        Args:
            positions: (B,) places of the images in their split, by which cached targets are found.
        """
        ...


def train_epoch(
    network: Stages,
    optimizer: torch.optim.Optimizer,
    split: Split,
    batches: Sequence[Tensor],
    objective: Objective,
    *,
    before_step: Callable[[int], None],
    clip: float,
    augmentation: str,
    precision: str,
    seed: int,
    what: str,
) -> float:
    """Take a step for each batch; returns the mean loss over the images.

    Args:
        before_step: called with the step's number in the epoch; sets the rates.
        clip: gradient norm above which the gradient is scaled down; 0: off.
        seed: of this epoch's augmentation.
        what: the training's name, for the message.

    Raises:
        NotFiniteError: at the step where the loss or the gradient became NaN or infinite.
    """
    network.train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    device = parameters[0].device
    stream = generator(seed, "augment")
    total = torch.zeros((), device=device)
    for step, positions in enumerate(batches):
        before_step(step)
        images = augment(as_float(split.images[positions].to(device)), augmentation, stream)
        labels = split.labels[positions].to(device)
        with devices.autocast(precision, device):
            loss = objective(network, images, labels, positions)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip or torch.inf)
        if not torch.isfinite(norm):
            raise NotFiniteError(
                f"{what}: the {'gradient' if torch.isfinite(loss) else 'loss'} is not finite at step {step + 1} of the epoch; "
                "lower lr, raise network.eps or set clip"
            )
        optimizer.step()
        total += loss.detach() * len(positions)
    return float(total) / sum(len(positions) for positions in batches)
