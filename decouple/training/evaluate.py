"""What a network answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from decouple.data.images import Split
from decouple.device import send
from decouple.errors import DataError, NotFiniteError
from decouple.torch_state import device_of
from decouple.training.batches import even_batches
from decouple.training.stream import held

BATCH = 500
"""Images evaluated together, in the order of the split (which is random: see `decouple.data.splits`)."""


@torch.no_grad()
def logits(network: nn.Module, split: Split) -> Tensor:
    """(N, C) float32 on the CPU.

    Raises:
        DataError: no images.
        NotFiniteError: an answer is NaN, which argmax would take for the first class.
    """
    if len(split) == 0:
        raise DataError("there are no images to evaluate the network on: the split is empty")
    network.eval()
    device = device_of(network)
    images, _ = held(split, device)
    found = torch.cat([network(send(images[a:b], device)).float() for a, b in even_batches(len(split), BATCH)]).cpu()
    if (broken := found.isnan().any(1)).any():
        raise NotFiniteError(
            f"the network's answer to image {int(broken.nonzero()[0])} of {len(split)} is NaN: check the network and its lr"
        )
    return found


def accuracy(network: nn.Module, split: Split) -> float:
    """Share of the images classified correctly."""
    return float((logits(network, split).argmax(1) == split.labels).float().mean())
