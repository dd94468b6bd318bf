"""What a network answers."""

from __future__ import annotations

import torch
from torch import Tensor

from decouple.data.images import Split
from decouple.networks.stages import Stages
from decouple.training.batches import even_batches

BATCH = 500
"""Images evaluated together, in the order of the split (which is random: see `decouple.data.splits`)."""


@torch.no_grad()
def logits(network: Stages, split: Split) -> Tensor:
    """(N, C) float32 on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    parts = [network(split.images[a:b].to(device)).float().cpu() for a, b in even_batches(len(split), BATCH)]
    return torch.cat(parts)


def accuracy(network: Stages, split: Split) -> float:
    """Share of the images classified correctly."""
    return float((logits(network, split).argmax(1) == split.labels).float().mean())
